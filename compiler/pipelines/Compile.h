//===- Compile.h - From checkpoint to artifact ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort compile` as a library call: from a checkpoint directory to an
/// artifact.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_COMPILE_H
#define RETORT_COMPILER_PIPELINES_COMPILE_H

#include "compiler/pack/WeightSpec.h"
#include "compiler/quantize/WeightPlan.h"
#include "compiler/tune/TuneReport.h"
#include "runtime/support/Status.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace retort {

/// The text section of an artifact with the plan that it was compiled with;
/// its property "weights" is then "plan".
inline constexpr const char *kWeightPlanText = "weight_plan.json";

struct CompileOptions {
  std::string checkpoint;       ///< directory in hub layout
  std::string output;           ///< path of the artifact
  std::string weights = "keep"; ///< as parseWeightChoice() takes it
  int groupSize = 32;
  /// If set, how each matrix is stored, instead of `weights` and `groupSize`.
  std::optional<WeightPlan> plan;
  std::string planName; ///< of the plan in messages: a path
  /// What caches hold: f32, f16, bf16 or int8. "auto": f32 if no matrix is
  /// rounded (`weights` or `plan` of keep and f32 alone), else f16.
  std::string kv = "auto";
  /// What integer weights are multiplied with: f32, or int: rounded to
  /// integers, which is faster. "auto": f32 if no matrix is rounded, else int.
  std::string activations = "auto";
  std::vector<std::string> targets; ///< empty: what this machine has
  /// Positions a session may use; by default the config's
  /// max_position_embeddings, which it may not exceed.
  std::optional<int64_t> maxContext;
  uint64_t maxRam = uint64_t(2) << 30;
  int threads = 0; ///< 0: as many as the machine has
  bool verify = false;
  /// Build program and code from config.json alone, whatever weights are there:
  /// the artifact can be inspected, not run. Excludes `verify` and
  /// `standaloneRuntime`.
  bool withoutWeights = false;
  /// If not 0, weights go into files of at most so many bytes beside `output`.
  /// Excludes `withoutWeights` and `standaloneRuntime`.
  uint64_t partBytes = 0;
  /// Time tile shapes on this machine, which must run one of `targets`, and
  /// take the fastest. What was found is kept in `tuningCache`: by default
  /// defaultTuningCache().
  bool tune = false;
  std::string tuningCache;
  /// Go on with what an interrupted compile has left in `<output>.partial`, if
  /// it came from the same inputs.
  bool resume = true;
  /// Stages whose IR is written to `dumpDir` as `<number>-<stage>.mlir`.
  std::vector<std::string> dumpIr;
  std::string dumpDir;
  /// If not empty, the runtime executable that makes the output standalone.
  std::string standaloneRuntime;

  /// Called with what is being done: a step, and for packing bytes of the
  /// checkpoint done and in total, for reading an interrupted compile's weights
  /// again bytes of those (0, 0 for other steps).
  std::function<void(const std::string &step, uint64_t done, uint64_t total)>
      progress;
  /// Sentences for the user, e.g. that there is no tokenizer.
  std::function<void(const std::string &note)> note;
  const std::atomic<bool> *cancel = nullptr;
};

/// How far compiled code is from the reference interpreter (`--verify`), as
/// relative RMS over a few tokens.
struct VerifyReport {
  std::vector<double> layers; ///< hidden states after each layer
  /// Compiled against reference, packed weights, inputs rounded as the code
  /// rounds them.
  double logits = 0;
  double plain = 0;    ///< the same with inputs in f32
  double encoding = 0; ///< reference with packed against source weights, logits
  bool sameGreedy = false; ///< the same most likely next token at every step
  /// With experts: every token was given the same ones in every layer.
  std::optional<bool> sameExperts;
  /// Of the draft layer's logits after the last token, if there is one.
  std::optional<double> draft;
};

struct CompileReport {
  uint64_t fileBytes = 0;   ///< with parts
  size_t parts = 0;         ///< files beside the artifact's own
  uint64_t weightBytes = 0; ///< with withoutWeights: what they would take
  uint64_t codeBytes = 0;
  uint64_t checkpointBytes = 0;
  int kernels = 0;
  bool usesIntegers = false; ///< the group size matters
  std::string kv;            ///< what caches hold: never "auto"
  double compileSeconds = 0; ///< import to machine code, without tuning
  std::optional<TuneReport> tune;
  double packSeconds = 0;
  double totalSeconds = 0;
  std::vector<std::string> targets;
  std::optional<VerifyReport> verify;
};

/// What a compile would write, but for the bytes of weights and code.
struct CompilePlan {
  /// A finished abi::Index without targets and sections; `program.weights` have
  /// hashes and errors of 0.
  std::vector<std::byte> index;
  std::string kv; ///< what caches hold: never "auto"
  /// Of the file, with weights and self-test and without code.
  uint64_t fileBytes = 0;
  uint64_t weightBytes = 0;
  /// How each of `program.weights` is made.
  std::vector<WeightSpec> weights;
};

/// Runs the stages up to the program. Weights of a checkpoint are sampled for
/// zero points; a directory without weights does too, as with
/// `withoutWeights`. `output` is not used.
Result<CompilePlan> planCompile(const CompileOptions &options);

/// Compiles. On failure, or when cancelled, `output` is as it was before; what
/// is finished stays in `<output>.partial`, unless the input is bad.
Result<CompileReport> compileCheckpoint(const CompileOptions &options);

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_COMPILE_H
