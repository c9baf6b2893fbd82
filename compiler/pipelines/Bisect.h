//===- Bisect.h - Where two models part -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `retort bisect`: finds the first layer, op and token at which two ways to
/// compute a model part, and how much each op adds to it.
///
/// A is what B is measured against. Two figures belong to each point that both
/// have, of a token or of all of them:
///
/// error  of B computed on its own: the root of the sum of squared differences
///        of the rows over that of A's squared elements.
/// step   what the op at that point is to blame for: B computes it from A's
///        values of the points before, and its difference to A is set against
///        what the op makes in A. Where an op adds to the residual stream, that
///        is what it adds, not the stream.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PIPELINES_BISECT_H
#define RETORT_COMPILER_PIPELINES_BISECT_H

#include "compiler/pipelines/Trace.h"

#include <optional>
#include <vector>

namespace retort {

/// What bf16 checkpoints and their f32, bf16 and fp8 artifacts stay below by
/// far, and int8 weights, the best of the lossy encodings, don't.
inline constexpr double kBisectTolerance = 1e-3;

struct BisectOptions {
  /// Largest error of a token that isn't reported.
  double tolerance = kBisectTolerance;
  /// Logits of so many ids are compared; 0: all, of which both have as many.
  int64_t ids = 0;
};

/// Both figures, over all tokens and of each.
struct Differences {
  double all = 0;
  std::vector<double> tokens;
  /// The token with the largest; not a number counts as the largest.
  size_t worst() const;
};

struct PointDifference {
  reference::TracePoint point;
  Differences error, step;
};

/// Neighbouring elements of a row, as both have them.
struct ElementWindow {
  int64_t first = 0; ///< index of the first
  int64_t worst = 0; ///< index of the one that differs most
  std::vector<float> a, b;
};

/// The first point at which a token's error exceeds the tolerance, and the
/// first such token.
struct Parting {
  size_t index = 0; ///< into BisectReport::points
  size_t token = 0; ///< position
  ElementWindow elements;
};

struct BisectReport {
  std::vector<PointDifference> points; ///< in the order of computing
  std::optional<Parting> first;
  /// Into `points`: where a token's step is the largest of all.
  size_t largestStep = 0;
};

/// Why points of both can't be compared: InvalidArgument naming what differs,
/// numbers of layers or sizes of rows.
Status checkComparable(const TracedModel &a, const TracedModel &b);

/// Runs A once and B twice. Holds A's values: for each token about 4 bytes
/// times the widths of all points. Errors: what checkComparable() says; a token
/// outside of a vocabulary or more of them than a context has
/// (InvalidArgument); what running either gives.
Result<BisectReport> bisect(TracedModel &a, TracedModel &b,
                            std::span<const int32_t> tokens,
                            const BisectOptions &options = {});

} // namespace retort

#endif // RETORT_COMPILER_PIPELINES_BISECT_H
