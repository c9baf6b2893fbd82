//===- ScoreCommand.cpp - How good a model is -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/ScoreOptions.h"

#include <cmath>
#include <filesystem>

namespace retort::tools {
namespace {

void checkUsage(const ScoreOptions &o) {
  bool text = !o.texts.empty() || o.tokens;
  if (!o.texts.empty() && o.tokens)
    throw UsageError("--text excludes --tokens");
  if (!o.students.empty()) {
    if (!o.model.empty())
      throw UsageError("--students stands in place of MODEL");
    if (o.against.empty() || !o.suite)
      throw UsageError("--students needs --teacher and --suite");
    if (o.saveTeacher)
      throw UsageError("--students excludes --save-teacher");
  } else if (o.model.empty()) {
    throw UsageError("expected MODEL or --students");
  } else if (o.suite) {
    if (text || !o.against.empty() || o.saveTeacher)
      throw UsageError("--suite goes with --text and --teacher only where "
                       "--students are compared");
  } else if (!text && o.against.empty()) {
    throw UsageError("expected --text, --tokens, --suite or a teacher file "
                     "for --against");
  }
  if (o.saveTeacher && !o.against.empty())
    throw UsageError("--save-teacher excludes --against");
  if (o.saveTeacher && !text)
    throw UsageError("--save-teacher needs --text or --tokens");
  if (o.noResume && !o.saveTeacher)
    throw UsageError("--no-resume goes with --save-teacher");
  if (o.answers && !o.suite)
    throw UsageError("--answers goes with --suite");
  if (o.details && (!o.json || o.suite))
    throw UsageError("--details goes with --json and --text");
  if (o.system && o.raw)
    throw UsageError("--system excludes --raw");
  if (o.certify && (!o.students.empty() || o.suite || o.saveTeacher))
    throw UsageError("--certify goes with --text, --tokens or a teacher file");
  if (o.reference && o.suite)
    throw UsageError("--reference goes with --text or --tokens");
}

Status run(const ScoreOptions &options) {
  checkUsage(options);
  std::error_code ignored;
  if (options.reference &&
      !std::filesystem::is_directory(options.model, ignored) &&
      !std::filesystem::is_directory(options.against, ignored))
    return Status::error(Code::InvalidArgument,
                         options.model +
                             ": expected a checkpoint directory for "
                             "--reference, which computes no artifact");
  if (options.certify && std::filesystem::is_directory(options.model, ignored))
    return Status::error(Code::InvalidArgument,
                         options.model + ": expected an artifact to certify, "
                                         "found a directory");
  if (!options.students.empty())
    return runLadder(options);
  return options.suite ? runSuiteScore(options) : runTextScore(options);
}

void declareTexts(CLI::App &command, ScoreOptions &o) {
  const char *group = "Texts";
  command
      .add_option("--text", o.texts,
                  "Text to score; may be repeated; -: standard input")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  command
      .add_option("--tokens", o.tokens, "Token ids to score: 1,2,3 or @FILE")
      ->group(group);
  command
      .add_option("--against,--teacher", o.against,
                  "Compare with this model, or with a teacher file")
      ->group(group);
  command
      .add_option(
          "--save-teacher", o.saveTeacher,
          "Write MODEL's distributions to a teacher file; goes on where "
          "it was if that is partly there")
      ->group(group);
  command.add_option("--top-k", o.topK, "Ids per token in a teacher file")
      ->capture_default_str()
      ->check(CLI::Range(uint32_t(score::kRanked), score::kMaxTopK))
      ->group(group);
  command.add_flag("--no-resume", o.noResume, "Begin a teacher file anew")
      ->group(group);
  command
      .add_option(
          "--context", o.context,
          "Tokens of a window; default: 2048, or the models' context if "
          "that is less")
      ->check(CLI::Range(2, INT32_MAX))
      ->group(group);
  command
      .add_option("--stride", o.stride,
                  "From window to window; default: they share one token")
      ->check(CLI::Range(1, INT32_MAX))
      ->group(group);
  command
      .add_option("--worst", o.worst, "Tokens to show of those scored worst")
      ->capture_default_str()
      ->check(CLI::Range(0, 10000))
      ->group(group);
  command
      .add_flag("--details", o.details,
                "With --json: also by text and position, and the worst tokens")
      ->group(group);
}

void declareSuite(CLI::App &command, ScoreOptions &o) {
  const char *group = "Problems";
  command
      .add_option("--suite", o.suite,
                  "Problems with answers, a JSON object per line: GSM8K, "
                  "MATH-500, AIME or {\"problem\", \"answer\"}")
      ->group(group);
  command.add_option("--samples", o.samples, "Replies to each problem")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000))
      ->group(group);
  command
      .add_option("--temp", o.temperature,
                  "Temperature; 0: greedy; default: the model's")
      ->group(group);
  command.add_option("--top-p", o.topP, "Default: the model's")->group(group);
  command.add_option("--seed", o.seed, "Seed of all samples")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("-n,--max-tokens", o.maxTokens, "Tokens of a reply at most")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t(1), uint64_t(1) << 32))
      ->group(group);
  command.add_option("--limit", o.limit, "Take the first N problems alone")
      ->check(CLI::Range(1, INT32_MAX))
      ->group(group);
  command.add_option("--system", o.system, "System message")->group(group);
  command.add_flag("--raw", o.raw, "Ask without the chat template")
      ->group(group);
  command
      .add_option("--answers", o.answers, "Write every reply to a JSONL file")
      ->group(group);
  command
      .add_option("--students", o.students,
                  "Models that are compared with --teacher: A,B,C")
      ->delimiter(',')
      ->expected(1, 1000)
      ->group(group);
}

} // namespace

