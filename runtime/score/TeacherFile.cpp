//===- TeacherFile.cpp - A teacher's distributions on a disk ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TeacherFile.h"

#include "runtime/support/CheckedMath.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/file.h>
#include <xxhash.h>

namespace retort::score {
namespace {

constexpr unsigned char kMagic[8] = {'R', 'T', 'R', 'T', 'L', 'P', 'R', '\n'};
constexpr uint32_t kVersion = 1;
/// Texts are held in memory.
constexpr uint64_t kMaxInputs = uint64_t(1) << 32;
/// Records are written so many bytes at a time.
constexpr size_t kFlushBytes = size_t(1) << 18;

template <typename T> void put(std::vector<std::byte> &out, T value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void putText(std::vector<std::byte> &out, const std::string &text) {
  put(out, static_cast<uint32_t>(text.size()));
  auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void putIds(std::vector<std::byte> &out, std::span<const int32_t> ids) {
  put(out, static_cast<uint64_t>(ids.size()));
  auto bytes = std::as_bytes(ids);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::vector<std::byte> encodeInputs(const TeacherInfo &info) {
  std::vector<std::byte> out;
  putText(out, info.name);
  putIds(out, info.plan.prefix);
  put(out, static_cast<uint32_t>(info.plan.texts.size()));
  for (const Text &text : info.plan.texts) {
    putText(out, text.name);
    put(out, text.firstScored);
    putIds(out, text.tokens);
  }
  return out;
}

/// Reads inputs; `failed` once they end before they should.
struct InputReader {
  std::span<const std::byte> rest;
  bool failed = false;

  template <typename T> T get() {
    T value{};
    if (rest.size() < sizeof value) {
      failed = true;
      return value;
    }
    std::memcpy(&value, rest.data(), sizeof value);
    rest = rest.subspan(sizeof value);
    return value;
  }
  std::string text() {
    uint32_t size = get<uint32_t>();
    if (failed || size > rest.size()) {
      failed = true;
      return {};
    }
    std::string out(reinterpret_cast<const char *>(rest.data()), size);
    rest = rest.subspan(size);
    return out;
  }
  std::vector<int32_t> ids() {
    uint64_t count = get<uint64_t>();
    if (failed || count > rest.size() / sizeof(int32_t)) {
      failed = true;
      return {};
    }
    std::vector<int32_t> out(count);
    if (count > 0)
      std::memcpy(out.data(), rest.data(), count * sizeof(int32_t));
    rest = rest.subspan(count * sizeof(int32_t));
    return out;
  }
};

Status invalid(const std::string &message) {
  return Status::error(Code::InvalidData, message);
}

Status checkIds(std::span<const int32_t> ids, uint32_t vocab,
                const std::string &where) {
  for (int32_t id : ids)
    if (id < 0 || static_cast<uint32_t>(id) >= vocab)
      return invalid(where + ": expected ids below " + std::to_string(vocab) +
                     ", found " + std::to_string(id));
  return Status::ok();
}

Status decodeInputs(std::span<const std::byte> bytes, TeacherInfo &info) {
  InputReader in{bytes};
  info.name = in.text();
  info.plan.prefix = in.ids();
  uint32_t texts = in.get<uint32_t>();
  for (uint32_t i = 0; i < texts && !in.failed; ++i) {
    Text text;
    text.name = in.text();
    text.firstScored = in.get<uint64_t>();
    text.tokens = in.ids();
    info.plan.texts.push_back(std::move(text));
  }
  if (in.failed || !in.rest.empty())
    return invalid("inputs: expected them to end where their bytes do");
  RETORT_RETURN_IF_ERROR(checkIds(info.plan.prefix, info.vocab, "prefix"));
  for (const Text &text : info.plan.texts)
    RETORT_RETURN_IF_ERROR(
        checkIds(text.tokens, info.vocab, "text " + text.name));
  return Status::ok();
}

uint64_t hashOf(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t headerHash(const TeacherHeader &header) {
  return XXH3_64bits(&header, offsetof(TeacherHeader, hash));
}

uint64_t seedOf(const TeacherHeader &header, uint64_t number) {
  return header.hash + number;
}

Status expectedFound(const char *field, uint64_t expected, uint64_t found) {
  return invalid(std::string(field) + ": expected " + std::to_string(expected) +
                 ", found " + std::to_string(found));
}

/// The header, if the bytes begin with a sound one.
Result<TeacherHeader> readHeader(std::span<const std::byte> bytes) {
  TeacherHeader header;
  if (bytes.size() < sizeof header)
    return expectedFound("bytes of the header", sizeof header, bytes.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    return invalid("this is no teacher file");
  if (header.version != kVersion)
    return Status::error(Code::Incompatible,
                         "version: expected " + std::to_string(kVersion) +
                             ", found " + std::to_string(header.version));
  if (header.hash != headerHash(header))
    return invalid("header: the hash does not match");
  if (header.vocab < 1 || header.vocab > INT32_MAX)
    return invalid("vocabulary: expected 1 to " + std::to_string(INT32_MAX) +
                   " ids, found " + std::to_string(header.vocab));
  if (header.topK < 1 || header.topK > std::min(header.vocab, kMaxTopK))
    return invalid("top-k: expected 1 to " +
                   std::to_string(std::min(header.vocab, kMaxTopK)) +
                   ", found " + std::to_string(header.topK));
  if (header.recordSize != recordSize(header.vocab, header.topK))
    return expectedFound("record size", recordSize(header.vocab, header.topK),
                         header.recordSize);
  if (header.inputsSize > kMaxInputs)
    return invalid("inputs: expected at most " + std::to_string(kMaxInputs) +
                   " bytes, found " + std::to_string(header.inputsSize));
  return header;
}

TeacherHeader makeHeader(const TeacherInfo &info, uint64_t records,
                         std::span<const std::byte> inputs) {
  TeacherHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.vocab = info.vocab;
  header.topK = info.topK;
  header.context = info.plan.context;
  header.stride = info.plan.stride;
  header.recordSize = static_cast<uint32_t>(recordSize(info.vocab, info.topK));
  header.records = records;
  header.teacher = info.teacher;
  header.vocabulary = info.vocabulary;
  header.inputsSize = inputs.size();
  header.inputsHash = hashOf(inputs);
  header.hash = headerHash(header);
  return header;
}

/// What differs between two headers that ought to be the same.
std::string differences(const TeacherHeader &a, const TeacherHeader &b) {
  std::string out;
  auto compare = [&](const char *name, auto x, auto y) {
    if (x != y)
      out += (out.empty() ? "" : ", ") + std::string(name);
  };
  compare("the teacher", a.teacher, b.teacher);
  compare("the vocabulary", std::pair(a.vocab, a.vocabulary),
          std::pair(b.vocab, b.vocabulary));
  compare("--top-k", a.topK, b.topK);
  compare("--context", a.context, b.context);
  compare("--stride", a.stride, b.stride);
  compare("the text", std::pair(a.inputsSize, a.inputsHash),
          std::pair(b.inputsSize, b.inputsHash));
  return out.empty() ? "the header" : out;
}

} // namespace

bool isTeacherFile(const std::string &path) {
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (!file)
    return false;
  unsigned char magic[sizeof kMagic];
  bool same = std::fread(magic, 1, sizeof magic, file) == sizeof magic &&
              std::memcmp(magic, kMagic, sizeof magic) == 0;
  std::fclose(file);
  return same;
}

Result<TeacherReader> TeacherReader::open(const std::string &path) {
  RETORT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  RETORT_ASSIGN_OR_RETURN(TeacherReader out, read(file.bytes(), path));
  out.file = std::move(file);
  return out;
}

Result<TeacherReader> TeacherReader::read(std::span<const std::byte> bytes,
                                          std::string name) {
  TeacherReader out;
  out.bytes = bytes;
  out.name = std::move(name);
  auto check = [&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(out.header, readHeader(bytes));
    const TeacherHeader &header = out.header;
    auto records = checkedMul<uint64_t>(header.records, header.recordSize);
    auto size =
        records
            ? checkedAdd<uint64_t>(*records, sizeof header + header.inputsSize)
            : std::nullopt;
    if (!size)
      return invalid("records: expected fewer, found " +
                     std::to_string(header.records));
    if (bytes.size() != *size)
      return expectedFound("bytes of the file", *size, bytes.size());
    auto inputs = bytes.subspan(sizeof header, header.inputsSize);
    if (hashOf(inputs) != header.inputsHash)
      return invalid("inputs: the hash does not match");
    TeacherInfo &info = out.about;
    info.vocab = header.vocab;
    info.topK = header.topK;
    info.teacher = header.teacher;
    info.vocabulary = header.vocabulary;
    info.plan.context = header.context;
    info.plan.stride = header.stride;
    RETORT_RETURN_IF_ERROR(decodeInputs(inputs, info));
    if (Status plan = checkPlan(info.plan); !plan.isOk())
      return invalid(plan.message());
    out.parts = planWindows(info.plan);
    if (countScored(out.parts) != header.records)
      return expectedFound("records", countScored(out.parts), header.records);
    return Status::ok();
  };
  if (Status status = check(); !status.isOk())
    return std::move(status).withContext(out.name);
  return out;
}

Result<TeacherRecord> TeacherReader::record(uint64_t number) const {
  uint64_t at = sizeof header + header.inputsSize + number * header.recordSize;
  auto record = decodeRecord(bytes.subspan(at, header.recordSize), header.vocab,
                             header.topK, seedOf(header, number));
  if (!record.isOk())
    return record.takeStatus().withContext(name + ": record " +
                                           std::to_string(number));
  return record;
}

Result<TeacherWriter> TeacherWriter::create(const std::string &path,
                                            const TeacherInfo &info,
                                            bool resume) {
  RETORT_RETURN_IF_ERROR(checkOutputPath(path));
  RETORT_RETURN_IF_ERROR(checkPlan(info.plan));
  std::vector<std::byte> inputs = encodeInputs(info);
  if (inputs.size() > kMaxInputs)
    return Status::error(Code::InvalidArgument,
                         "texts: expected at most " +
                             std::to_string(kMaxInputs / sizeof(int32_t)) +
                             " tokens");
  TeacherWriter out;
  out.path = path;
  out.partial = path + ".partial";
  out.parts = planWindows(info.plan);
  out.header = makeHeader(info, countScored(out.parts), inputs);
  RETORT_ASSIGN_OR_RETURN(out.file,
                          WritableFile::open(out.partial, out.partial, false));
  if (::flock(out.file.descriptor(), LOCK_EX | LOCK_NB) != 0)
    return Status::error(Code::Io,
                         out.partial + ": another process is writing it");
  RETORT_ASSIGN_OR_RETURN(uint64_t size, out.file.size());
  uint64_t front = sizeof(TeacherHeader) + inputs.size();
  // Killed before its header was written, it holds nothing.
  if (!resume || size < sizeof(TeacherHeader)) {
    RETORT_RETURN_IF_ERROR(out.begin(inputs));
    return out;
  }
  std::vector<std::byte> found(sizeof(TeacherHeader));
  RETORT_RETURN_IF_ERROR(out.file.readAt(0, found));
  auto before = readHeader(found);
  if (!before.isOk())
    return before.takeStatus().withContext(out.partial);
  if (std::memcmp(&*before, &out.header, sizeof(TeacherHeader)) != 0)
    return Status::error(
        Code::InvalidArgument,
        out.partial + ": differs in " + differences(*before, out.header) +
            " from what is asked for; --no-resume begins anew");
  std::vector<std::byte> held(inputs.size());
  if (size >= front)
    RETORT_RETURN_IF_ERROR(out.file.readAt(sizeof(TeacherHeader), held));
  if (held != inputs) {
    RETORT_RETURN_IF_ERROR(out.begin(inputs));
    return out;
  }
  std::vector<std::byte> record(out.header.recordSize);
  while (out.count < out.header.records &&
         front + (out.count + 1) * record.size() <= size) {
    RETORT_RETURN_IF_ERROR(
        out.file.readAt(front + out.count * record.size(), record));
    if (!decodeRecord(record, out.header.vocab, out.header.topK,
                      seedOf(out.header, out.count))
             .isOk())
      break;
    ++out.count;
  }
  RETORT_RETURN_IF_ERROR(out.cut(out.count));
  return out;
}

Status TeacherWriter::begin(std::span<const std::byte> inputs) {
  count = 0;
  RETORT_RETURN_IF_ERROR(file.resize(0));
  RETORT_RETURN_IF_ERROR(file.writeAt(0, std::as_bytes(std::span(&header, 1))));
  return file.writeAt(sizeof header, inputs);
}

Status TeacherWriter::cut(uint64_t number) {
  RETORT_RETURN_IF_ERROR(flush());
  count = std::min(count, number);
  return file.resize(sizeof header + header.inputsSize +
                     count * header.recordSize);
}

Status TeacherWriter::append(const TeacherRecord &record) {
  buffer.resize(buffer.size() + header.recordSize);
  encodeRecord(record, header.vocab, seedOf(header, count + buffered),
               std::span(buffer).last(header.recordSize));
  ++buffered;
  return buffer.size() >= kFlushBytes ? flush() : Status::ok();
}

Status TeacherWriter::flush() {
  if (buffered == 0)
    return Status::ok();
  RETORT_RETURN_IF_ERROR(file.writeAt(
      sizeof header + header.inputsSize + count * header.recordSize, buffer));
  count += buffered;
  buffered = 0;
  buffer.clear();
  return Status::ok();
}

Status TeacherWriter::commit() {
  RETORT_RETURN_IF_ERROR(flush());
  if (count != header.records)
    return Status::error(Code::Internal,
                         path + ": expected " + std::to_string(header.records) +
                             " records, found " + std::to_string(count));
  RETORT_RETURN_IF_ERROR(file.sync());
  RETORT_RETURN_IF_ERROR(file.finish(/*executable=*/false));
  if (std::rename(partial.c_str(), path.c_str()) != 0)
    return Status::error(Code::Io, path + ": cannot rename " + partial + ": " +
                                       std::strerror(errno));
  return Status::ok();
}

} // namespace retort::score
