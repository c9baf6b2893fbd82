//===- Dense.h - Linear algebra for Hessians --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Linear algebra on large square matrices of f32, row-major, of which only the
/// lower triangle counts. Work is cut into tiles that do not depend on the
/// number of threads, and each tile is computed by one: neither do the results.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_DENSE_H
#define RETORT_COMPILER_PTQ_DENSE_H

#include <cstdint>
#include <vector>

namespace retort::ptq {

/// h += transposed x times x, for x [tokens, n].
void addGram(std::vector<float> &h, int64_t n, const float *x, int64_t tokens,
             int threads);

/// Replaces h by the inverse of its Cholesky factor L (h = L times transposed
/// L), lower triangular. False, and h lost, if h is not positive definite.
bool invertCholesky(std::vector<float> &h, int64_t n, int threads);

/// c -= a times b, for c [rows, cols] and a [rows, inner]; strides count
/// elements between rows.
void subtractProduct(float *c, int64_t cStride, const float *a, int64_t aStride,
                     const float *b, int64_t bStride, int64_t rows,
                     int64_t cols, int64_t inner, int threads);

/// c -= a times transposed b, for c [rows, cols], a [rows, inner] and b [cols,
/// inner].
void subtractProductTransposed(float *c, int64_t cStride, const float *a,
                               int64_t aStride, const float *b, int64_t bStride,
                               int64_t rows, int64_t cols, int64_t inner,
                               int threads);

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_DENSE_H
