//===- retort.cpp - The compiler's command line -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Commands.h"
#include "tools/retort/AuditCommand.h"
#include "tools/retort/BisectCommand.h"
#include "tools/retort/CompileCommand.h"
#include "tools/retort/PlanCommand.h"
#include "tools/retort/QuantizeCommand.h"
#include "tools/retort/ScoreCheckpoint.h"
#include "tools/retort/SynthCommand.h"

using namespace retort;

int main(int argc, char **argv) {
  CLI::App app("Compiles language-model checkpoints ahead of time and runs "
               "them");
  app.require_subcommand(1);
  tools::Action action;
  auto add = [&](const char *name, const char *what,
                 const std::function<tools::Action(CLI::App &)> &declare) {
    CLI::App *command = app.add_subcommand(name, what);
    tools::Action run = declare(*command);
    command->callback([&action, run] { action = run; });
  };
  add("compile", "compile a checkpoint into one file",
      tools::addCompileCommand);
  add("plan", "predict size, memory and speed of a configuration",
      tools::addPlanCommand);
  add("quantize", "write a quantized checkpoint that other engines load too",
      tools::addQuantizeCommand);
  add("synth", "write a random checkpoint of a configuration",
      tools::addSynthCommand);
  add("run", "generate text, or compute logits",
      [](CLI::App &command) { return tools::addRunCommand(command); });
  add("inspect", "show what an artifact holds", tools::addInspectCommand);
  add("tokenize", "text to ids and back", tools::addTokenizeCommand);
  add("bench", "measure speed", tools::addBenchCommand);
  add("score", "measure loss, divergence from a teacher, solved problems",
      [](CLI::App &command) {
        return tools::addScoreCommand(command, tools::openCheckpoint);
      });
  add("check", "prove an artifact on this machine", tools::addCheckCommand);
  add("bisect", "find where two models part: layer, op and token",
      tools::addBisectCommand);
  add("audit", "prove that an artifact's weights come from a checkpoint",
      tools::addAuditCommand);
  return tools::runTool(app, argc, argv, [&] { return action(); });
}
