//===- File.cpp - Mapped files and atomic output ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/File.h"

#include "runtime/support/CheckedMath.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace retort {
namespace {

Status ioError(const std::string &path, const char *what) {
  int e = errno;
  Code code = e == ENOENT ? Code::NotFound : Code::Io;
  return Status::error(code,
                       path + ": cannot " + what + ": " + std::strerror(e));
}

/// Paths that a signal handler must remove. Fixed storage, because a handler
/// may neither allocate nor take a lock.
constexpr int kMaxOutputs = 16;
constexpr size_t kMaxPath = 4096;
char outputPaths[kMaxOutputs][kMaxPath];
std::atomic<int> outputState[kMaxOutputs]; // 0 free, 1 being set, 2 live

int registerOutput(const std::string &path) {
  if (path.size() >= kMaxPath)
    return -1;
  for (int i = 0; i < kMaxOutputs; ++i) {
    int expected = 0;
    if (!outputState[i].compare_exchange_strong(expected, 1))
      continue;
    std::memcpy(outputPaths[i], path.c_str(), path.size() + 1);
    outputState[i].store(2);
    return i;
  }
  return -1;
}

void unregisterOutput(int slot) {
  if (slot >= 0)
    outputState[slot].store(0);
}

/// Closes a descriptor at the end of a scope.
struct FdCloser {
  int fd;
  ~FdCloser() { ::close(fd); }
};

/// What stat() has said of a file.
Result<FileIdentity> identityOf(const std::string &path,
                                const struct stat &st) {
  if (!S_ISREG(st.st_mode))
    return Status::error(
        Code::InvalidArgument,
        path + ": expected a regular file" +
            (S_ISDIR(st.st_mode) ? ", found a directory" : ""));
#ifdef __APPLE__
  const timespec &modified = st.st_mtimespec, &changed = st.st_ctimespec;
#else
  const timespec &modified = st.st_mtim, &changed = st.st_ctim;
#endif
  auto nanoseconds = [](const timespec &time) {
    return int64_t(time.tv_sec) * 1'000'000'000 + int64_t(time.tv_nsec);
  };
  return FileIdentity{static_cast<uint64_t>(st.st_dev),
                      static_cast<uint64_t>(st.st_ino),
                      static_cast<uint64_t>(st.st_size), nanoseconds(modified),
                      nanoseconds(changed)};
}

Result<int> openRegular(const std::string &path, FileIdentity &identity) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return ioError(path, "open");
  struct stat st;
  if (::fstat(fd, &st) != 0) {
    Status s = ioError(path, "stat");
    ::close(fd);
    return s;
  }
  auto found = identityOf(path, st);
  if (!found) {
    ::close(fd);
    return found.takeStatus();
  }
  identity = *found;
  return fd;
}

/// Reads `size` bytes from where the descriptor stands.
Status readAll(int fd, const std::string &path, void *to, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = ::read(fd, static_cast<char *>(to) + done, size - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ioError(path, "read");
    if (n == 0)
      return Status::error(Code::Io,
                           path + ": expected " + std::to_string(size) +
                               " bytes, found " + std::to_string(done));
    done += static_cast<size_t>(n);
  }
  return Status::ok();
}

} // namespace

Result<FileIdentity> FileIdentity::of(const std::string &path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0)
    return ioError(path, "stat");
  return identityOf(path, st);
}

Result<MappedFile> MappedFile::open(const std::string &path) {
  MappedFile file;
  RETORT_ASSIGN_OR_RETURN(int fd, openRegular(path, file.opened));
  FdCloser closer{fd};
  uint64_t size = file.opened.size;
  if (size == 0)
    return file;
  void *p = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED)
    return ioError(path, "map");
  file.data = static_cast<const std::byte *>(p);
  file.length = size;
  return file;
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : data(std::exchange(other.data, nullptr)),
      length(std::exchange(other.length, 0)), opened(other.opened) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(data, other.data);
  std::swap(length, other.length);
  std::swap(opened, other.opened);
  return *this;
}

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<std::byte *>(data), length);
}

void MappedFile::dropResident(size_t offset, size_t size) const {
  if (data && offset < length)
    dropResidentPages({data + offset, std::min(size, length - offset)});
}

void MappedFile::useLargePages() const {
#ifdef MADV_HUGEPAGE
  if (data)
    ::madvise(const_cast<std::byte *>(data), length, MADV_HUGEPAGE);
#endif
}

