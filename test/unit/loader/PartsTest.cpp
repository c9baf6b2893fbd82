//===- PartsTest.cpp - Split artifacts --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Parts.h"
#include "runtime/loader/Artifact.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>

using namespace retort;
using namespace retort::test;
using retort::abi::kPartAlignment;
using testing::AllOf;
using testing::HasSubstr;

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kId = 0x1234567890abcdef;

Bytes partFile(uint64_t id, uint32_t number, uint32_t count,
               std::span<const std::byte> weights) {
  Bytes file(kPartAlignment);
  retort::abi::PartHeader header{};
  std::memcpy(header.magic, retort::abi::kPartMagic, sizeof header.magic);
  header.version = retort::abi::kPartVersion;
  header.headerSize = kPartAlignment;
  header.weightsId = id;
  header.number = number;
  header.count = count;
  header.size = weights.size();
  header.headerHash =
      XXH3_64bits(&header, offsetof(retort::abi::PartHeader, headerHash));
  std::memcpy(file.data(), &header, sizeof header);
  file.insert(file.end(), weights.begin(), weights.end());
  return file;
}

/// The test model with a third weight, split into three parts, in a folder of
/// its own.
class PartsTest : public testing::Test {
protected:
  void SetUp() override {
    fs::create_directory(folder);
    auto extra = std::make_unique<retort::abi::WeightT>();
    auto &weights = builder.index.program->weights;
    extra->name = "extra";
    extra->encoding = "f32";
    extra->rows = 1;
    extra->cols = 40000;
    extra->offset = builder.sections[1].size();
    extra->size = extra->stored_size = 160000;
    for (size_t i = 0; i < extra->size; ++i)
      builder.sections[1].push_back(std::byte(i * 31 + i / 251));
    weights.push_back(std::move(extra));
    all = builder.sections[1];
    for (auto &weight : weights)
      weight->hash =
          XXH3_64bits(all.data() + weight->offset, weight->stored_size);
    builder.sections.erase(builder.sections.begin() + 1);
    builder.index.sections.erase(builder.index.sections.begin() + 1);
    builder.index.weights_id = kId;
    for (uint64_t at = 0; at < all.size(); at += kPartAlignment) {
      auto part = std::make_unique<retort::abi::PartT>();
      part->name = name(builder.index.parts.size());
      part->size = std::min<uint64_t>(kPartAlignment, all.size() - at);
      parts.push_back(std::span(all).subspan(at, part->size));
      builder.index.parts.push_back(std::move(part));
    }
    ASSERT_EQ(parts.size(), 3u);
    writeParts(kId);
    write("model.retort", builder.build());
  }
  void TearDown() override { fs::remove_all(folder); }

  static std::string name(size_t i) {
    return "model-0000" + std::to_string(i + 1) + "-of-00003.retort-part";
  }
  std::string path(const std::string &file) const {
    return folder + "/" + file;
  }
  void write(const std::string &file, std::span<const std::byte> bytes) {
    std::FILE *f = std::fopen(path(file).c_str(), "wb");
    ASSERT_NE(f, nullptr);
    EXPECT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), f), bytes.size());
    std::fclose(f);
  }
  void writeParts(uint64_t id) {
    for (size_t i = 0; i < parts.size(); ++i)
      write(name(i), partFile(id, static_cast<uint32_t>(i + 1), 3, parts[i]));
  }

  Result<std::shared_ptr<const Artifact>> open() {
    return Artifact::open(path("model.retort"), options);
  }
  void expectError(Code code, const std::vector<std::string> &pieces) {
    auto artifact = open();
    ASSERT_FALSE(artifact.isOk());
    EXPECT_EQ(artifact.status().code(), code) << artifact.status().message();
    for (const std::string &piece : pieces)
      EXPECT_THAT(artifact.status().message(), HasSubstr(piece));
  }
  /// The artifact with a changed index is refused.
  void expectBadIndex(const std::function<void(retort::abi::IndexT &)> &edit,
                      const std::string &message) {
    write("model.retort", builder.build(edit));
    expectError(Code::InvalidData, {message});
  }

  std::string folder =
      (std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") +
      std::string("/retort-parts-") + std::to_string(::getpid());
  OpenOptions options;
  ArtifactBuilder builder;
  Bytes all;
  std::vector<std::span<const std::byte>> parts;
};

