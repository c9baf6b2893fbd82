//===- PartialOutput.cpp - An artifact that is being written ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/PartialOutput.h"

#include "runtime/loader/Parts.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace retort {
namespace {

namespace fs = std::filesystem;

/// Records of a million weights, and the inputs.
constexpr size_t kMaxJournalBytes = size_t(256) << 20;
/// Finished weights are read again in pieces of this many bytes.
constexpr uint64_t kReadBytes = uint64_t(4) << 20;
/// Another process may remove the folder between making and locking it.
constexpr int kLockAttempts = 8;

Status ioError(const std::string &path, const char *what) {
  int e = errno;
  return Status::error(e == ENOENT ? Code::NotFound : Code::Io,
                       path + ": cannot " + what + ": " + std::strerror(e));
}

/// Names that were made so far stay, whatever happens to the machine.
Status syncFolder(const std::string &folder) {
  int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return ioError(folder, "open");
  // Some file systems have no such thing.
  bool good = ::fsync(fd) == 0 || errno == EINVAL;
  Status status = good ? Status::ok() : ioError(folder, "write");
  ::close(fd);
  return status;
}

std::string folderOf(const std::string &path) {
  std::string folder = path.substr(0, path.rfind('/') + 1);
  return folder.empty() ? "." : folder;
}

} // namespace

Result<std::unique_ptr<PartialOutput>>
PartialOutput::open(const std::string &path) {
  if (path.empty() || path.ends_with('/'))
    return Status::error(Code::InvalidArgument,
                         "expected the name of a file to write, found '" +
                             path + "'");
  RETORT_RETURN_IF_ERROR(checkOutputPath(path));
  std::unique_ptr<PartialOutput> output(new PartialOutput);
  output->path = path;
  output->folder = path + ".partial";
  output->mainName = path.substr(path.rfind('/') + 1);
  RETORT_RETURN_IF_ERROR(output->lock());
  if (Status status = output->checkFolder(); !status.isOk()) {
    output->isCommitted = true; // leave it alone
    return status;
  }
  return output;
}

Status PartialOutput::lock() {
  std::string name = journalPath();
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    struct stat opened, named;
    bool isNew = ::mkdir(folder.c_str(), 0755) == 0;
    if (!isNew && errno != EEXIST)
      return ioError(path, "create");
    if (!isNew &&
        (::stat(folder.c_str(), &named) != 0 || !S_ISDIR(named.st_mode)))
      return Status::error(Code::InvalidArgument,
                           folder + ": expected a folder of an unfinished "
                                    "compile, found something else");
    // What a user put there is not opened for writing.
    if (::lstat(name.c_str(), &named) == 0 && !S_ISREG(named.st_mode))
      return Status::error(Code::InvalidArgument,
                           name + ": expected a regular file");
    auto file = WritableFile::open(name, path, /*truncate=*/false);
    if (!file) {
      if (file.status().code() == Code::NotFound)
        continue; // the folder has gone
      return file.takeStatus();
    }
    if (::flock(file->descriptor(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK)
        return Status::error(Code::InvalidArgument,
                             path + ": another compile is writing it");
      return ioError(name, "lock");
    }
    if (::fstat(file->descriptor(), &opened) == 0 &&
        ::stat(name.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
        opened.st_dev == named.st_dev) {
      journal = std::move(*file);
      return Status::ok();
    }
  }
  return Status::error(Code::Io, path + ": another compile is writing it");
}

/// A folder with other files and without a journal belongs to somebody else.
Status PartialOutput::checkFolder() {
  RETORT_ASSIGN_OR_RETURN(uint64_t size, journal.size());
  std::vector<std::byte> start(std::min<uint64_t>(size, sizeof(JournalHeader)));
  RETORT_RETURN_IF_ERROR(journal.readAt(0, start));
  if (startsLikeJournal(start))
    return Status::ok();
  std::error_code error;
  fs::path own = journalPath();
  for (fs::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error))
    if (it->path().filename() != own.filename())
      return Status::error(Code::InvalidArgument,
                           folder + ": expected a folder of an unfinished "
                                    "compile, found other files: move it away");
  isTakenOver = true;
  return Status::ok();
}

PartialOutput::~PartialOutput() {
  bool stays = isCommitted || !journal.isOpen() || holdsFinished() ||
               (keepFinished && !isTakenOver);
  if (stays)
    return;
  removeContent();
  ::unlink(journalPath().c_str());
  ::rmdir(folder.c_str());
}

