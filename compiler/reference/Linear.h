//===- Linear.h - Linear layers in double precision -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_REFERENCE_LINEAR_H
#define RETORT_COMPILER_REFERENCE_LINEAR_H

#include <cstdint>
#include <span>
#include <vector>

namespace retort::reference {

/// Activations [tokens, cols] in the order that multiplyRows reads them.
class Panels {
public:
  /// Tokens that are multiplied at once.
  static constexpr int64_t kTokens = 8;

  /// `x` is row-major [tokens, cols].
  Panels(std::span<const float> x, int64_t tokens, int64_t cols);

  int64_t tokens() const { return numTokens; }
  int64_t cols() const { return numCols; }
  int64_t count() const { return (numTokens + kTokens - 1) / kTokens; }
  /// Element (token t, column k) of panel p's tokens at [k * kTokens + t].
  const double *panel(int64_t p) const {
    return data.data() + p * numCols * kTokens;
  }

private:
  int64_t numTokens, numCols;
  std::vector<double> data;
};

/// Multiplies `numRows` rows of a matrix, `rows[r * cols + k]`, with all
/// tokens: `out[t * outStride + r] = sum over k of rows[r, k] * x[t, k]`, in
/// f64 and in the order of k, so that a result does not depend on the other
/// rows and tokens. `scratch` is reused between calls.
void multiplyRows(const float *rows, int64_t numRows, const Panels &x,
                  float *out, int64_t outStride, std::vector<double> &scratch);

} // namespace retort::reference

#endif // RETORT_COMPILER_REFERENCE_LINEAR_H