TEST_F(PartsTest, WeightsAreContiguous) {
  auto artifact = open();
  ASSERT_TRUE(artifact.isOk()) << artifact.status().message();
  EXPECT_TRUE((*artifact)->weightsVerified());
  EXPECT_TRUE(std::ranges::equal((*artifact)->weights(), all));
  EXPECT_EQ((*artifact)->weightBytes(), all.size());
  const auto &weights = builder.index.program->weights;
  for (uint32_t i = 0; i < weights.size(); ++i)
    EXPECT_TRUE(std::ranges::equal(
        (*artifact)->weight(i),
        std::span(all).subspan(weights[i]->offset, weights[i]->size)));
  uint64_t files = 0;
  for (const auto &entry : fs::directory_iterator(folder))
    files += entry.file_size();
  EXPECT_EQ((*artifact)->storedBytes(), files);
}

TEST_F(PartsTest, OpensInTheCurrentFolder) {
  fs::path before = fs::current_path();
  fs::current_path(folder);
  auto artifact = Artifact::open("model.retort");
  fs::current_path(before);
  EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
}

TEST_F(PartsTest, TheFileItselfMayBeRenamed) {
  fs::rename(path("model.retort"), path("other"));
  auto artifact = Artifact::open(path("other"));
  EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
}

TEST_F(PartsTest, MemoryIsRefused) {
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_FALSE(artifact.isOk());
  EXPECT_EQ(artifact.status().code(), Code::Unsupported);
  EXPECT_THAT(artifact.status().message(), HasSubstr("in 3 parts"));
}

TEST_F(PartsTest, MissingPart) {
  fs::remove(path(name(1)));
  expectError(Code::NotFound, {name(1), "expected part 2 of 3"});
}

TEST_F(PartsTest, PartThatIsAFolder) {
  fs::remove(path(name(1)));
  fs::create_directory(path(name(1)));
  expectError(Code::InvalidArgument, {name(1), "found a directory"});
}

TEST_F(PartsTest, EveryTruncation) {
  uint64_t size = fs::file_size(path(name(2)));
  for (uint64_t keep : {uint64_t(0), uint64_t(1), uint64_t(47), uint64_t(48),
                        kPartAlignment - 1, kPartAlignment, size - 1}) {
    fs::resize_file(path(name(2)), keep);
    expectError(Code::InvalidData, {name(2)});
    write(name(2), partFile(kId, 3, 3, parts[2]));
  }
  EXPECT_TRUE(open().isOk());
}

TEST_F(PartsTest, AppendedBytes) {
  fs::resize_file(path(name(2)), fs::file_size(path(name(2))) + 1);
  expectError(Code::InvalidData, {name(2), "expected a file of"});
}

TEST_F(PartsTest, SwappedParts) {
  fs::rename(path(name(0)), path("x"));
  fs::rename(path(name(1)), path(name(0)));
  fs::rename(path("x"), path(name(1)));
  expectError(Code::InvalidData,
              {name(0), "expected part 1 of 3", "found part 2 of 3"});
}

TEST_F(PartsTest, PartOfAnotherArtifact) {
  write(name(1), partFile(kId + 1, 2, 3, parts[1]));
  expectError(Code::InvalidData,
              {name(1), "found part 2 of 3 of another artifact"});
}

TEST_F(PartsTest, OtherVersion) {
  Bytes file = partFile(kId, 1, 3, parts[0]);
  file[8] = std::byte(7);
  write(name(0), file);
  expectError(Code::Incompatible, {"expected part version 1, found 7"});
}

TEST_F(PartsTest, EveryFlippedByteOfAHeader) {
  Bytes file = partFile(kId, 1, 3, parts[0]);
  for (size_t at = 0; at < kPartAlignment; at += at < 64 ? 1 : 1021) {
    file[at] ^= std::byte(1u << at % 8);
    write(name(0), file);
    EXPECT_FALSE(open().isOk()) << at;
    file[at] ^= std::byte(1u << at % 8);
  }
}

TEST_F(PartsTest, DamagedWeightsAreNamed) {
  Bytes file = partFile(kId, 3, 3, parts[2]);
  file.back() ^= std::byte(1);
  write(name(2), file);
  expectError(Code::InvalidData, {"weight 'extra'", "damaged"});
}

