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
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace retort {

/// What processors and file systems know as a large page.
inline constexpr uint64_t kLargePageBytes = uint64_t(2) << 20;

/// What tells a file from others, and from itself after a change.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  uint64_t size = 0;                     ///< bytes
  int64_t modifiedNs = 0, changedNs = 0; ///< since the epoch
  /// Of the regular file that has this path now.
  static Result<FileIdentity> of(const std::string &path);
  bool operator==(const FileIdentity &) const = default;
};

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

  /// Asks the system to map the file by large pages where its cache holds such
  /// (WritableFile::useLargePages), and to read it into such where it does not
  /// hold it yet. Streaming through them costs fewer walks of page tables.
  void useLargePages() const;

  /// Of the file as it was when it was mapped.
  const FileIdentity &identity() const { return opened; }

private:
  const std::byte *data = nullptr;
  size_t length = 0;
  FileIdentity opened;
};

/// Files mapped read-only one behind the other, so that they read as one.
class MappedFiles {
public:
  /// Address space for files of `size` bytes together.
  static Result<MappedFiles> reserve(uint64_t size);
  MappedFiles() = default;
  MappedFiles(MappedFiles &&other) noexcept;
  MappedFiles &operator=(MappedFiles &&other) noexcept;
  ~MappedFiles();

  /// Maps `size` bytes of a regular file behind those that are there, which
  /// end at a page. The file begins with `skip` more bytes, a multiple of the
  /// page size: `check` gets them, or what there is of them, and the file's
  /// size, and must see to it that the file has skip + size bytes.
  Status append(const std::string &path, uint64_t skip, uint64_t size,
                const std::function<Status(std::span<const std::byte> head,
                                           uint64_t fileSize)> &check);
  /// What has been mapped; valid while the object lives.
  std::span<const std::byte> bytes() const { return {data, mapped}; }
  /// The files in order, as they were when they were mapped.
  const std::vector<FileIdentity> &identities() const { return opened; }

private:
  std::byte *data = nullptr;
  size_t reserved = 0, mapped = 0;
  std::vector<FileIdentity> opened;
};

/// Tells the system that the whole pages within `bytes` of a file mapping won't
/// be needed soon; reading them again is slower and gives the same bytes.
void dropResidentPages(std::span<const std::byte> bytes);

/// Reads a whole file of at most `maxBytes`; larger files are an error.
Result<std::string> readFile(const std::string &path, size_t maxBytes);

/// True if `path` names an existing file, directory or device.
bool pathExists(const std::string &path);

/// A file that is written in any order and read back. The destructor closes it
/// and leaves it where it is.
class WritableFile {
public:
  /// Opens `path` and creates it if it isn't there; with `truncate` it loses
  /// what it held. Messages call it `name`.
  static Result<WritableFile> open(const std::string &path, std::string name,
                                   bool truncate);
  WritableFile() = default;
  WritableFile(WritableFile &&other) noexcept;
  WritableFile &operator=(WritableFile &&other) noexcept;
  ~WritableFile();

  /// Writes all bytes at `offset`, extending the file as needed. Thread-safe.
  Status writeAt(uint64_t offset, std::span<const std::byte> bytes);
  /// For a file that will have `size` bytes and be mapped: the first write into
  /// each large page behind today's end writes all of that page, the rest as
  /// zeros, so that the system's cache holds it as one page. File systems that
  /// know no large pages see some more writing. Not thread-safe.
  Status useLargePages(uint64_t size);
  /// Fills `bytes` from `offset` on; InvalidData if the file ends before.
  Status readAt(uint64_t offset, std::span<std::byte> bytes) const;
  Result<uint64_t> size() const;
  /// Cuts the file, or extends it by zeros.
  Status resize(uint64_t size);
  /// Returns when the bytes are on the disk.
  Status sync();
  /// Sets mode 0644 (0755 if `executable`) and closes.
  Status finish(bool executable);
  bool isOpen() const { return fd >= 0; }
  int descriptor() const { return fd; }

private:
  /// Large pages that no write has come to yet.
  struct FreshPages {
    std::mutex mutex;
    uint64_t end = 0; ///< of the file to be
    std::vector<bool> isFresh;
  };
  Status writeAll(uint64_t offset, std::span<const std::byte> bytes);
  Status fillFresh(uint64_t offset, uint64_t size);

  int fd = -1;
  std::string name;
  std::unique_ptr<FreshPages> fresh;
};

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
  Status writeAt(uint64_t offset, std::span<const std::byte> bytes) {
    return content.writeAt(offset, bytes);
  }
  WritableFile &file() { return content; }
  /// Sets mode 0644 (0755 if `executable`) and renames.
  Status commit(bool executable = false);

private:
  OutputFile() = default;
  void discard();
  WritableFile content;
  int slot = -1;
  std::string finalPath;
  std::string partialPath;
};

/// InvalidArgument if something other than a regular file has this path.
Status checkOutputPath(const std::string &path);

/// Removes every uncommitted OutputFile of this process. Async-signal-safe.
void removeUnfinishedOutputs();

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_FILE_H
