//===- TestModel.h - The test artifact, loaded ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_ENGINE_TESTMODEL_H
#define RETORT_TEST_UNIT_ENGINE_TESTMODEL_H

#include "runtime/engine/Session.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <gtest/gtest.h>

namespace retort::test {

/// The test model, of which `edit` may have changed the index.
struct TestModel {
  explicit TestModel(
      const std::function<void(retort::abi::IndexT &)> &edit = {})
      : TestModel(ArtifactBuilder(), edit) {}
  /// With a draft layer.
  static TestModel withDraft() {
    ArtifactBuilder builder;
    builder.addDraft();
    return TestModel(std::move(builder), {});
  }
  TestModel(ArtifactBuilder builder,
            const std::function<void(retort::abi::IndexT &)> &edit)
      : bytes(builder.build(edit)) {
    auto artifact = Artifact::openMemory(bytes.span());
    EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
    auto loaded = Model::load(*artifact);
    EXPECT_TRUE(loaded.isOk()) << loaded.status().message();
    model = *loaded;
  }
  std::unique_ptr<Session> session(const SessionOptions &options = {}) {
    auto made = Session::create(model, options);
    EXPECT_TRUE(made.isOk()) << made.status().message();
    return std::move(*made);
  }
  AlignedBytes bytes;
  std::shared_ptr<const Model> model;
};

inline SessionOptions sessionOptions(unsigned threads, uint32_t chunk = 0,
                                     uint32_t context = 0) {
  SessionOptions options;
  options.threads = threads;
  options.prefillChunk = chunk;
  options.context = context;
  return options;
}

/// `count` ids that look arbitrary.
inline std::vector<int32_t> testTokens(size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i)
    tokens.push_back(int32_t((i * i * 31 + i * 7 + 3) % kVocab));
  return tokens;
}

} // namespace retort::test

#endif // RETORT_TEST_UNIT_ENGINE_TESTMODEL_H
