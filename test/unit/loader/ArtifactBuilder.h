//===- ArtifactBuilder.h - Artifacts for the runtime's tests ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Makes a valid artifact of a tiny model, of which a test may change any part
/// before it is laid out. The code section is TestKernels.c.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_LOADER_ARTIFACTBUILDER_H
#define RETORT_TEST_UNIT_LOADER_ARTIFACTBUILDER_H

#include "runtime/abi/Format.h"
#include "runtime/abi/artifact_generated.h"

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort::test {

inline constexpr uint32_t kVocab = 260; ///< 256 bytes and 4 special tokens
inline constexpr uint32_t kVocabStride = 264;
inline constexpr uint32_t kHidden = 16;
inline constexpr uint32_t kMaxChunk = 8;
inline constexpr uint32_t kMaxContext = 100;
inline constexpr uint32_t kHeadTokens = 3;
inline constexpr int32_t kEndToken = 257; ///< "<|end|>"

using Bytes = std::vector<std::byte>;

class ArtifactBuilder {
public:
  /// The whole model; change `index` and the sections' bytes at will.
  ArtifactBuilder();

  abi::IndexT index;
  std::vector<Bytes> sections; ///< stored bytes, parallel to index.sections

  /// Adds a draft layer, which is right now and then.
  void addDraft();
  /// Adds a zstd-compressed section.
  void addText(const std::string &name, std::string_view text,
               abi::SectionKind kind = abi::SectionKind::Text);
  /// Adds tokenizer, its configuration with a chat template, and the like.
  void addTokenizer();
  /// Makes `sections[i]` a copy of the bytes with sizes to match.
  void setSection(size_t i, std::span<const std::byte> bytes);

  /// Sets offsets, sizes and hashes and lays the file out. `edit` may change
  /// the index after that, before it is hashed.
  Bytes build(const std::function<void(abi::IndexT &)> &edit = {});

  /// The buffer (or weight) of that name.
  abi::BufferT &buffer(std::string_view name);
  abi::LaunchT &launch(size_t phase, size_t number) {
    return *index.program->phases[phase]->launches[number];
  }
};

/// Rewrites the hash of the header after a test has changed it.
void rehashHeader(Bytes &file);

/// Bytes on a page boundary, as a mapped file's are.
class AlignedBytes {
public:
  explicit AlignedBytes(std::span<const std::byte> bytes);
  ~AlignedBytes();
  AlignedBytes(const AlignedBytes &) = delete;
  std::span<const std::byte> span() const { return {data, size}; }
  std::byte &operator[](size_t i) { return data[i]; }

private:
  std::byte *data;
  size_t size;
};

/// A path in the tests' temporary directory that is removed at the end.
class TempFile {
public:
  explicit TempFile(const std::string &name,
                    std::span<const std::byte> bytes = {});
  ~TempFile();
  const std::string path;
};

/// What the test model's logits after the last of `tokens` must be, computed
/// independently of the engine.
std::vector<float> expectedLogits(std::span<const int32_t> tokens);

/// What the draft layer's logits must be after tokens of which the last has not
/// been fed yet.
std::vector<float> expectedDraft(std::span<const int32_t> tokens);

/// The tokenizer.json of the test model: a byte per token.
std::string testTokenizerJson();

} // namespace retort::test

#endif // RETORT_TEST_UNIT_LOADER_ARTIFACTBUILDER_H
