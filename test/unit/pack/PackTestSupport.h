//===- PackTestSupport.h - Specs and files for packing tests ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_PACK_PACKTESTSUPPORT_H
#define RETORT_TEST_UNIT_PACK_PACKTESTSUPPORT_H

#include "compiler/pack/Packer.h"
#include "runtime/support/File.h"
#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <sys/resource.h>

#include <csignal>

namespace retort::test {

inline checkpoint::Checkpoint openCheckpoint(const std::string &dir) {
  auto opened = checkpoint::Checkpoint::open(dir);
  if (!opened)
    throw std::runtime_error(opened.status().message());
  return std::move(*opened);
}

inline checkpoint::Checkpoint openModel(const TempDir &dir,
                                        const TinyModel &model = {}) {
  CheckpointBuilder(model).write(dir.path());
  return openCheckpoint(dir.path());
}

inline PackedEncoding encodingOf(std::string_view name) {
  auto encoding = PackedEncoding::parse(name);
  if (!encoding)
    throw std::invalid_argument("no such encoding");
  return *encoding;
}

/// A tensor as it is.
inline WeightSpec wholeMatrix(const checkpoint::Checkpoint &checkpoint,
                              const std::string &tensor,
                              std::string_view encoding) {
  const checkpoint::TensorView *view = checkpoint.find(tensor);
  if (!view)
    throw std::out_of_range("no tensor " + tensor);
  WeightSpec spec;
  spec.name = tensor;
  spec.encoding = encodingOf(encoding);
  spec.rows = view->shape[0];
  spec.cols = view->shape[1];
  spec.rowRuns = {{tensor, 0, spec.rows, 0}};
  spec.colRuns = {{0, spec.cols, 0}};
  return spec;
}

inline WeightSpec vectorOf(const std::string &name, int64_t elements,
                           std::vector<RowRun> runs) {
  WeightSpec spec;
  spec.name = name;
  spec.form = WeightForm::Vector;
  spec.rows = 1;
  spec.cols = elements;
  spec.rowRuns = std::move(runs);
  return spec;
}

inline WeightSpec literalOf(const std::string &name, size_t bytes) {
  WeightSpec spec;
  spec.name = name;
  spec.form = WeightForm::Literal;
  spec.rows = 1;
  spec.cols = static_cast<int64_t>(bytes);
  for (size_t i = 0; i < bytes; ++i)
    spec.literal.push_back(static_cast<std::byte>(i * 7 + 1));
  return spec;
}

/// Weights go to a place in one file.
class FileSink : public WeightSink {
public:
  explicit FileSink(OutputFile &file, uint64_t offset = 0)
      : file(file), offset(offset) {}
  Status write(uint64_t at, std::span<const std::byte> bytes) override {
    return file.writeAt(offset + at, bytes);
  }

private:
  OutputFile &file;
  uint64_t offset;
};

/// All values of a tensor.
inline std::vector<float> valuesOf(const checkpoint::Checkpoint &checkpoint,
                                   const std::string &tensor) {
  const checkpoint::TensorView *view = checkpoint.find(tensor);
  if (!view)
    throw std::out_of_range("no tensor " + tensor);
  std::vector<float> values(static_cast<size_t>(view->elements()));
  if (Status s = checkpoint::readRows(*view, 0, view->shape[0], values);
      !s.isOk())
    throw std::runtime_error(s.message());
  return values;
}

inline std::vector<std::byte> readBytes(const std::string &path) {
  auto text = readFile(path, size_t(1) << 30);
  if (!text)
    throw std::runtime_error(text.status().message());
  std::vector<std::byte> bytes(text->size());
  std::memcpy(bytes.data(), text->data(), text->size());
  return bytes;
}

/// Names in a directory, to see that nothing was left behind.
inline std::vector<std::string> listDirectory(const std::string &dir) {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(dir))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Lets no file grow past `bytes` in a scope: stands for a full disk.
class FileSizeLimit {
public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit limit{bytes, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
  }

private:
  rlimit before{};
  void (*handler)(int) = nullptr;
};

} // namespace retort::test

#endif // RETORT_TEST_UNIT_PACK_PACKTESTSUPPORT_H
