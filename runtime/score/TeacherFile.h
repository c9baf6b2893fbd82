//===- TeacherFile.h - A teacher's distributions on a disk ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A teacher file holds texts as token ids and, for each scored token, the
/// TeacherRecord of the distribution that it was drawn from:
/// ```
/// TeacherHeader
/// inputs         name of the teacher, prefix, texts: encodeInputs()
/// records        of recordSize bytes each, in the order of planWindows()
/// ```
/// Everything is little-endian. docs/score.md describes every byte.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_TEACHERFILE_H
#define RETORT_RUNTIME_SCORE_TEACHERFILE_H

#include "runtime/score/TeacherRecord.h"
#include "runtime/score/Windows.h"
#include "runtime/support/File.h"

namespace retort::score {

struct TeacherHeader {
  unsigned char magic[8];
  uint32_t version;
  uint32_t vocab; ///< ids that the distributions are over
  uint32_t topK;
  uint32_t context, stride; ///< as in TextPlan
  uint32_t recordSize;
  uint64_t records;
  uint64_t teacher;    ///< identity of the teacher's weights
  uint64_t vocabulary; ///< hash of the tokenizer's tokens; 0 without one
  uint64_t inputsSize; ///< bytes of the inputs behind the header
  uint64_t inputsHash; ///< XXH3-64
  uint64_t hash;       ///< XXH3-64 of the fields before; seeds the records'
};
static_assert(sizeof(TeacherHeader) == 80);

/// What a teacher file is about.
struct TeacherInfo {
  std::string name; ///< of the teacher, for people
  uint32_t vocab = 0, topK = 0;
  uint64_t teacher = 0, vocabulary = 0;
  TextPlan plan;
};

/// True if the file at `path` begins as every teacher file does.
bool isTeacherFile(const std::string &path);

/// A teacher file that is read. Movable.
class TeacherReader {
public:
  /// Maps and checks all but the records. InvalidData names the field or the
  /// size that is wrong.
  static Result<TeacherReader> open(const std::string &path);
  /// Checks bytes, which must outlive the reader.
  static Result<TeacherReader> read(std::span<const std::byte> bytes,
                                    std::string name);

  const TeacherInfo &info() const { return about; }
  const std::vector<Window> &windows() const { return parts; }
  uint64_t records() const { return header.records; }
  /// InvalidData naming file and record if it is damaged.
  Result<TeacherRecord> record(uint64_t number) const;

private:
  TeacherReader() = default;
  MappedFile file;
  std::span<const std::byte> bytes;
  std::string name;
  TeacherHeader header{};
  TeacherInfo about;
  std::vector<Window> parts;
};

/// A teacher file that is being written, as `<path>.partial` until it is
/// complete. If the process ends before, what was written stays there.
class TeacherWriter {
public:
  /// Begins a file, or goes on with the partial one if it is about the same; if
  /// it isn't, that is an error (InvalidArgument) unless `resume` is false. A
  /// file that another process writes is refused (Io).
  static Result<TeacherWriter> create(const std::string &path,
                                      const TeacherInfo &info, bool resume);

  /// Sound records that are there.
  uint64_t records() const { return count; }
  const std::vector<Window> &windows() const { return parts; }
  /// Forgets records from `number` on.
  Status cut(uint64_t number);
  Status append(const TeacherRecord &record);
  /// Writes what append() still holds back.
  Status flush();
  /// All records have been appended: gives the file its name.
  Status commit();

private:
  TeacherWriter() = default;
  Status begin(std::span<const std::byte> inputs);
  std::string path, partial;
  WritableFile file;
  TeacherHeader header{};
  std::vector<Window> parts;
  uint64_t count = 0;
  std::vector<std::byte> buffer; ///< records that aren't written yet
  uint64_t buffered = 0;
};

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_TEACHERFILE_H
