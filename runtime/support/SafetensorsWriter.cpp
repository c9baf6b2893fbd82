//===- SafetensorsWriter.cpp - Streamed safetensors files -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/SafetensorsWriter.h"

#include "runtime/support/CheckedMath.h"

#include <nlohmann/json.hpp>

#include <set>

namespace retort {
namespace {

using nlohmann::ordered_json;

Status tensorError(const std::string &path, const std::string &name,
                   const std::string &message) {
  return Status::error(Code::InvalidArgument,
                       path + ": tensor '" + name + "': " + message);
}

/// Bytes of the tensor's data, if they fit.
std::optional<int64_t> byteCount(const SafetensorsWriter::Tensor &tensor) {
  for (int64_t dim : tensor.shape)
    if (dim < 0)
      return std::nullopt;
  auto count = checkedProduct(std::span<const int64_t>(tensor.shape));
  if (!count)
    return std::nullopt;
  return checkedMul(*count, static_cast<int64_t>(dtypeBytes(tensor.dtype)));
}

} // namespace

Result<SafetensorsWriter>
SafetensorsWriter::create(const std::string &path,
                          const std::vector<Tensor> &tensors,
                          const std::map<std::string, std::string> &metadata) {
  ordered_json header = ordered_json::object();
  if (!metadata.empty())
    header["__metadata__"] = metadata;
  std::set<std::string_view> names{"__metadata__"};
  int64_t offset = 0;
  for (const Tensor &tensor : tensors) {
    if (!names.insert(tensor.name).second)
      return tensorError(path, tensor.name, "the name is taken");
    std::optional<int64_t> bytes = byteCount(tensor);
    std::optional<int64_t> end =
        bytes ? checkedAdd(offset, *bytes) : std::nullopt;
    if (!end)
      return tensorError(path, tensor.name,
                         "a dimension is negative or the size overflows");
    header.push_back({tensor.name,
                      {{"dtype", dtypeName(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"data_offsets", {offset, *end}}}});
    offset = *end;
  }
  std::string text =
      header.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  // Readers that cast pointers want the data aligned.
  text.resize(roundUp<size_t>(text.size(), 8), ' ');
  std::string prefix(8, '\0');
  for (int i = 0; i < 8; ++i)
    prefix[i] = static_cast<char>(text.size() >> (8 * i));

  RETORT_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create(path));
  SafetensorsWriter writer(std::move(output), path);
  writer.end = prefix.size() + text.size() + static_cast<uint64_t>(offset);
  RETORT_RETURN_IF_ERROR(
      writer.append(std::span<const char>(prefix.data(), prefix.size())));
  RETORT_RETURN_IF_ERROR(
      writer.append(std::span<const char>(text.data(), text.size())));
  return writer;
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > missingBytes())
    return Status::error(
        Code::InvalidArgument,
        path + ": expected at most " + std::to_string(missingBytes()) +
            " more bytes of tensors, found " + std::to_string(bytes.size()));
  RETORT_RETURN_IF_ERROR(file.writeAt(position, bytes));
  position += bytes.size();
  return Status::ok();
}

Status SafetensorsWriter::commit() {
  if (missingBytes() != 0)
    return Status::error(Code::InvalidArgument,
                         path + ": " + std::to_string(missingBytes()) +
                             " bytes of tensors are missing");
  return file.commit();
}

} // namespace retort
