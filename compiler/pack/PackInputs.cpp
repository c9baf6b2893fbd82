//===- PackInputs.cpp - What decides the packed bytes -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/PackInputs.h"

#include "compiler/checkpoint/QuantizedMatrix.h"
#include "runtime/support/File.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <sys/stat.h>
#include <xxhash.h>

namespace retort {
namespace {

using checkpoint::TensorView;

/// Files are hashed in pieces of this many bytes.
constexpr size_t kPieceBytes = size_t(4) << 20;

/// A hash over fields, each of which says where it ends.
class Hasher {
public:
  Hasher() : state(XXH3_createState(), XXH3_freeState) {
    if (!state)
      throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
  }
  void add(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state.get(), bytes.data(), bytes.size());
  }
  void add(int64_t value) { add(std::as_bytes(std::span(&value, 1))); }
  void add(std::string_view text) {
    add(static_cast<int64_t>(text.size()));
    add(std::as_bytes(std::span(text.data(), text.size())));
  }
  std::string digest() const {
    char text[24];
    std::snprintf(text, sizeof text, "%016" PRIx64,
                  static_cast<uint64_t>(XXH3_64bits_digest(state.get())));
    return text;
  }

private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state;
};

std::string_view baseName(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

void addTensor(const TensorView &tensor, Hasher &hash) {
  hash.add(tensor.name);
  hash.add(static_cast<int64_t>(tensor.dtype));
  hash.add(static_cast<int64_t>(tensor.shape.size()));
  for (int64_t size : tensor.shape)
    hash.add(size);
  hash.add(static_cast<int64_t>(tensor.fileOffset));
  if (tensor.quantized)
    tensor.quantized->forEachPart([&](const TensorView &part) {
      hash.add(part.name);
      hash.add(baseName(part.file));
      hash.add(static_cast<int64_t>(part.fileOffset));
    });
  hash.add(int64_t(tensor.scales.has_value()));
  if (!tensor.scales)
    return;
  hash.add(tensor.scales->blockRows);
  hash.add(tensor.scales->blockCols);
  hash.add(baseName(tensor.scales->file));
  hash.add(static_cast<int64_t>(tensor.scales->fileOffset));
}

Result<std::string> describeFile(const std::string &path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0)
    return Status::error(Code::Io,
                         path + ": cannot stat: " + std::strerror(errno));
  return std::to_string(st.st_size) + " bytes of " +
         std::to_string(st.st_mtim.tv_sec) + "." +
         std::to_string(st.st_mtim.tv_nsec);
}

std::string hashSpecs(std::span<const WeightSpec> specs) {
  Hasher hash;
  for (const WeightSpec &spec : specs) {
    hash.add(spec.name);
    hash.add(static_cast<int64_t>(spec.form));
    hash.add(spec.encoding.str());
    hash.add(spec.rows);
    hash.add(spec.cols);
    hash.add(static_cast<int64_t>(spec.rowRuns.size()));
    for (const RowRun &run : spec.rowRuns) {
      hash.add(run.tensor);
      for (int64_t field : {run.srcRow, run.rows, run.dstRow, run.stripStride,
                            run.colShift, int64_t(run.transposed)})
        hash.add(field);
    }
    hash.add(static_cast<int64_t>(spec.colRuns.size()));
    for (const ColRun &run : spec.colRuns)
      for (int64_t field : {run.srcCol, run.cols, run.dstCol})
        hash.add(field);
    hash.add(static_cast<int64_t>(spec.literal.size()));
    hash.add(spec.literal);
  }
  return hash.digest();
}

} // namespace

std::string describeBuild() {
  auto self = MappedFile::open("/proc/self/exe");
  Hasher hash;
  if (self)
    for (size_t at = 0; at < self->bytes().size(); at += kPieceBytes) {
      size_t size = std::min(kPieceBytes, self->bytes().size() - at);
      hash.add(self->bytes().subspan(at, size));
      self->dropResident(at, size);
    }
  return hash.digest();
}

Result<std::vector<JournalInput>>
packInputs(std::span<const WeightSpec> specs,
           const checkpoint::Checkpoint &checkpoint) {
  std::map<std::string, Hasher> files; // by path
  for (const TensorView &tensor : checkpoint.tensors()) {
    if (tensor.file.empty())
      continue;
    addTensor(tensor, files[std::string(tensor.file)]);
    if (tensor.scales)
      files.try_emplace(std::string(tensor.scales->file));
    if (tensor.quantized)
      tensor.quantized->forEachPart([&](const TensorView &part) {
        files.try_emplace(std::string(part.file));
      });
  }
  std::vector<JournalInput> inputs = {{"Retort's build", describeBuild()}};
  for (const auto &[path, hash] : files) {
    RETORT_ASSIGN_OR_RETURN(std::string file, describeFile(path));
    inputs.push_back(
        {std::string(baseName(path)), file + ", tensors " + hash.digest()});
  }
  inputs.push_back({"the layout of the weights", hashSpecs(specs)});
  return inputs;
}

} // namespace retort