Result<score::ScoreModel> openScored(const ScoreOptions &options,
                                     const std::string &path) {
  score::OpenModelOptions open;
  open.threads = options.threads;
  open.target = options.target;
  open.weights = options.noVerify ? WeightCheck::Never : WeightCheck::Auto;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    if (!options.openCheckpoint)
      return Status::error(Code::Unsupported,
                           path + ": is a directory, expected an artifact: "
                                  "this tool is without the compiler");
    return options.openCheckpoint(path, open, options.reference);
  }
  RETORT_ASSIGN_OR_RETURN(score::ScoreModel model,
                          score::openModel(path, open));
  const Artifact &artifact = model.model->artifact();
  if (!options.noVerify && !artifact.weightsVerified())
    noteUnverifiedWeights(artifact.weightBytes(), artifact.physicalMemory());
  return model;
}

nlohmann::ordered_json jsonNumber(double value) {
  if (!std::isfinite(value))
    return nullptr;
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return std::strtod(text, nullptr);
}

Action addScoreCommand(CLI::App &command, const CheckpointOpener &opener,
                       const std::string &carried) {
  auto o = std::make_shared<ScoreOptions>();
  o->openCheckpoint = opener;
  o->model = carried;
  if (carried.empty())
    command.add_option("MODEL", o->model,
                       opener ? "Compiled model, or a checkpoint directory"
                              : "Compiled model");
  declareTexts(command, *o);
  declareSuite(command, *o);
  command
      .add_option("--threads", o->threads, "Threads; default: all processors")
      ->check(CLI::Range(1, INT32_MAX));
  command.add_option("--code", o->target, "Run the code for this target");
  if (opener)
    command.add_flag("--reference", o->reference,
                     "Compute checkpoint directories with the reference "
                     "interpreter: slow, and what everything is compared with");
  command.add_flag("--no-verify", o->noVerify, "Don't hash the weights");
  // An executable that runs can't be written.
  if (carried.empty())
    command.add_flag("--certify", o->certify,
                     "Write the figures of the texts into MODEL's certificate");
  command.add_flag("--json", o->json, "Print JSON");
  return [o] { return run(*o); };
}

} // namespace retort::tools
