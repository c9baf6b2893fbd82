//===- SynthCommand.cpp - retort synth --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/SynthCommand.h"

#include "compiler/synth/Synth.h"
#include "tools/common/Progress.h"

#include <atomic>
#include <chrono>

namespace retort::tools {
namespace {

struct SynthFlags {
  synth::SynthOptions options;
  int64_t layers = 0;
  std::string dtype;
};

Status runSynth(SynthFlags &flags) {
  synth::SynthOptions &options = flags.options;
  if (flags.layers > 0)
    options.layers = flags.layers;
  if (!flags.dtype.empty())
    options.dtype = flags.dtype == "fp8" ? DType::F8E4M3 : DType::BF16;
  CancelFlag cancel;
  options.cancel = cancel.get();
  Progress progress(stderr);
  options.progress = [&](uint64_t done, uint64_t total) {
    progress.update("writing", done, total);
  };
  auto start = std::chrono::steady_clock::now();
  Result<synth::SynthReport> report = synth::synthesize(options);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  auto bytes = static_cast<double>(report->bytes);
  return writeOut(options.output + ": " +
                  fixed(static_cast<double>(report->parameters) / 1e9, 2) +
                  " billion parameters, " + fixed(bytes / 1e6, 1) + " MB in " +
                  std::to_string(report->shards) + " files, " +
                  fixed(seconds, 1) + " s (" + fixed(bytes / 1e6 / seconds, 0) +
                  " MB/s)\n");
}

} // namespace

Action addSynthCommand(CLI::App &command) {
  auto flags = std::make_shared<SynthFlags>();
  synth::SynthOptions &o = flags->options;
  command
      .add_option("config", o.source,
                  "directory with a config.json, and tokenizer files if they "
                  "are to be copied")
      ->required();
  command.add_option("-o,--output", o.output, "directory to write")->required();
  command
      .add_option("--layers", flags->layers,
                  "number of layers; default: the configuration's")
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", o.seed, "the same seed gives the same bytes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--dtype", flags->dtype,
                  "fp8 (with block scales) or bf16; default: as the "
                  "configuration says")
      ->check(CLI::IsMember({"fp8", "bf16"}));
  command.add_flag("--mtp", o.mtp, "write the multi-token-prediction layer");
  command.add_option("--threads", o.threads, "default: all processors")
      ->check(CLI::Range(1, 1024));
  return [flags] { return runSynth(*flags); };
}

} // namespace retort::tools
