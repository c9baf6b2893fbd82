//===- SafetensorsWriter.h - Streamed safetensors files ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Writes a safetensors file whose tensors are declared first and whose bytes
/// then arrive in order, in pieces of any size, so that nothing is held in
/// memory.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_SAFETENSORSWRITER_H
#define RETORT_RUNTIME_SUPPORT_SAFETENSORSWRITER_H

#include "runtime/support/DType.h"
#include "runtime/support/File.h"
#include "runtime/support/Status.h"

#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace retort {

/// A safetensors file being written. Without commit() no file remains.
class SafetensorsWriter {
public:
  /// A tensor to come: row-major, no dimension negative, `{}` for a scalar.
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
  };

  /// Creates the file and writes its header. Data follows in the order of
  /// `tensors`. Errors: a duplicate name, a size past 2^63, or from the system.
  static Result<SafetensorsWriter>
  create(const std::string &path, const std::vector<Tensor> &tensors,
         const std::map<std::string, std::string> &metadata = {});

  /// Appends the next bytes; a piece may span tensors. More bytes than were
  /// declared are an error.
  Status append(std::span<const std::byte> bytes);

  /// Appends elements as they lie in memory.
  template <typename T>
    requires std::is_arithmetic_v<T>
  Status append(std::span<const T> elements) {
    return append(std::as_bytes(elements));
  }

  /// Bytes that have been declared and not yet appended.
  uint64_t missingBytes() const { return end - position; }

  /// Gives the file its name. An error if bytes are missing.
  Status commit();

private:
  SafetensorsWriter(OutputFile file, std::string path)
      : file(std::move(file)), path(std::move(path)) {}

  OutputFile file;
  std::string path;
  uint64_t position = 0; ///< file offset of the next byte
  uint64_t end = 0;      ///< file size when complete
};

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_SAFETENSORSWRITER_H
