//===- QuantizeCommand.cpp - Quantize a checkpoint ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/QuantizeCommand.h"

#include "compiler/ptq/QuantizeCheckpoint.h"
#include "tools/common/Progress.h"

#include <chrono>
#include <nlohmann/json.hpp>

namespace retort::tools {
namespace {

struct QuantizeFlags {
  ptq::QuantizeOptions options;
  std::string weights = "int4", method = "gptq";
  int64_t groupSize = 128;
  bool noResume = false, json = false;
};

std::string toJson(const ptq::QuantizeReport &report,
                   const QuantizeFlags &flags, double seconds) {
  nlohmann::ordered_json json = {
      {"output", flags.options.output},
      {"weights", flags.weights},
      {"method", flags.method},
      {"matrices", report.matrices},
      {"calibrated", report.calibrated},
      {"scaled", report.scaled},
      {"unreached", report.unreached},
      {"calibration_tokens", report.calibrationTokens},
      {"resumed_layers", report.resumedLayers},
      {"source_bytes", report.sourceBytes},
      {"bytes", report.bytes},
      {"seconds", seconds}};
  return json.dump(2, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

std::string toText(const ptq::QuantizeReport &report,
                   const QuantizeFlags &flags, double seconds) {
  auto megabytes = [](uint64_t bytes) {
    return fixed(static_cast<double>(bytes) / 1e6, 1) + " MB";
  };
  std::string text = flags.options.output + ": " + megabytes(report.bytes) +
                     " of " + megabytes(report.sourceBytes) + ", " +
                     std::to_string(report.matrices) + " matrices in " +
                     flags.weights + " by " + flags.method;
  if (report.calibrationTokens > 0)
    text += " on " + std::to_string(report.calibrationTokens) + " tokens";
  text += ", " + fixed(seconds, 1) + " s\n";
  if (report.unreached.empty())
    return text;
  constexpr size_t kShown = 8;
  text += std::to_string(report.unreached.size()) +
          " matrices were rounded to nearest, as no token of the calibration "
          "text reaches them:";
  for (size_t i = 0; i < std::min(kShown, report.unreached.size()); ++i)
    text += " " + report.unreached[i];
  return text + (report.unreached.size() > kShown ? " ...\n" : "\n");
}

Status quantize(QuantizeFlags &flags) {
  ptq::QuantizeOptions &options = flags.options;
  RETORT_ASSIGN_OR_RETURN(options.form,
                          ptq::parseGridForm(flags.weights, flags.groupSize));
  RETORT_ASSIGN_OR_RETURN(options.method,
                          ptq::parseQuantizeMethod(flags.method));
  options.resume = !flags.noResume;
  CancelFlag cancel;
  options.cancel = cancel.get();
  Progress progress(stderr, Progress::Unit::Matrices);
  options.progress = [&](const std::string &step, uint64_t done,
                         uint64_t total) {
    progress.update(step, done, total);
  };
  options.note = [&](const std::string &note) {
    progress.line("note: " + note);
  };
  auto start = std::chrono::steady_clock::now();
  Result<ptq::QuantizeReport> report = ptq::quantizeCheckpoint(options);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return writeOut(flags.json ? toJson(*report, flags, seconds)
                             : toText(*report, flags, seconds));
}

} // namespace

Action addQuantizeCommand(CLI::App &command) {
  auto flags = std::make_shared<QuantizeFlags>();
  ptq::QuantizeOptions &o = flags->options;
  command
      .add_option("checkpoint", o.checkpoint,
                  "directory in Hugging Face layout")
      ->required();
  command.add_option("-o,--output", o.output, "directory to write")->required();
  command
      .add_option("--weights", flags->weights,
                  "how matrices of layers are stored: int4 or int4-zero-points "
                  "(in groups), int8 or fp8 (a scale per row)")
      ->check(CLI::IsMember({"int4", "int4-zero-points", "int8", "fp8"}))
      ->capture_default_str();
  command
      .add_option("--group-size", flags->groupSize,
                  "inputs that share a scale of int4")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      .add_option("--method", flags->method,
                  "rtn: to the nearest value; gptq: errors are made up for by "
                  "later columns, as calibration text weighs them; awq: inputs "
                  "are scaled, and what makes them takes that up; awq+gptq")
      ->check(CLI::IsMember({"rtn", "gptq", "awq", "awq+gptq"}))
      ->capture_default_str();
  command.add_option("--calibrate", o.calibration,
                     "text, or JSONL with a 'prompt' or 'text' per line; "
                     "default: a text that ships with Retort");
  command
      .add_option("--calibration-tokens", o.calibrationTokens,
                  "tokens of it that are used, at most")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command
      .add_option("--max-ram", o.maxRam,
                  "resident memory to stay below, e.g. 2GB (default 3GB)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  command.add_option("--threads", o.threads, "default: all processors")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--no-resume", flags->noResume,
                   "start anew even if an interrupted run has left "
                   "OUTPUT.partial");
  command.add_flag("--json", flags->json, "report in JSON");
  return [flags] { return quantize(*flags); };
}

} // namespace retort::tools