TEST_F(PartsTest, AnExecutableMayHaveParts) {
  Bytes file(4096, std::byte(1)), artifact = builder.build();
  retort::abi::StandaloneFooter footer{4096, artifact.size(), {}};
  std::memcpy(footer.magic, retort::abi::kFooterMagic, sizeof footer.magic);
  file.insert(file.end(), artifact.begin(), artifact.end());
  auto end = std::as_bytes(std::span(&footer, 1));
  file.insert(file.end(), end.begin(), end.end());
  write("model.retort", file);
  auto opened = open();
  EXPECT_TRUE(opened.isOk()) << opened.status().message();
}

TEST_F(PartsTest, NamesOutsideTheFolder) {
  for (const char *bad :
       {"", "/etc/x.retort-part", "../x.retort-part", "a/b.retort-part",
        "a\\b.retort-part", ".x.retort-part", ".retort-part", "x.retort",
        "a\nb.retort-part", "model.safetensors"}) {
    expectBadIndex(
        [&](retort::abi::IndexT &index) { index.parts[1]->name = bad; },
        "part 2: expected the name of a file in the artifact's folder");
    builder.index.parts[1]->name = name(1);
  }
  std::string longName(300, 'x');
  EXPECT_FALSE(isPartName(longName + ".retort-part"));
  EXPECT_TRUE(isPartName("x.retort-part"));
}

TEST_F(PartsTest, NameTwice) {
  expectBadIndex(
      [](retort::abi::IndexT &index) {
        index.parts[1]->name = index.parts[0]->name;
      },
      "appears twice");
}

TEST_F(PartsTest, SizesThatCannotBe) {
  struct {
    size_t part;
    uint64_t size;
    const char *message;
  } rows[] = {{0, 0, "part 1: size: expected 1 to"},
              {0, kPartAlignment + 64, "multiple of 65536"},
              {0, UINT64_MAX / kPartAlignment * kPartAlignment, "part 1: size"},
              {0, uint64_t(1) << 47, "parts: sizes together"},
              {2, 0, "part 3: size"},
              {2, UINT64_MAX, "part 3: size"},
              {2, 64, "go past the weights section"},
              {2, 100000, "weights: expected tensors of"}};
  for (const auto &row : rows) {
    uint64_t before = builder.index.parts[row.part]->size;
    expectBadIndex(
        [&](retort::abi::IndexT &index) {
          index.parts[row.part]->size = row.size;
        },
        row.message);
    builder.index.parts[row.part]->size = before;
  }
}

TEST_F(PartsTest, TooMany) {
  expectBadIndex(
      [](retort::abi::IndexT &index) {
        while (index.parts.size() <= retort::abi::kMaxParts) {
          index.parts.push_back(std::make_unique<retort::abi::PartT>());
          index.parts.back()->name =
              std::to_string(index.parts.size()) + ".retort-part";
          index.parts.back()->size = kPartAlignment;
        }
      },
      "parts: number: expected 1 to 512");
}

TEST_F(PartsTest, BesideAWeightsSection) {
  ArtifactBuilder whole;
  whole.index.parts.push_back(std::make_unique<retort::abi::PartT>());
  whole.index.parts[0]->name = name(0);
  whole.index.parts[0]->size = 64;
  write("model.retort", whole.build());
  expectError(Code::InvalidData, {"expected none beside the weights section"});
}

TEST_F(PartsTest, WithoutWeights) {
  expectBadIndex(
      [](retort::abi::IndexT &index) { index.program->without_weights = true; },
      "parts: expected none in an artifact without weights");
}

TEST_F(PartsTest, IdWithoutParts) {
  ArtifactBuilder whole;
  whole.index.weights_id = 5;
  write("model.retort", whole.build());
  expectError(Code::InvalidData, {"weights_id: expected 0"});
}

} // namespace

TEST_F(PartsTest, StampsKnowAllParts) {
  options.stampFolder = path("stamps");
  options.settleSeconds = 0;
  ASSERT_TRUE(open().isOk());
  options.weights = WeightCheck::Never;
  auto again = open();
  ASSERT_TRUE(again.isOk());
  EXPECT_TRUE((*again)->weightsVerified());
  ::usleep(20'000); // the clock of files has to go on
  Bytes part = partFile(kId, 3, 3, parts[2]);
  part.back() ^= std::byte{1};
  options.weights = WeightCheck::Auto;
  write(name(2), part);
  expectError(Code::InvalidData, {"weight 'extra'"});
}
