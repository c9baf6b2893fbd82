//===- retort-run.cpp - Runs a compiled model -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Artifact.h"
#include "tools/common/Commands.h"

using namespace retort;

/// This executable, if `retort compile --standalone` has put a model behind it.
static std::string carriedModel() {
  const char *self = "/proc/self/exe";
  auto file = MappedFile::open(self);
  if (!file.isOk())
    return "";
  auto carried = findStandalone(file->bytes());
  // A footer that lies is reported when the model is opened.
  return !carried.isOk() || !carried->empty() ? self : "";
}

int main(int argc, char **argv) {
  std::string carried = carriedModel();
  // As a word in front, since `run` takes any word for a model.
  if (argc > 1 && std::string_view(argv[1]) == "score") {
    CLI::App app("Measures a model that retort has compiled",
                 std::string(argv[0]) + " score");
    tools::Action score = tools::addScoreCommand(app, {}, carried);
    return tools::runTool(app, argc - 1, argv + 1, score);
  }
  if (argc > 1 && std::string_view(argv[1]) == "check") {
    CLI::App app("Proves a model that retort has compiled on this machine",
                 std::string(argv[0]) + " check");
    tools::Action check = tools::addCheckCommand(app);
    return tools::runTool(app, argc - 1, argv + 1, check);
  }
  CLI::App app("Runs a model that retort has compiled");
  app.footer("With 'score' in front of the arguments the model is measured, "
             "with 'check' it is proved on this machine: see score --help, "
             "check --help.");
  tools::Action run = tools::addRunCommand(app, carried);
  return tools::runTool(app, argc, argv, run);
}
