//===- Linear.cpp - Linear layers in double precision -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/Linear.h"

#include <algorithm>

namespace retort::reference {
namespace {

typedef double D4 __attribute__((vector_size(32)));

/// Rows that are multiplied at once: with 8 tokens in two vectors, eight sums
/// are in flight, enough to hide the latency of an addition.
constexpr int64_t kRows = 4;
constexpr int64_t kVectors = Panels::kTokens / 4;

/// `weights[k * kRows + r]`; sums to `sums[r * kTokens + t]`.
static inline __attribute__((always_inline)) void
multiplyTile(const double *weights, const double *panel, int64_t cols,
             double *sums) {
  D4 acc[kRows][kVectors] = {};
  for (int64_t k = 0; k < cols; ++k) {
    D4 x[kVectors];
    __builtin_memcpy(x, panel + k * Panels::kTokens, sizeof(x));
    for (int64_t r = 0; r < kRows; ++r) {
      double w = weights[k * kRows + r];
      D4 wide = {w, w, w, w};
      for (int64_t v = 0; v < kVectors; ++v)
        acc[r][v] += wide * x[v];
    }
  }
  __builtin_memcpy(sums, acc, sizeof(acc));
}

using TileKernel = void (*)(const double *, const double *, int64_t, double *);

void multiplyBaseline(const double *weights, const double *panel, int64_t cols,
                      double *sums) {
  multiplyTile(weights, panel, cols, sums);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void multiplyAVX2(const double *weights,
                                                  const double *panel,
                                                  int64_t cols, double *sums) {
  multiplyTile(weights, panel, cols, sums);
}
#endif

TileKernel tileKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2"))
    return multiplyAVX2;
#endif
  return multiplyBaseline;
}

} // namespace

Panels::Panels(std::span<const float> x, int64_t tokens, int64_t cols)
    : numTokens(tokens), numCols(cols),
      data(static_cast<size_t>(count() * cols * kTokens)) {
  for (int64_t t = 0; t < tokens; ++t) {
    double *to = data.data() + t / kTokens * cols * kTokens + t % kTokens;
    for (int64_t k = 0; k < cols; ++k)
      to[k * kTokens] = x[static_cast<size_t>(t * cols + k)];
  }
}

void multiplyRows(const float *rows, int64_t numRows, const Panels &x,
                  float *out, int64_t outStride, std::vector<double> &scratch) {
  static const TileKernel kernel = tileKernel();
  int64_t cols = x.cols();
  scratch.resize(static_cast<size_t>(cols * kRows));
  for (int64_t first = 0; first < numRows; first += kRows) {
    int64_t count = std::min(kRows, numRows - first);
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t k = 0; k < cols; ++k)
        scratch[static_cast<size_t>(k * kRows + r)] =
            r < count ? rows[(first + r) * cols + k] : 0.0;
    for (int64_t p = 0; p < x.count(); ++p) {
      double sums[kRows * Panels::kTokens];
      kernel(scratch.data(), x.panel(p), cols, sums);
      int64_t firstToken = p * Panels::kTokens;
      int64_t tokens = std::min(Panels::kTokens, x.tokens() - firstToken);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < count; ++r)
          out[(firstToken + t) * outStride + first + r] =
              static_cast<float>(sums[r * Panels::kTokens + t]);
    }
  }
}

} // namespace retort::reference
