//===- Scales.cpp - Block scales of fp8 tensors -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Scales.h"

#include "compiler/checkpoint/Json.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <fcntl.h>
#include <unistd.h>

namespace retort::checkpoint {
namespace {

constexpr size_t kMaxThreads = 8;
constexpr uint64_t kChunkBytes = uint64_t(1) << 20;

std::string where(std::string_view file, std::string_view name) {
  return std::string(file) + ": tensor " + quote(name) + ": ";
}

/// A file descriptor for scattered reads.
class ScatteredFile {
public:
  explicit ScatteredFile(const std::string &path)
      : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd >= 0)
      (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  }
  ScatteredFile(const ScatteredFile &) = delete;
  ScatteredFile &operator=(const ScatteredFile &) = delete;
  ~ScatteredFile() {
    if (fd >= 0)
      ::close(fd);
  }

  /// Reads all of `out`; false with errno set, 0 at the end of the file.
  bool read(uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      ssize_t n =
          ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0) {
        errno = n == 0 ? 0 : errno;
        return false;
      }
      offset += static_cast<uint64_t>(n);
      out = out.subspan(static_cast<size_t>(n));
    }
    return true;
  }

private:
  int fd;
};

Status checkOne(const ScatteredFile &file, const TensorView &tensor,
                std::vector<std::byte> &buffer) {
  const BlockScales &scales = *tensor.scales;
  size_t size = dtypeBytes(scales.dtype);
  BlockScales piece = scales;
  piece.cols = 1;
  for (uint64_t at = 0; at < scales.bytes.size(); at += kChunkBytes) {
    buffer.resize(std::min<uint64_t>(kChunkBytes, scales.bytes.size() - at));
    if (!file.read(scales.fileOffset + at, buffer))
      return Status::error(
          Code::Io, where(scales.file, scales.name) + "cannot read: " +
                        (errno == 0 ? "the file has become shorter"
                                    : std::generic_category().message(errno)));
    piece.bytes = buffer;
    for (size_t i = 0; i < buffer.size() / size; ++i) {
      float scale = piece.at(static_cast<int64_t>(i), 0);
      if (scale > 0.0f && std::isfinite(scale))
        continue;
      auto index = static_cast<int64_t>(at / size + i);
      char found[32];
      std::snprintf(found, sizeof(found), "%g", static_cast<double>(scale));
      return Status::error(Code::InvalidData,
                           where(scales.file, scales.name) + "row " +
                               std::to_string(index / scales.cols) +
                               ", column " +
                               std::to_string(index % scales.cols) +
                               ": expected a finite scale above 0, found " +
                               (std::isnan(scale) ? "NaN" : found));
    }
  }
  return Status::ok();
}

/// Checks scales that lie in one file, of which there is at least one.
Status checkFile(std::span<const TensorView *const> members) {
  ScatteredFile file{std::string(members[0]->scales->file)};
  std::vector<std::byte> buffer;
  for (const TensorView *tensor : members)
    RETORT_RETURN_IF_ERROR(checkOne(file, *tensor, buffer));
  return Status::ok();
}

} // namespace

Status attachScales(TensorView &tensor, const TensorView *companion,
                    const std::optional<Fp8Config> &fp8) {
  bool isMatrix = tensor.shape.size() == 2;
  if (!companion) {
    if (fp8 && isMatrix && tensor.dtype == DType::F8E4M3)
      return Status::error(
          Code::NotFound,
          where(tensor.file, tensor.name) + "expected its scales " +
              quote(scaleTensorName(tensor.name)) + " of shape " +
              formatShape(scaleShape(*fp8, tensor.shape)) +
              ", as quantization_config says, found none");
    return Status::ok();
  }
  std::string name = scaleTensorName(tensor.name);
  std::string place = where(companion->file, name);
  auto invalid = [&](std::string message) {
    return Status::error(Code::InvalidData, place + std::move(message));
  };
  if (tensor.dtype != DType::F8E4M3 || !isMatrix)
    return invalid("expected scales of an F8_E4M3 matrix, found " +
                   quote(tensor.name) + " to be " +
                   std::string(dtypeName(tensor.dtype)) + " of shape " +
                   formatShape(tensor.shape));
  if (companion->dtype != DType::F32)
    return Status::error(Code::Unsupported,
                         place + "expected dtype F32, found " +
                             std::string(dtypeName(companion->dtype)));
  Fp8Config blocks = fp8.value_or(Fp8Config());
  std::vector<int64_t> shape = scaleShape(blocks, tensor.shape);
  if (companion->shape != shape)
    return invalid("expected shape " + formatShape(shape) + " for blocks of " +
                   std::to_string(blocks.blockRows) + " by " +
                   std::to_string(blocks.blockCols) + " of " +
                   formatShape(tensor.shape) + ", found " +
                   formatShape(companion->shape));
  BlockScales scales;
  scales.blockRows = blocks.blockRows;
  scales.blockCols = blocks.blockCols;
  scales.rows = shape[0];
  scales.cols = shape[1];
  scales.name = std::move(name);
  scales.bytes = companion->bytes;
  scales.file = companion->file;
  scales.fileOffset = companion->fileOffset;
  tensor.scales = scales;
  return Status::ok();
}

Status checkScales(const std::vector<TensorView> &tensors) {
  std::vector<const TensorView *> order;
  for (const TensorView &tensor : tensors)
    if (tensor.scales)
      order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](auto *a, auto *b) {
    return std::pair(a->scales->file, a->scales->fileOffset) <
           std::pair(b->scales->file, b->scales->fileOffset);
  });
  std::vector<std::span<const TensorView *const>> files;
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size(); ++end)
      if (order[end]->scales->file != order[begin]->scales->file)
        break;
    files.push_back(std::span(order).subspan(begin, end - begin));
  }
  // A result per file keeps the first error whatever the threads do.
  std::vector<Status> results(files.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < files.size();)
      results[i] = checkFile(files[i]);
  };
  runOnThreads(std::min(kMaxThreads, files.size()), work);
  for (Status &result : results)
    RETORT_RETURN_IF_ERROR(std::move(result));
  return Status::ok();
}

} // namespace retort::checkpoint