Result<std::vector<PackedWeight>>
PartialOutput::readJournal(const ResumeOptions &options) {
  std::vector<PackedWeight> none;
  RETORT_ASSIGN_OR_RETURN(uint64_t size, journal.size());
  if (!options.resume || size == 0)
    return none;
  auto anew = [&](const std::string &why) {
    if (options.note)
      options.note(folder + " " + why + ": starting anew");
    return none;
  };
  if (size > kMaxJournalBytes)
    return anew("has a journal of " + std::to_string(size) + " bytes");
  std::vector<std::byte> bytes(size);
  RETORT_RETURN_IF_ERROR(journal.readAt(0, bytes));
  Result<Journal> found = parseJournal(bytes);
  if (!found)
    return anew("is damaged (" + found.status().message() + ")");
  if (std::string names = describeDifference(found->inputs, plan.inputs);
      !names.empty())
    return anew("was begun with something else (" + names + ")");
  inputsHash = found->inputsHash;
  return recordedWeights(*found, plan.placed);
}

Status PartialOutput::begin(OutputPlan wanted, const ResumeOptions &options) {
  plan = std::move(wanted);
  for (const PackedWeight &weight : plan.placed)
    totalBytes += weight.storedSize;
  RETORT_ASSIGN_OR_RETURN(std::vector<PackedWeight> recorded,
                          readJournal(options));
  if (recorded.empty()) {
    RETORT_RETURN_IF_ERROR(startAnew());
    return openFiles();
  }
  for (const PackedWeight &weight : recorded)
    finishedBytes += weight.storedSize;
  RETORT_RETURN_IF_ERROR(openFiles());
  return verify(recorded, options);
}

/// The files go before the journal that told of them.
Status PartialOutput::startAnew() {
  isTakenOver = true;
  removeContent();
  RETORT_RETURN_IF_ERROR(journal.resize(0));
  std::vector<std::byte> bytes = encodeJournal(plan.inputs);
  RETORT_RETURN_IF_ERROR(journal.writeAt(0, bytes));
  RETORT_ASSIGN_OR_RETURN(Journal parsed, parseJournal(bytes));
  inputsHash = parsed.inputsHash;
  journalEnd = bytes.size();
  return journal.sync();
}

/// Opens the files and cuts what they hold beyond the weights.
Status PartialOutput::openFiles() {
  files.push_back(std::make_unique<File>(mainName));
  std::vector<uint64_t> ends = {0};
  for (const WeightPiece &piece : plan.pieces) {
    if (!piece.part.empty()) {
      files.push_back(std::make_unique<File>(piece.part));
      ends.push_back(0);
    }
    ends.back() = piece.fileOffset + piece.size;
  }
  std::string finalFolder = path.substr(0, path.rfind('/') + 1);
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string &name = files[i]->name;
    RETORT_RETURN_IF_ERROR(checkOutputPath(finalFolder + name));
    RETORT_ASSIGN_OR_RETURN(files[i]->file,
                            WritableFile::open(folder + "/" + name,
                                               finalFolder + name,
                                               /*truncate=*/false));
    RETORT_ASSIGN_OR_RETURN(uint64_t size, files[i]->file.size());
    if (size > ends[i])
      RETORT_RETURN_IF_ERROR(files[i]->file.resize(ends[i]));
    RETORT_RETURN_IF_ERROR(files[i]->file.useLargePages(ends[i]));
  }
  return Status::ok();
}

template <typename Visit>
Status PartialOutput::forPieces(uint64_t offset, uint64_t size, Visit visit) {
  uint64_t begin = 0; // of the piece
  size_t nextPart = 1;
  for (const WeightPiece &piece : plan.pieces) {
    File &file = *files[piece.part.empty() ? 0 : nextPart++];
    uint64_t end = begin + piece.size;
    uint64_t from = std::max(offset, begin), to = std::min(offset + size, end);
    if (from < to)
      RETORT_RETURN_IF_ERROR(visit(file, piece.fileOffset + from - begin,
                                   from - offset, to - from));
    begin = end;
  }
  return Status::ok();
}

Status PartialOutput::write(uint64_t offset, std::span<const std::byte> bytes) {
  return forPieces(offset, bytes.size(),
                   [&](File &file, uint64_t at, uint64_t from, uint64_t size) {
                     file.isDirty = true;
                     return file.file.writeAt(at, bytes.subspan(from, size));
                   });
}

