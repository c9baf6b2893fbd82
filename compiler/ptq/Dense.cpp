//===- Dense.cpp - Linear algebra for Hessians ----------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/Dense.h"

#include "compiler/ptq/DenseTiles.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>

namespace retort::ptq {
namespace {

/// Large enough that a tile's arithmetic hides its traffic, small enough that
/// two threads share a matrix evenly.
constexpr int64_t kTile = 256;

const TileKernels &tiles() {
#if defined(__x86_64__)
  static const bool hasAvx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (hasAvx2)
    return kAvx2Tiles;
#endif
  return kBaselineTiles;
}

template <typename Body>
void forEachTile(int64_t count, int threads, const Body &body) {
  std::atomic<int64_t> next{0};
  runOnThreads(static_cast<size_t>(std::clamp<int64_t>(threads, 1, count)),
               [&] {
                 for (int64_t i; (i = next.fetch_add(1)) < count;)
                   body(i);
               });
}

/// The i-th of the pairs (row, col), col <= row, row by row.
std::pair<int64_t, int64_t> lowerPair(int64_t i) {
  int64_t row = 0;
  while (i > row) {
    i -= row + 1;
    ++row;
  }
  return {row, i};
}

} // namespace

void addGram(std::vector<float> &h, int64_t n, const float *x, int64_t tokens,
             int threads) {
  int64_t count = ceilDiv(n, kTile);
  forEachTile(count * (count + 1) / 2, threads, [&](int64_t i) {
    auto [r, c] = lowerPair(i);
    int64_t row = r * kTile, col = c * kTile;
    tiles().addTransposedProduct(h.data() + row * n + col, n, x + row, n,
                                 x + col, n, std::min(kTile, n - row),
                                 std::min(kTile, n - col), tokens);
  });
}

bool invertCholesky(std::vector<float> &h, int64_t n, int threads) {
  const TileKernels &t = tiles();
  int64_t count = ceilDiv(n, kTile);
  auto size = [&](int64_t tile) { return std::min(kTile, n - tile * kTile); };
  auto at = [&](std::vector<float> &m, int64_t r, int64_t c) {
    return m.data() + r * kTile * n + c * kTile;
  };
  for (int64_t k = 0; k < count; ++k) {
    if (!t.factor(at(h, k, k), n, size(k)))
      return false;
    int64_t below = count - k - 1;
    if (below == 0)
      break;
    forEachTile(below, threads, [&](int64_t i) {
      int64_t r = k + 1 + i;
      t.solveRight(at(h, r, k), n, at(h, k, k), n, size(r), size(k));
    });
    forEachTile(below * (below + 1) / 2, threads, [&](int64_t i) {
      auto [r, c] = lowerPair(i);
      r += k + 1;
      c += k + 1;
      t.subtractProductTransposed(at(h, r, c), n, at(h, r, k), n, at(h, c, k),
                                  n, size(r), size(c), size(k));
    });
  }
  // Column of tiles by column: L X = 1, from the diagonal down.
  std::vector<float> inverse(h.size());
  forEachTile(count, threads, [&](int64_t c) {
    for (int64_t r = c; r < count; ++r) {
      float *x = at(inverse, r, c);
      if (r == c)
        for (int64_t i = 0; i < size(c); ++i)
          x[i * n + i] = 1;
      for (int64_t k = c; k < r; ++k)
        t.subtractProduct(x, n, at(h, r, k), n, at(inverse, k, c), n, size(r),
                          size(c), size(k));
      t.solveLeft(x, n, at(h, r, r), n, size(r), size(c));
    }
  });
  h = std::move(inverse);
  return true;
}

void subtractProduct(float *c, int64_t cStride, const float *a, int64_t aStride,
                     const float *b, int64_t bStride, int64_t rows,
                     int64_t cols, int64_t inner, int threads) {
  if (rows == 0 || cols == 0)
    return;
  int64_t across = ceilDiv(cols, kTile);
  forEachTile(ceilDiv(rows, kTile) * across, threads, [&](int64_t i) {
    int64_t row = i / across * kTile, col = i % across * kTile;
    tiles().subtractProduct(c + row * cStride + col, cStride, a + row * aStride,
                            aStride, b + col, bStride,
                            std::min(kTile, rows - row),
                            std::min(kTile, cols - col), inner);
  });
}

void subtractProductTransposed(float *c, int64_t cStride, const float *a,
                               int64_t aStride, const float *b, int64_t bStride,
                               int64_t rows, int64_t cols, int64_t inner,
                               int threads) {
  if (rows == 0 || cols == 0)
    return;
  int64_t across = ceilDiv(cols, kTile);
  forEachTile(ceilDiv(rows, kTile) * across, threads, [&](int64_t i) {
    int64_t row = i / across * kTile, col = i % across * kTile;
    tiles().subtractProductTransposed(
        c + row * cStride + col, cStride, a + row * aStride, aStride,
        b + col * bStride, bStride, std::min(kTile, rows - row),
        std::min(kTile, cols - col), inner);
  });
}

} // namespace retort::ptq
