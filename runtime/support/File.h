//===- File.h - Mapped files and atomic output ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Reading a file by mapping it, reading a small file whole, and writing a file
/// beside its destination so that a failure leaves nothing behind.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_FILE_H
#define RETORT_RUNTIME_SUPPORT_FILE_H

#include "runtime/support/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace retort {

/// A regular file mapped read-only. The bytes stay valid while the object
/// lives. Empty files map to an empty span.
class MappedFile {
public:
  static Result<MappedFile> open(const std::string &path);
  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data, length}; }
  std::string_view text() const {
    return {reinterpret_cast<const char *>(data), length};
  }

  /// Tells the system that `[offset, offset + size)` won't be needed soon, so
  /// that streaming through a large file does not grow the resident set.
  void dropResident(size_t offset, size_t size) const;

private:
  const std::byte *data = nullptr;
  size_t length = 0;
};

/// Tells the system that the whole pages within `bytes` of a file mapping won't
/// be needed soon; reading them again is slower and gives the same bytes.
void dropResidentPages(std::span<const std::byte> bytes);

/// Reads a whole file of at most `maxBytes`; larger files are an error.
Result<std::string> readFile(const std::string &path, size_t maxBytes);

/// True if `path` names an existing file, directory or device.
bool pathExists(const std::string &path);

/// A file written as `<path>.partial-<pid>` and renamed to `path` by commit().
/// Without commit() the destructor removes it, and `removeUnfinishedOutputs`
/// does so from a signal handler.
class OutputFile {
public:
  static Result<OutputFile> create(const std::string &path);
  OutputFile(OutputFile &&other) noexcept;
  OutputFile &operator=(OutputFile &&other) noexcept;
  ~OutputFile();

  /// Writes all bytes at `offset`, extending the file as needed. Thread-safe.
  Status writeAt(uint64_t offset, std::span<const std::byte> bytes);
  /// Where the bytes are until commit().
  const std::string &temporaryPath() const { return partialPath; }
  /// Sets mode 0644 (0755 if `executable`) and renames.
  Status commit(bool executable = false);

private:
  OutputFile() = default;
  void discard();
  int fd = -1;
  int slot = -1;
  std::string finalPath;
  std::string partialPath;
};

/// Removes every uncommitted OutputFile of this process. Async-signal-safe.
void removeUnfinishedOutputs();

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_FILE_H
