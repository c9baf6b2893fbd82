//===- ZeroPoints.cpp - Where zero points pay -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ZeroPoints.h"

#include "compiler/pack/Quantizer.h"
#include "compiler/pack/SpecReader.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace retort {
namespace {

/// How many strips, and blocks of each, are encoded both ways, evenly spread.
constexpr int64_t kSampleStrips = 4;
constexpr int64_t kSampleBlocks = 4;

/// Calls `visit(i)` for up to `most` of 0 ... count - 1, evenly spread.
template <typename Visit>
Status forSample(int64_t count, int64_t most, Visit visit) {
  int64_t picked = std::min(count, most);
  for (int64_t i = 0; i < picked; ++i)
    RETORT_RETURN_IF_ERROR(visit((2 * i + 1) * count / (2 * picked)));
  return Status::ok();
}

Result<bool> zeroPointsPay(const SpecReader &reader, std::vector<float> &rows) {
  const WeightSpec &spec = reader.spec();
  PackedEncoding plain = spec.encoding, shifted = spec.encoding;
  plain.zeroPoints = false;
  shifted.zeroPoints = true;
  int64_t stride = stripStride(spec.cols);
  rows.resize(static_cast<size_t>(kStripRows * stride));
  std::vector<std::byte> block(static_cast<size_t>(shifted.blockBytes()));
  SquaredError plainError, shiftedError;
  auto encodeBoth = [&](int64_t index) {
    const float *from = rows.data() + index * plain.blockCols();
    SquaredError a, b;
    if (!encodeBlock(plain, from, stride, block.data(), a) &&
        !encodeBlock(shifted, from, stride, block.data(), b)) {
      plainError.add(a);
      shiftedError.add(b);
    }
    return Status::ok();
  };
  RETORT_RETURN_IF_ERROR(forSample(
      ceilDiv(spec.rows, kStripRows), kSampleStrips, [&](int64_t strip) {
        int64_t first = strip * kStripRows;
        RETORT_RETURN_IF_ERROR(
            reader.readRows(first, kStripRows, rows.data(), stride));
        reader.dropResident(first, kStripRows);
        return forSample(plain.blocksPerStrip(spec.cols), kSampleBlocks,
                         encodeBoth);
      }));
  double kept = 1 - kZeroPointGain;
  return shiftedError.error < plainError.error * kept * kept;
}

} // namespace

Status chooseZeroPoints(std::span<WeightSpec> specs,
                        const checkpoint::Checkpoint &checkpoint, int threads) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  Status failure;
  auto work = [&] {
    std::vector<float> rows;
    auto choose = [&](WeightSpec &spec) -> Status {
      if (spec.form != WeightForm::Matrix || spec.encoding.middle() == 0)
        return Status::ok();
      RETORT_ASSIGN_OR_RETURN(SpecReader reader,
                              SpecReader::create(spec, checkpoint));
      RETORT_ASSIGN_OR_RETURN(bool pays, zeroPointsPay(reader, rows));
      spec.encoding.zeroPoints = pays;
      return Status::ok();
    };
    for (size_t i; (i = next.fetch_add(1)) < specs.size();) {
      Status status;
      try {
        status = choose(specs[i]);
      } catch (const std::bad_alloc &) {
        status =
            Status::error(Code::OutOfMemory, "no memory to choose zero points");
      }
      if (status.isOk())
        continue;
      std::lock_guard lock(mutex);
      if (failure.isOk())
        failure = std::move(status);
      next = specs.size();
    }
  };
  size_t count = threads > 0
                     ? static_cast<size_t>(threads)
                     : std::max(1u, std::thread::hardware_concurrency());
  runOnThreads(std::min(count, specs.size()), work);
  return failure;
}

} // namespace retort
