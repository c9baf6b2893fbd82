//===- CompileCommand.cpp - retort compile ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/CompileCommand.h"

#include "compiler/pipelines/Compile.h"
#include "compiler/quantize/WeightChoice.h"
#include "runtime/abi/Format.h"
#include "runtime/support/File.h"
#include "tools/common/Progress.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

namespace retort::tools {
namespace {

struct CompileFlags {
  CompileOptions options;
  bool standalone = false;
  bool json = false;
  bool noResume = false;
  int64_t maxContext = 0;
  std::string plan; ///< a file
  CLI::Option *weights = nullptr, *groupSize = nullptr;
};

constexpr size_t kMaxPlanBytes = size_t(256) << 20;

std::string readableBytes(uint64_t bytes) {
  constexpr double kMega = 1e6;
  return bytes < 1'000'000 ? fixed(bytes / 1e3, 1) + " kB"
                           : fixed(bytes / kMega, 1) + " MB";
}

/// The runtime that stands beside this executable.
Result<std::string> findRuntime() {
  std::error_code error;
  auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  auto runtime = self.parent_path() / "retort-run";
  if (!error && std::filesystem::exists(runtime, error))
    return runtime.string();
  return Status::error(Code::NotFound,
                       "--standalone: expected retort-run beside this "
                       "executable, at " +
                           runtime.string());
}

std::string toJson(const CompileReport &report, const CompileOptions &options) {
  nlohmann::ordered_json json = {
      {"output", options.output},
      {"weights", options.plan ? "plan" : options.weights},
      {"kv", report.kv},
      {"targets", report.targets},
      {"kernels", report.kernels},
      {"file_bytes", report.fileBytes},
      {"parts", report.parts},
      {"weight_bytes", report.weightBytes},
      {"weights_stored", !options.withoutWeights},
      {"code_bytes", report.codeBytes},
      {"checkpoint_bytes", report.checkpointBytes},
      {"compile_seconds", report.compileSeconds},
      {"pack_seconds", report.packSeconds},
      {"total_seconds", report.totalSeconds},
  };
  if (report.usesIntegers)
    json["group_size"] = options.groupSize;
  if (report.tune)
    json["tune"] = {{"kernels", report.tune->kernels},
                    {"timed", report.tune->timed},
                    {"changed", report.tune->changed},
                    {"seconds", report.tune->seconds}};
  if (report.verify) {
    json["verify"] = {{"layers", report.verify->layers},
                      {"logits", report.verify->logits},
                      {"plain", report.verify->plain},
                      {"encoding", report.verify->encoding},
                      {"same_greedy", report.verify->sameGreedy}};
    if (report.verify->draft)
      json["verify"]["draft"] = *report.verify->draft;
    if (report.verify->sameExperts)
      json["verify"]["same_experts"] = *report.verify->sameExperts;
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

std::string toText(const CompileReport &report, const CompileOptions &options) {
  std::string targets;
  for (const std::string &target : report.targets)
    targets += (targets.empty() ? "" : ", ") + target;
  std::string parts = report.parts == 0
                          ? ""
                          : " with " + std::to_string(report.parts) + " parts";
  std::string text =
      options.output + ": " + readableBytes(report.fileBytes) + parts +
      ", weights " + (options.plan ? "by plan" : options.weights) +
      ", caches " + report.kv + ", " + std::to_string(report.kernels) +
      " kernels for " + targets + "\n";
  if (report.tune)
    text += "tuned in " + fixed(report.tune->seconds, 1) + " s: of " +
            std::to_string(report.tune->kernels) + " kernels " +
            std::to_string(report.tune->timed) + " timed, " +
            std::to_string(report.tune->changed) +
            " with other tiles than the table's\n";
  if (options.withoutWeights)
    return text + "compiled in " + fixed(report.totalSeconds, 1) +
           " s without weights, which would take " +
           readableBytes(report.weightBytes) + "\n";
  text += "compiled in " + fixed(report.compileSeconds, 1) + " s, packed " +
          readableBytes(report.checkpointBytes) + " in " +
          fixed(report.packSeconds, 1) + " s\n";
  if (report.verify)
    text += "verified: compiled code is within " +
            fixed(report.verify->logits * 1e6, 2) +
            "e-6 of the reference interpreter (relative RMS of the logits; " +
            fixed(report.verify->plain, 4) +
            " with unrounded inputs), "
            "the encoding within " +
            fixed(report.verify->encoding, 4) + " of the checkpoint\n";
  return text;
}

Status compile(CompileFlags &flags) {
  CompileOptions &options = flags.options;
  if (flags.maxContext != 0)
    options.maxContext = flags.maxContext;
  if (!options.dumpDir.empty() && options.dumpIr.empty())
    throw UsageError("--dump-dir needs --dump-ir");
  if (options.withoutWeights && (options.verify || flags.standalone))
    throw UsageError("--no-weights excludes --verify and --standalone");
  if (options.partBytes != 0 && (options.withoutWeights || flags.standalone))
    throw UsageError("--split excludes --no-weights and --standalone");
  if (!flags.plan.empty() && (*flags.weights || *flags.groupSize))
    throw UsageError("--plan excludes --weights and --group-size");
  if (!flags.plan.empty()) {
    RETORT_ASSIGN_OR_RETURN(std::string text,
                            readFile(flags.plan, kMaxPlanBytes));
    Result<WeightPlan> plan = parseWeightPlan(text);
    if (!plan)
      return plan.takeStatus().withContext(flags.plan);
    options.plan = std::move(*plan);
    options.planName = flags.plan;
  }
  options.resume = !flags.noResume;
  if (flags.standalone) {
    RETORT_ASSIGN_OR_RETURN(options.standaloneRuntime, findRuntime());
  }
  CancelFlag cancel;
  options.cancel = cancel.get();
  Progress progress(stderr);
  options.progress = [&](const std::string &step, uint64_t done,
                         uint64_t total) {
    progress.update(step, done, total);
  };
  options.note = [&](const std::string &note) {
    progress.line("note: " + note);
  };
  Result<CompileReport> report = compileCheckpoint(options);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  return writeOut(flags.json ? toJson(*report, options)
                             : toText(*report, options));
}

} // namespace

Action addCompileCommand(CLI::App &command) {
  auto flags = std::make_shared<CompileFlags>();
  CompileOptions &o = flags->options;
  command
      .add_option("checkpoint", o.checkpoint,
                  "directory in Hugging Face layout")
      ->required();
  command.add_option("-o,--output", o.output, "file to write")->required();
  flags->weights =
      command
          .add_option("--weights", o.weights,
                      "how matrices are stored: keep (as the checkpoint does), "
                      "f32, f16, bf16, int8, int6, int5, int4, nf4, int3 or "
                      "int2, then CLASS=ENCODING for attention, experts, "
                      "dense, embedding or head, e.g. "
                      "int4,attention=int8")
          ->check([](const std::string &text) {
            Result<WeightChoice> choice = parseWeightChoice(text);
            return choice.isOk() ? std::string() : choice.status().message();
          })
          ->capture_default_str();
  flags->groupSize =
      command
          .add_option("--group-size", o.groupSize, "inputs that share a scale")
          ->check(CLI::IsMember({32, 64, 128}))
          ->capture_default_str();
  command.add_option("--plan", flags->plan,
                     "file that says for every matrix how it is stored, as "
                     "--save-plan writes it");
  command
      .add_option("--kv", o.kv,
                  "what key-value caches hold: f32, f16, bf16, int8, or auto: "
                  "f32 if no matrix is rounded, else f16")
      ->check(CLI::IsMember({"auto", "f32", "f16", "bf16", "int8"}))
      ->capture_default_str();
  command
      .add_option("--activations", o.activations,
                  "what integer weights are multiplied with: f32, int "
                  "(rounded to integers, which is faster), or auto: f32 if no "
                  "matrix is rounded, else int")
      ->check(CLI::IsMember({"auto", "f32", "int"}))
      ->capture_default_str();
  command
      .add_option("--target", o.targets,
                  "CPUs to generate code for: x86-64-v3, x86-64-v4, "
                  "x86-64-amx, aarch64, aarch64-i8mm; default: what this "
                  "machine has")
      ->delimiter(',');
  command
      .add_option("--max-context", flags->maxContext,
                  "positions that a session may use; default: the "
                  "checkpoint's max_position_embeddings")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--max-ram", o.maxRam,
                  "resident memory to stay below, e.g. 512MB or 2GB "
                  "(default 2GB)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  command.add_option("--threads", o.threads, "default: all processors")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--no-weights", o.withoutWeights,
                   "program and code from config.json alone: for inspect");
  auto *tune =
      command.add_flag("--tune", o.tune,
                       "time tile shapes on this machine and take the fastest");
  command
      .add_option("--tune-cache", o.tuningCache,
                  "what --tune has found (default: retort/tuning.json in "
                  "XDG_CACHE_HOME or ~/.cache)")
      ->needs(tune);
  command.add_flag("--verify", o.verify,
                   "compare with the reference interpreter, layer by layer");
  command
      .add_option("--dump-ir", o.dumpIr,
                  "stages whose IR is written: import, quantize, fuse, plan, "
                  "lower, asm, or all")
      ->delimiter(',');
  command.add_option("--dump-dir", o.dumpDir,
                     "directory for --dump-ir (default: the current one)");
  command.add_flag("--standalone", flags->standalone,
                   "write an executable that holds runtime and model");
  command
      .add_option("--split", o.partBytes,
                  "put the weights into files of at most this size beside the "
                  "output, e.g. 4GB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(2 * abi::kPartAlignment, uint64_t(1) << 62));
  command.add_flag("--no-resume", flags->noResume,
                   "start anew even if an interrupted compile has left "
                   "OUTPUT.partial");
  command.add_flag("--json", flags->json, "report in JSON");
  return [flags] { return compile(*flags); };
}

} // namespace retort::tools