Result<MappedFiles> MappedFiles::reserve(uint64_t size) {
  MappedFiles files;
  if (size == 0)
    return files;
  void *p = ::mmap(nullptr, size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return Status::error(Code::OutOfMemory, "cannot reserve " +
                                                std::to_string(size) +
                                                " bytes of address space");
  files.data = static_cast<std::byte *>(p);
  files.reserved = size;
  return files;
}

MappedFiles::MappedFiles(MappedFiles &&other) noexcept
    : data(std::exchange(other.data, nullptr)),
      reserved(std::exchange(other.reserved, 0)),
      mapped(std::exchange(other.mapped, 0)), opened(std::move(other.opened)) {}

MappedFiles &MappedFiles::operator=(MappedFiles &&other) noexcept {
  std::swap(data, other.data);
  std::swap(reserved, other.reserved);
  std::swap(mapped, other.mapped);
  std::swap(opened, other.opened);
  return *this;
}

MappedFiles::~MappedFiles() {
  if (data)
    ::munmap(data, reserved);
}

Status
MappedFiles::append(const std::string &path, uint64_t skip, uint64_t size,
                    const std::function<Status(std::span<const std::byte> head,
                                               uint64_t fileSize)> &check) {
  FileIdentity identity;
  RETORT_ASSIGN_OR_RETURN(int fd, openRegular(path, identity));
  FdCloser closer{fd};
  uint64_t fileSize = identity.size;
  std::vector<std::byte> head(std::min(skip, fileSize));
  RETORT_RETURN_IF_ERROR(readAll(fd, path, head.data(), head.size()));
  RETORT_RETURN_IF_ERROR(check(head, fileSize));
  if (fileSize < skip || size > fileSize - skip || size > reserved - mapped)
    return Status::error(Code::Internal, path + ": cannot map " +
                                             std::to_string(size) + " bytes");
  opened.push_back(identity);
  if (size == 0)
    return Status::ok();
  if (::mmap(data + mapped, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
             static_cast<off_t>(skip)) == MAP_FAILED)
    return ioError(path, "map");
  mapped += size;
  return Status::ok();
}

void dropResidentPages(std::span<const std::byte> bytes) {
  auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto first = reinterpret_cast<uintptr_t>(bytes.data());
  uintptr_t begin = (first + page - 1) / page * page;
  uintptr_t end = (first + bytes.size()) / page * page;
  if (begin < end)
    ::madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
}

Result<std::string> readFile(const std::string &path, size_t maxBytes) {
  FileIdentity identity;
  RETORT_ASSIGN_OR_RETURN(int fd, openRegular(path, identity));
  FdCloser closer{fd};
  uint64_t size = identity.size;
  if (size > maxBytes)
    return Status::error(Code::InvalidData, path + ": expected at most " +
                                                std::to_string(maxBytes) +
                                                " bytes, found " +
                                                std::to_string(size));
  std::string out(size, '\0');
  RETORT_RETURN_IF_ERROR(readAll(fd, path, out.data(), size));
  return out;
}

bool pathExists(const std::string &path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0;
}

Result<WritableFile> WritableFile::open(const std::string &path,
                                        std::string name, bool truncate) {
  WritableFile file;
  file.name = std::move(name);
  file.fd =
      ::open(path.c_str(),
             O_RDWR | O_CREAT | O_CLOEXEC | (truncate ? O_TRUNC : 0), 0644);
  if (file.fd < 0)
    return ioError(file.name, "create");
  return file;
}

WritableFile::WritableFile(WritableFile &&other) noexcept
    : fd(std::exchange(other.fd, -1)), name(std::move(other.name)),
      fresh(std::move(other.fresh)) {}

WritableFile &WritableFile::operator=(WritableFile &&other) noexcept {
  std::swap(fd, other.fd);
  std::swap(name, other.name);
  std::swap(fresh, other.fresh);
  return *this;
}

WritableFile::~WritableFile() {
  if (fd >= 0)
    ::close(fd);
}

Status WritableFile::useLargePages(uint64_t end) {
  RETORT_ASSIGN_OR_RETURN(uint64_t written, size());
  fresh = std::make_unique<FreshPages>();
  fresh->end = end;
  // Of a page that is partly written the cache has taken small pages.
  uint64_t first = ceilDiv(written, kLargePageBytes);
  fresh->isFresh.assign(ceilDiv(end, kLargePageBytes), true);
  for (uint64_t page = 0; page < std::min(first, fresh->isFresh.size()); ++page)
    fresh->isFresh[page] = false;
  return Status::ok();
}

/// Writes zeros to the large pages in `[offset, offset + size)` that are fresh.
Status WritableFile::fillFresh(uint64_t offset, uint64_t size) {
  static const std::vector<std::byte> zeros(kLargePageBytes);
  // Held while zeros are written: they must not come after another's bytes.
  std::lock_guard lock(fresh->mutex);
  uint64_t end = std::min<uint64_t>(ceilDiv(offset + size, kLargePageBytes),
                                    fresh->isFresh.size());
  for (uint64_t page = offset / kLargePageBytes; page < end; ++page) {
    if (!fresh->isFresh[page])
      continue;
    uint64_t at = page * kLargePageBytes;
    RETORT_RETURN_IF_ERROR(
        writeAll(at, std::span(zeros).first(std::min<uint64_t>(
                         kLargePageBytes, fresh->end - at))));
    fresh->isFresh[page] = false;
  }
  return Status::ok();
}

Status WritableFile::writeAt(uint64_t offset,
                             std::span<const std::byte> bytes) {
  if (fresh && !bytes.empty())
    RETORT_RETURN_IF_ERROR(fillFresh(offset, bytes.size()));
  return writeAll(offset, bytes);
}

Status WritableFile::writeAll(uint64_t offset,
                              std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = ::pwrite(fd, bytes.data() + done, bytes.size() - done,
                         static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ioError(name, "write");
    done += static_cast<size_t>(n);
  }
  return Status::ok();
}

Status WritableFile::readAt(uint64_t offset, std::span<std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = ::pread(fd, bytes.data() + done, bytes.size() - done,
                        static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ioError(name, "read");
    if (n == 0)
      return Status::error(
          Code::InvalidData,
          name + ": expected " + std::to_string(offset + bytes.size()) +
              " bytes or more, found " + std::to_string(offset + done));
    done += static_cast<size_t>(n);
  }
  return Status::ok();
}

Result<uint64_t> WritableFile::size() const {
  struct stat st;
  if (::fstat(fd, &st) != 0)
    return ioError(name, "stat");
  return static_cast<uint64_t>(st.st_size);
}

Status WritableFile::resize(uint64_t size) {
  return ::ftruncate(fd, static_cast<off_t>(size)) == 0
             ? Status::ok()
             : ioError(name, "resize");
}

Status WritableFile::sync() {
  return ::fdatasync(fd) == 0 ? Status::ok() : ioError(name, "write");
}

Status WritableFile::finish(bool executable) {
  if (::fchmod(fd, executable ? 0755 : 0644) != 0)
    return ioError(name, "set the mode of");
  // A deferred write error (quota, full network disk) shows at close.
  if (::close(std::exchange(fd, -1)) != 0)
    return ioError(name, "write");
  return Status::ok();
}

Status checkOutputPath(const std::string &path) {
  struct stat st;
  if (::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode))
    return Status::error(Code::InvalidArgument,
                         path + ": the output must be a regular file");
  return Status::ok();
}