Result<uint64_t> PartialOutput::hashWeight(const PackedWeight &weight) {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state(
      XXH3_createState(), XXH3_freeState);
  std::vector<std::byte> buffer(std::min(weight.storedSize, kReadBytes));
  if (!state)
    return Status::error(Code::OutOfMemory, "no memory for a hash");
  XXH3_64bits_reset(state.get());
  for (uint64_t at = 0; at < weight.storedSize; at += buffer.size()) {
    auto bytes = std::span(buffer).first(
        std::min<uint64_t>(buffer.size(), weight.storedSize - at));
    RETORT_RETURN_IF_ERROR(forPieces(
        weight.offset + at, bytes.size(),
        [&](File &file, uint64_t offset, uint64_t from, uint64_t size) {
          return file.file.readAt(offset, bytes.subspan(from, size));
        }));
    XXH3_64bits_update(state.get(), bytes.data(), bytes.size());
  }
  return XXH3_64bits_digest(state.get());
}

/// Takes over the recorded weights up to the first whose bytes are wrong.
Status PartialOutput::verify(std::span<const PackedWeight> recorded,
                             const ResumeOptions &options) {
  std::string damage;
  uint64_t right = 0;
  for (const PackedWeight &weight : recorded) {
    if (options.cancel && options.cancel->load())
      return Status::error(Code::Cancelled, "the compile was cancelled");
    Result<uint64_t> hash = hashWeight(weight);
    if (!hash && hash.status().code() != Code::InvalidData)
      return hash.takeStatus();
    if (!hash || *hash != weight.hash) {
      damage = "; what follows is damaged";
      break;
    }
    done.push_back(weight);
    right += weight.storedSize;
    if (options.progress)
      options.progress(right, finishedBytes);
  }
  finishedBytes = right;
  isTakenOver = true;
  journalEnd =
      encodeJournal(plan.inputs).size() + done.size() * sizeof(JournalRecord);
  RETORT_RETURN_IF_ERROR(journal.resize(journalEnd));
  if (options.note)
    options.note("going on: " + describe() + damage);
  return Status::ok();
}

std::string PartialOutput::describe() const {
  double share = totalBytes == 0 ? 0
                                 : 100.0 * static_cast<double>(finishedBytes) /
                                       static_cast<double>(totalBytes);
  char text[16];
  std::snprintf(text, sizeof text, "%.0f%%", share);
  return folder + " holds " + text + " of the weights";
}

Status PartialOutput::sync() {
  for (auto &file : files)
    if (file->isDirty.exchange(false))
      if (Status status = file->file.sync(); !status.isOk()) {
        file->isDirty = true;
        return status;
      }
  return Status::ok();
}

Status PartialOutput::record(size_t first,
                             std::span<const PackedWeight> weights) {
  RETORT_RETURN_IF_ERROR(sync());
  std::vector<JournalRecord> records;
  uint64_t bytes = 0;
  for (const PackedWeight &weight : weights) {
    records.push_back(makeRecord(first + records.size(), weight, inputsHash));
    bytes += weight.storedSize;
  }
  auto encoded = std::as_bytes(std::span(records));
  RETORT_RETURN_IF_ERROR(journal.writeAt(journalEnd, encoded));
  RETORT_RETURN_IF_ERROR(journal.sync());
  journalEnd += encoded.size();
  finishedBytes += bytes;
  return Status::ok();
}

Status PartialOutput::commit(bool executable) {
  RETORT_RETURN_IF_ERROR(sync());
  RETORT_RETURN_IF_ERROR(main().sync());
  std::string finalFolder = path.substr(0, path.rfind('/') + 1);
  // The artifact's own file last: until then the old one, if there is one,
  // refuses the new parts.
  for (size_t i = files.size(); i-- > 0;) {
    if (i == 0 && files.size() > 1)
      RETORT_RETURN_IF_ERROR(syncFolder(folderOf(path)));
    File &file = *files[i];
    RETORT_RETURN_IF_ERROR(file.file.finish(i == 0 && executable));
    std::string from = folder + "/" + file.name, to = finalFolder + file.name;
    if (::rename(from.c_str(), to.c_str()) != 0)
      return ioError(to, "rename the finished file to");
  }
  isCommitted = true;
  removeContent();
  ::unlink(journalPath().c_str());
  ::rmdir(folder.c_str());
  // The artifact is complete, even if the disk can't say so.
  (void)syncFolder(folderOf(path)).isOk();
  return Status::ok();
}

/// Removes the files that this class makes, but for the journal.
void PartialOutput::removeContent() {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name == mainName || isPartName(name))
      found.push_back(it->path());
  }
  for (const fs::path &file : found)
    ::unlink(file.c_str());
}

} // namespace retort
