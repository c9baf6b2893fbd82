//===- CheckCommand.cpp - Is an artifact whole and right? -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/ModelText.h"
#include "runtime/engine/SelfTest.h"
#include "runtime/loader/WeightStamps.h"
#include "tools/common/Commands.h"

#include <nlohmann/json.hpp>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

struct CheckOptions {
  std::string model, target;
  uint32_t threads = 0;
  bool json = false;
};

Status checkText(const Artifact &artifact) {
  for (const abi::Section *section : *artifact.index().sections()) {
    if (section->kind() != abi::SectionKind::Text &&
        section->kind() != abi::SectionKind::Data)
      continue;
    RETORT_ASSIGN_OR_RETURN(std::string ignored,
                            artifact.text(section->name()->string_view()));
  }
  RETORT_ASSIGN_OR_RETURN(ModelText text, ModelText::read(artifact));
  RETORT_ASSIGN_OR_RETURN(GenerationDefaults defaults,
                          generationDefaults(artifact));
  return Status::ok();
}

Status check(const CheckOptions &o) {
  OpenOptions open;
  open.weights = WeightCheck::Always;
  open.stampFolder = defaultStampFolder();
  open.threads = o.threads;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(o.model, open));
  const abi::Index &index = artifact->index();
  Json out = {{"sections", index.sections()->size()},
              {"weights", index.program()->weights()->size()},
              {"bytes", artifact->storedBytes()}};
  std::string text = "hashes of " + std::to_string(index.sections()->size()) +
                     " sections and " +
                     std::to_string(index.program()->weights()->size()) +
                     " weights are right\n";
  RETORT_RETURN_IF_ERROR(checkText(*artifact));
  text += "tokenizer, template and configuration are readable\n";
  RETORT_ASSIGN_OR_RETURN(auto model, Model::load(artifact, o.target));
  out["target"] = model->code().target();
  text += "code for " + model->code().target() + " loads on this machine\n";
  if (!index.self_test()) {
    out["self_test"] = nullptr;
    text += "no self test is stored\n";
  } else {
    RETORT_ASSIGN_OR_RETURN(SelfTestResult result,
                            runSelfTest(model, o.threads));
    RETORT_RETURN_IF_ERROR(
        selfTestStatus(result).withContext(artifact->path()));
    out["self_test"] = {{"greedy", result.greedy},
                        {"relative_error", result.relativeError},
                        {"reference", index.self_test()->reference()->str()}};
    char line[160];
    std::snprintf(
        line, sizeof line,
        "self test passed: token %d, relative error %.2e against %s\n",
        result.greedy, result.relativeError,
        index.self_test()->reference()->c_str());
    text += line;
  }
  return writeOut(o.json ? out.dump(2) + "\n" : text);
}

} // namespace

Action addCheckCommand(CLI::App &command) {
  auto o = std::make_shared<CheckOptions>();
  command.add_option("MODEL", o->model, "Compiled model")->required();
  command
      .add_option("--threads", o->threads, "Threads; default: all processors")
      ->check(CLI::Range(1, INT32_MAX));
  command.add_option("--code", o->target, "Test the code for this target");
  command.add_flag("--json", o->json, "Print JSON");
  return [o] { return check(*o); };
}

} // namespace retort::tools
