//===- ArtifactTest.cpp - Opening artifacts ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Artifact.h"
#include "runtime/support/CheckedMath.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

TEST(ArtifactTest, OpensFromAFile) {
  TempFile file("open.retort", ArtifactBuilder().build());
  auto artifact = Artifact::open(file.path);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_EQ((*artifact)->index().model()->name()->str(), "tiny");
  EXPECT_EQ((*artifact)->path(), file.path);
  EXPECT_TRUE((*artifact)->weightsVerified());
}

TEST(ArtifactTest, OpensFromAlignedMemoryInPlace) {
  AlignedBytes bytes(ArtifactBuilder().build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_EQ((*artifact)->bytes().data(), bytes.span().data());
}

TEST(ArtifactTest, CopiesUnalignedMemory) {
  Bytes file = ArtifactBuilder().build();
  file.insert(file.begin(), std::byte{1});
  AlignedBytes bytes(file);
  auto artifact = Artifact::openMemory(bytes.span().subspan(1));
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*artifact)->weight(1).data()) % 64,
            0u);
}

TEST(ArtifactTest, WeightsAreTheBytesOfTheSection) {
  ArtifactBuilder builder;
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk());
  auto weight = (*artifact)->weight(1);
  ASSERT_EQ(weight.size(), 4u * kVocab * kHidden);
  EXPECT_EQ(std::memcmp(weight.data(),
                        builder.sections[1].data() +
                            builder.index.program->weights[1]->offset,
                        weight.size()),
            0);
}

/// The test model as `compile --no-weights` would write it.
ArtifactBuilder withoutWeights() {
  ArtifactBuilder builder;
  builder.index.program->without_weights = true;
  builder.index.sections.erase(builder.index.sections.begin() + 1);
  builder.sections.erase(builder.sections.begin() + 1);
  return builder;
}

