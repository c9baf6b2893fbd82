//===- KernelTimer.cpp - How long a launch takes --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/tune/KernelTimer.h"

#include "compiler/codegen/Codegen.h"
#include "runtime/abi/Format.h"

#include <chrono>
#include <cstring>

using namespace mlir;

namespace retort {
namespace {

/// More than the caches of most machines hold.
constexpr int64_t kColdBytes = int64_t(192) << 20;
/// Of matrices so small that launching them takes the time.
constexpr int64_t kMostCopies = 256;

/// Bytes of an argument for some tokens from position 0 on; 0 for kinds that
/// need more than bytes to be valid.
int64_t bytesOf(Type type, int64_t tokens) {
  constexpr int64_t kPositionPadding = 64;
  if (auto cache = dyn_cast<kernel::CacheType>(type))
    return cache.getPositionBytes() * roundUp(tokens, kPositionPadding);
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return 0;
  if (auto packed = encoding::getPackedEncoding(type))
    return packed->matrixBytes(tensor.getDimSize(0), tensor.getDimSize(1));
  // Register tiles may read a few rows more than there are.
  int64_t rows = roundUp<int64_t>(tokens, 8) + 8;
  if (auto activation = encoding::getActivationEncoding(type))
    return rows * activation->rowBytes(tensor.getDimSize(1));
  if (kernel::isActivation(type))
    return rows * tensor.getDimSize(1) * 4;
  if (tensor.hasStaticShape())
    return tensor.getNumElements() * tensor.getElementTypeBitWidth() / 8;
  return 0;
}

} // namespace

Result<KernelTimer> KernelTimer::create(ModuleOp module, const Target &target,
                                        int64_t tokens, unsigned threads) {
  auto entry = *module.getOps<kernel::EntryOp>().begin();
  std::string name = entry.getSymName().str();
  Operation *launch = entry.getLaunch();
  Tiling tiling = getTiling(launch, entry.getTokens());
  std::vector<Type> types(launch->getOperandTypes().begin(),
                          launch->getOperandTypes().end());
  for (Type type : launch->getResultTypes())
    if (!isa<kernel::CacheType>(type))
      types.push_back(type);

  RETORT_ASSIGN_OR_RETURN(std::vector<char> object,
                          compileToSharedObject(module, target, 1));
  RETORT_ASSIGN_OR_RETURN(LoadedCode code, LoadedCode::load(object));
  KernelTimer timer(std::move(code));
  timer.kernel = timer.code.find(name);
  timer.tiling = tiling;
  timer.tokens = tokens;
  for (Type type : types) {
    int64_t bytes = bytesOf(type, tokens);
    if (bytes == 0)
      return Status::error(Code::Unsupported,
                           "expected a launch of dense matrices");
    if (encoding::getPackedEncoding(type)) {
      timer.matrix = timer.args.size();
      timer.matrixBytes = roundUp<int64_t>(bytes, 64);
      if (tokens <= kFewTokens)
        timer.copies =
            std::min(kMostCopies, ceilDiv(kColdBytes, timer.matrixBytes));
      bytes = timer.matrixBytes * timer.copies;
    }
    RETORT_ASSIGN_OR_RETURN(Pages pages, Pages::allocate(bytes));
    // As bf16, f16, f32 or scale these bytes are small normal numbers.
    std::memset(pages.data(), 0x3c, bytes);
    timer.args.push_back(pages.data());
    timer.memory.push_back(std::move(pages));
  }
  timer.scratchStride = roundUp<uint64_t>(
      std::max<int64_t>(64, tiling.scratchBytes), abi::kPageSize);
  RETORT_ASSIGN_OR_RETURN(timer.scratch,
                          Pages::allocate(timer.scratchStride * threads));
  return timer;
}

double KernelTimer::run(Workers &workers) {
  using Clock = std::chrono::steady_clock;
  retort_kernel_scalars scalars = {tokens, 0, 0};
  int64_t tiles =
      tiling.tiles *
      (tiling.tokensPerTile ? ceilDiv(tokens, tiling.tokensPerTile) : 1);
  std::atomic<int64_t> next = 0;
  Clock::time_point start = Clock::now();
  workers.run([&](unsigned worker) {
    void *workspace = scratch.data() + worker * scratchStride;
    std::vector<void *> own = args;
    for (int64_t copy = 0; copy < copies; ++copy) {
      own[matrix] = static_cast<std::byte *>(args[matrix]) + copy * matrixBytes;
      if (tiling.prepares)
        kernel(own.data(), &scalars, workspace, -1);
      for (int64_t tile;
           (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;)
        kernel(own.data(), &scalars, workspace, tile);
      workers.barrier().arrive(
          [&] { next.store(0, std::memory_order_relaxed); });
    }
  });
  return std::chrono::duration<double>(Clock::now() - start).count() /
         static_cast<double>(copies);
}

} // namespace retort
