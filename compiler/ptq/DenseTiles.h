//===- DenseTiles.h - Tiles of linear algebra -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What Dense.cpp needs done on one tile, through Eigen. DenseTiles.inc is
/// compiled once for every x86-64 processor and once for those with AVX2, in
/// namespaces that keep Eigen's templates apart.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PTQ_DENSETILES_H
#define RETORT_COMPILER_PTQ_DENSETILES_H

#include <cstdint>

namespace retort::ptq {

/// Row-major f32; strides count elements between rows.
struct TileKernels {
  /// c[m, n] += transposed a[k, m] times b[k, n].
  void (*addTransposedProduct)(float *c, int64_t cs, const float *a, int64_t as,
                               const float *b, int64_t bs, int64_t m, int64_t n,
                               int64_t k);
  /// c[m, n] -= a[m, k] times b[k, n].
  void (*subtractProduct)(float *c, int64_t cs, const float *a, int64_t as,
                          const float *b, int64_t bs, int64_t m, int64_t n,
                          int64_t k);
  /// c[m, n] -= a[m, k] times transposed b[n, k].
  void (*subtractProductTransposed)(float *c, int64_t cs, const float *a,
                                    int64_t as, const float *b, int64_t bs,
                                    int64_t m, int64_t n, int64_t k);
  /// The Cholesky factor of a[n, n] in its lower triangle; zeros above. False
  /// if a is not positive definite.
  bool (*factor)(float *a, int64_t as, int64_t n);
  /// c[m, n] = c times the inverse of transposed l[n, n], lower triangular.
  void (*solveRight)(float *c, int64_t cs, const float *l, int64_t ls,
                     int64_t m, int64_t n);
  /// c[n, m] = the inverse of l[n, n] times c.
  void (*solveLeft)(float *c, int64_t cs, const float *l, int64_t ls, int64_t n,
                    int64_t m);
};

extern const TileKernels kBaselineTiles;
#if defined(__x86_64__)
extern const TileKernels kAvx2Tiles;
#endif

} // namespace retort::ptq

#endif // RETORT_COMPILER_PTQ_DENSETILES_H