TEST(ArtifactTest, WithoutWeightsIsRefused) {
  AlignedBytes bytes(withoutWeights().build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_FALSE(artifact.isOk());
  EXPECT_EQ(artifact.status().code(), retort::Code::Unsupported);
  EXPECT_THAT(artifact.status().message(),
              HasSubstr("compiled without weights"));
}

TEST(ArtifactTest, WithoutWeightsOpensForThoseWhoNeedNone) {
  AlignedBytes bytes(withoutWeights().build());
  OpenOptions options;
  options.allowMissingWeights = true;
  options.weights = WeightCheck::Always;
  auto artifact = Artifact::openMemory(bytes.span(), options);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_FALSE((*artifact)->weightsVerified());
  EXPECT_TRUE((*artifact)->weight(1).empty());
  EXPECT_FALSE((*artifact)->verifyWeights().isOk());
}

TEST(ArtifactTest, AutoVerifiesWeightsOfHalfTheMemoryAtMost) {
  ArtifactBuilder builder;
  AlignedBytes bytes(builder.build());
  OpenOptions options;
  auto open = [&](uint64_t memory) {
    options.physicalMemory = memory;
    auto artifact = Artifact::openMemory(bytes.span(), options);
    EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
    return *artifact;
  };
  uint64_t weights = builder.sections[1].size();
  EXPECT_EQ(open(0)->weightBytes(), weights);
  EXPECT_GT(open(0)->physicalMemory(), 0u);
  EXPECT_TRUE(open(2 * weights)->weightsVerified());
  EXPECT_FALSE(open(2 * weights - 1)->weightsVerified());
  EXPECT_EQ(open(100)->physicalMemory(), 100u);
  options.weights = WeightCheck::Always;
  EXPECT_TRUE(open(2 * weights - 1)->weightsVerified());
}

TEST(ArtifactTest, DamagedWeightsTooLargeToVerifyAreFoundLater) {
  ArtifactBuilder builder;
  AlignedBytes bytes(builder.build([&](retort::abi::IndexT &index) {
    index.program->weights[1]->hash ^= 1;
  }));
  OpenOptions options;
  options.physicalMemory = 100;
  auto artifact = Artifact::openMemory(bytes.span(), options);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_FALSE((*artifact)->verifyWeights().isOk());
}

TEST(ArtifactTest, DecompressesText) {
  ArtifactBuilder builder;
  builder.addText("text/config.json", "{\"a\": 1}");
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_TRUE((*artifact)->hasText("text/config.json"));
  auto text = (*artifact)->text("text/config.json");
  ASSERT_TRUE(text.isOk()) << text.status().message();
  EXPECT_EQ(*text, "{\"a\": 1}");
  EXPECT_EQ((*artifact)->text("text/other").status().code(), Code::NotFound);
  EXPECT_EQ((*artifact)->text("weights").status().code(), Code::NotFound);
}

TEST(ArtifactTest, MissingFileIsNotFound) {
  auto artifact = Artifact::open("/nonexistent/model.retort");
  EXPECT_EQ(artifact.status().code(), Code::NotFound);
}

TEST(ArtifactTest, DirectoryIsAnError) {
  EXPECT_EQ(Artifact::open("/tmp").status().code(), Code::InvalidArgument);
}

TEST(ArtifactTest, EmptyFileIsAnError) {
  auto artifact = Artifact::openMemory({});
  EXPECT_EQ(artifact.status().code(), Code::InvalidData);
  EXPECT_THAT(artifact.status().message(), HasSubstr("found 0"));
}

TEST(ArtifactTest, EveryTruncationIsAnError) {
  AlignedBytes file(ArtifactBuilder().build());
  auto whole = file.span();
  for (size_t size = 0; size < whole.size();
       size += size < 5000 || size + 5000 > whole.size() ? 1 : 61) {
    auto artifact = Artifact::openMemory(whole.first(size));
    ASSERT_FALSE(artifact.isOk()) << "at " << size << " bytes";
    ASSERT_EQ(artifact.status().code(), Code::InvalidData);
  }
}

TEST(ArtifactTest, AppendedBytesAreAnError) {
  Bytes file = ArtifactBuilder().build();
  file.resize(file.size() + 1);
  AlignedBytes bytes(file);
  EXPECT_THAT(Artifact::openMemory(bytes.span()).status().message(),
              HasSubstr("expected a file of"));
}

TEST(ArtifactTest, EveryFlippedByteIsAnError) {
  ArtifactBuilder builder;
  builder.addText("text/config.json", "{\"a\": 1}");
  AlignedBytes file(builder.build());
  OpenOptions options;
  options.threads = 1;
  for (size_t i = 0; i < file.span().size(); ++i) {
    file[i] ^= std::byte(1u << i % 8);
    auto artifact = Artifact::openMemory(file.span(), options);
    ASSERT_FALSE(artifact.isOk()) << "flipped byte " << i;
    ASSERT_FALSE(artifact.status().message().empty());
    file[i] ^= std::byte(1u << i % 8);
  }
  ASSERT_TRUE(Artifact::openMemory(file.span(), options).isOk());
}

TEST(ArtifactTest, UncheckedWeightsAreFoundByVerify) {
  ArtifactBuilder builder;
  AlignedBytes file(builder.build());
  size_t at = builder.index.sections[1]->offset +
              builder.index.program->weights[1]->offset + 5;
  file[at] ^= std::byte{4};
  OpenOptions never;
  never.weights = WeightCheck::Never;
  auto artifact = Artifact::openMemory(file.span(), never);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_FALSE((*artifact)->weightsVerified());
  for (unsigned threads : {0u, 1u, 3u}) {
    Status status = (*artifact)->verifyWeights(threads);
    EXPECT_EQ(status.code(), Code::InvalidData);
    EXPECT_THAT(status.message(), HasSubstr("weight 'head.weight'"));
  }
}

Bytes standalone(const Bytes &artifact,
                 retort::abi::StandaloneFooter footer = {}) {
  Bytes file(10000, std::byte{0x7f}); // an executable of odd size
  file.resize(12288);
  if (footer.artifactSize == 0) {
    footer.artifactOffset = file.size();
    footer.artifactSize = artifact.size();
  }
  std::memcpy(footer.magic, retort::abi::kFooterMagic, sizeof footer.magic);
  file.insert(file.end(), artifact.begin(), artifact.end());
  auto bytes = std::as_bytes(std::span(&footer, 1));
  file.insert(file.end(), bytes.begin(), bytes.end());
  return file;
}

TEST(ArtifactTest, OpensWhatAnExecutableCarries) {
  TempFile file("standalone", standalone(ArtifactBuilder().build()));
  auto artifact = Artifact::openExecutable(file.path);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_TRUE(Artifact::open(file.path).isOk());
}

TEST(ArtifactTest, ExecutableWithoutModelIsNotFound) {
  TempFile file("plain", Bytes(9000, std::byte{0x7f}));
  EXPECT_EQ(Artifact::openExecutable(file.path).status().code(),
            Code::NotFound);
  EXPECT_EQ(Artifact::open(file.path).status().code(), Code::InvalidData);
}

TEST(ArtifactTest, LyingFooterIsAnError) {
  Bytes artifact = ArtifactBuilder().build();
  uint64_t size = artifact.size();
  retort::abi::StandaloneFooter footers[] = {
      {12289, size - 1, {}},    {0, size, {}},    {12288, size + 4096, {}},
      {~0ull - 4095, size, {}}, {8192, size, {}}, {12288, ~0ull, {}},
  };
  for (const auto &footer : footers) {
    TempFile file("liar", standalone(artifact, footer));
    auto opened = Artifact::openExecutable(file.path);
    EXPECT_EQ(opened.status().code(), Code::InvalidData);
    EXPECT_THAT(opened.status().message(), HasSubstr("footer"));
  }
}

} // namespace
