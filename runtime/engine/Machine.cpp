//===- Machine.cpp - Ceilings of this machine -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Machine.h"

#include "runtime/engine/Memory.h"
#include "runtime/loader/Cpu.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace retort {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kReadBytes = 256ull << 20; // beyond any last-level cache
constexpr int kRounds = 4;
constexpr int kFmaSteps = 1 << 19;
constexpr int kChains = 12; // more than FMA latency times ports

template <int Bytes> struct VectorOf {
  typedef float Floats __attribute__((vector_size(Bytes)));
  typedef uint64_t Words __attribute__((vector_size(Bytes)));
};

/// Reads four streams a thread apart: one stream alone leaves bandwidth unused.
template <int Bytes>
inline __attribute__((always_inline)) uint64_t sumWords(const std::byte *data,
                                                        uint64_t size) {
  using Words = typename VectorOf<Bytes>::Words;
  constexpr int kStreams = 4;
  Words sums[kStreams] = {};
  uint64_t stream = size / kStreams / 64 * 64;
  for (uint64_t at = 0; at + 64 <= stream; at += 64)
    for (int s = 0; s < kStreams; ++s)
      for (int part = 0; part < 64; part += Bytes) {
        Words words;
        std::memcpy(&words, data + s * stream + at + part, Bytes);
        sums[s] += words;
      }
  Words sum = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t total = 0;
  for (size_t i = 0; i < Bytes / sizeof(uint64_t); ++i)
    total += sum[i];
  return total;
}

/// Independent multiply-add chains; the flops done are kFmaSteps * kChains *
/// lanes * 2.
template <int Bytes>
inline __attribute__((always_inline)) float fmaChains(float start) {
  using Floats = typename VectorOf<Bytes>::Floats;
  Floats x[kChains], a = Floats{} + 0.999f, b = Floats{} + start;
  for (int c = 0; c < kChains; ++c)
    x[c] = Floats{} + (start + c);
  for (int i = 0; i < kFmaSteps; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c)
      x[c] = x[c] * a + b;
  Floats sum = x[0];
  for (int c = 1; c < kChains; ++c)
    sum += x[c];
  float total = 0;
  for (size_t i = 0; i < Bytes / sizeof(float); ++i)
    total += sum[i];
  return total;
}

/// What one instruction set does at best.
struct Probe {
  uint64_t (*read)(const std::byte *, uint64_t);
  float (*fma)(float);
  int lanes;
  /// As many chains and steps as `fma`, of integer dot products; null: none.
  uint64_t (*dot)(int);
  int products; ///< of one dot product instruction
};

uint64_t readBase(const std::byte *p, uint64_t n) { return sumWords<16>(p, n); }
float fmaBase(float x) { return fmaChains<16>(x); }

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) uint64_t readAvx2(const std::byte *p,
                                                      uint64_t n) {
  return sumWords<32>(p, n);
}
__attribute__((target("avx2,fma"))) float fmaAvx2(float x) {
  return fmaChains<32>(x);
}
__attribute__((target("avx2,fma"))) uint64_t dotAvx2(int start) {
  __m256i x[kChains], w = _mm256_set1_epi8(static_cast<char>(start));
  for (int c = 0; c < kChains; ++c)
    x[c] = _mm256_set1_epi8(static_cast<char>(start + c));
  for (int i = 0; i < kFmaSteps; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c)
      x[c] = _mm256_maddubs_epi16(x[c], w);
  __m256i sum = x[0];
  for (int c = 1; c < kChains; ++c)
    sum = _mm256_add_epi16(sum, x[c]);
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0));
}
__attribute__((target("avx512f,avx512vnni,avx512vl,avx2,fma"))) uint64_t
dotVnni(int start) {
  __m512i x[kChains], w = _mm512_set1_epi32(start);
  for (int c = 0; c < kChains; ++c)
    x[c] = _mm512_set1_epi32(start + c);
  for (int i = 0; i < kFmaSteps; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c)
      x[c] = _mm512_dpbusd_epi32(x[c], w, w);
  __m512i sum = x[0];
  for (int c = 1; c < kChains; ++c)
    sum = _mm512_add_epi32(sum, x[c]);
  uint64_t first;
  std::memcpy(&first, &sum, sizeof first);
  return first;
}
__attribute__((target("avx512f,avx2,fma"))) uint64_t
readAvx512(const std::byte *p, uint64_t n) {
  return sumWords<64>(p, n);
}
__attribute__((target("avx512f,avx2,fma"))) float fmaAvx512(float x) {
  return fmaChains<64>(x);
}
#endif

Probe chooseProbe() {
#if defined(__x86_64__)
  if (hostCpu().has("avx512f")) {
    if (hostCpu().has("avx512vnni"))
      return {readAvx512, fmaAvx512, 16, dotVnni, 64};
    return {readAvx512, fmaAvx512, 16, dotAvx2, 32};
  }
  if (hostCpu().has("avx2") && hostCpu().has("fma"))
    return {readAvx2, fmaAvx2, 8, dotAvx2, 32};
#endif
  return {readBase, fmaBase, 4, nullptr, 0};
}

template <typename Fn> double bestSeconds(Workers &workers, Fn &&job) {
  double best = 1e30;
  for (int i = 0; i < kRounds; ++i) {
    Clock::time_point begin = Clock::now();
    workers.run(job);
    best = std::min(
        best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return std::max(best, 1e-9);
}

} // namespace

Result<MachinePeaks> measureMachine(Workers &workers) {
  Probe probe = chooseProbe();
  unsigned threads = workers.size();
  uint64_t share = kReadBytes / threads / 4096 * 4096;
  auto pages = Pages::allocate(kReadBytes);
  if (!pages.isOk())
    return pages.takeStatus().withContext("measuring the read bandwidth");
  // Pages that were never written all map to one page of zeros in the cache.
  workers.run(
      [&](unsigned w) { std::memset(pages->data() + w * share, 1, share); });
  std::atomic<uint64_t> keep{0};
  MachinePeaks peaks;
  double seconds = bestSeconds(workers, [&](unsigned w) {
    keep.fetch_add(probe.read(pages->data() + w * share, share));
  });
  peaks.readGbps = double(share) * threads / seconds / 1e9;
  seconds = bestSeconds(workers, [&](unsigned w) {
    keep.fetch_add(static_cast<uint64_t>(probe.fma(1.0f + float(w))));
  });
  peaks.gflops =
      2.0 * kFmaSteps * kChains * probe.lanes * threads / seconds / 1e9;
  if (probe.dot) {
    seconds = bestSeconds(
        workers, [&](unsigned w) { keep.fetch_add(probe.dot(1 + int(w))); });
    peaks.int8Gops =
        2.0 * kFmaSteps * kChains * probe.products * threads / seconds / 1e9;
  }
  return peaks;
}

MachinePeaks medianOf(std::span<const MachinePeaks> rounds) {
  auto of = [&](double MachinePeaks::*field) {
    std::vector<double> values;
    for (const MachinePeaks &round : rounds)
      values.push_back(round.*field);
    if (values.empty())
      return 0.0;
    auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  };
  return {of(&MachinePeaks::readGbps), of(&MachinePeaks::gflops),
          of(&MachinePeaks::int8Gops)};
}

} // namespace retort