Result<OutputFile> OutputFile::create(const std::string &path) {
  RETORT_RETURN_IF_ERROR(checkOutputPath(path));
  OutputFile file;
  file.finalPath = path;
  file.partialPath = path + ".partial-" + std::to_string(::getpid());
  file.slot = registerOutput(file.partialPath);
  if (file.slot < 0)
    return Status::error(Code::InvalidArgument,
                         path + ": the path is too long, or too many outputs "
                                "are open");
  auto content = WritableFile::open(file.partialPath, path, /*truncate=*/true);
  if (!content) {
    unregisterOutput(std::exchange(file.slot, -1));
    file.partialPath.clear();
    return content.takeStatus();
  }
  file.content = std::move(*content);
  return file;
}

OutputFile::OutputFile(OutputFile &&other) noexcept
    : content(std::move(other.content)), slot(std::exchange(other.slot, -1)),
      finalPath(std::move(other.finalPath)),
      partialPath(std::exchange(other.partialPath, {})) {}

OutputFile &OutputFile::operator=(OutputFile &&other) noexcept {
  std::swap(content, other.content);
  std::swap(slot, other.slot);
  std::swap(finalPath, other.finalPath);
  std::swap(partialPath, other.partialPath);
  return *this;
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() {
  content = WritableFile();
  if (!partialPath.empty())
    ::unlink(std::exchange(partialPath, {}).c_str());
  unregisterOutput(std::exchange(slot, -1));
}

Status OutputFile::commit(bool executable) {
  RETORT_RETURN_IF_ERROR(content.finish(executable));
  if (::rename(partialPath.c_str(), finalPath.c_str()) != 0)
    return ioError(finalPath, "rename the finished file to");
  partialPath.clear();
  unregisterOutput(std::exchange(slot, -1));
  return Status::ok();
}

void removeUnfinishedOutputs() {
  for (int i = 0; i < kMaxOutputs; ++i)
    if (outputState[i].load() == 2)
      ::unlink(outputPaths[i]);
}

} // namespace retort
