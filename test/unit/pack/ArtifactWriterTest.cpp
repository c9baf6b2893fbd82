//===- ArtifactWriterTest.cpp - Whole artifacts -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ArtifactWriter.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Artifact.h"
#include "runtime/loader/Container.h"
#include "test/unit/pack/PackTestSupport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <xxhash.h>
#include <zstd.h>

namespace retort {
namespace {

using namespace test;
using checkpoint::Checkpoint;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";

/// Contents with a section of each kind. The program is as empty as the schema
/// lets it be.
ArtifactContents contentsFor(const Checkpoint &checkpoint) {
  ArtifactContents contents;
  abi::IndexT &index = contents.index;
  index.producer = "test";
  index.model = std::make_unique<abi::ModelT>();
  index.model->family = "qwen2";
  index.model->name = "tiny";
  index.program = std::make_unique<abi::ProgramT>();
  index.targets.push_back(std::make_unique<abi::TargetT>());
  index.targets[0]->name = "x86-64-v3";
  index.targets[0]->triple = "x86_64-unknown-linux-gnu";
  contents.codes.push_back(
      {"code/x86-64-v3", std::vector<std::byte>(5000, std::byte(0xc3))});
  contents.texts.push_back(
      {"text/tokenizer.json", std::string(20000, 'x') + "end"});
  contents.texts.push_back({"data/empty", "", abi::SectionKind::Data});
  contents.weights = {wholeMatrix(checkpoint, kGate, "int4<32>"),
                      literalOf("table", 70)};
  return contents;
}

/// An executable for standalone tests: only its signature matters.
std::string fakeRuntime(const TempDir &dir) {
  std::string path = dir.path("runtime");
  writeText(path, "\x7f"
                  "ELF" +
                      std::string(9000, 'r'));
  return path;
}

class ArtifactWriterTest : public testing::Test {
protected:
  TempDir dir, outDir;
  Checkpoint checkpoint = openModel(dir);
  ArtifactContents contents = contentsFor(checkpoint);
  std::string path = outDir.path("model.retort");

  void expectFailure(Code code, const std::string &message,
                     const WriteOptions &options = {}) {
    auto sizes = writeArtifact(contents, checkpoint, path, options);
    ASSERT_FALSE(sizes);
    EXPECT_EQ(sizes.status().code(), code) << sizes.status().message();
    EXPECT_THAT(sizes.status().message(), HasSubstr(message));
    EXPECT_THAT(listDirectory(outDir.path()), ElementsAre());
  }
};

TEST_F(ArtifactWriterTest, WritesWhatTheLoaderAccepts) {
  auto sizes = writeArtifact(contents, checkpoint, path, {});
  ASSERT_TRUE(sizes) << sizes.status().message();
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre("model.retort"));
  std::vector<std::byte> bytes = readBytes(path);
  EXPECT_EQ(sizes->file, bytes.size());
  EXPECT_EQ(bytes.size() % abi::kPageSize, 0u);
  EXPECT_EQ(sizes->code, 5000u);
  EXPECT_EQ(sizes->weights, *weightsSectionBytes(contents.weights));

  auto checked = checkContainer(bytes, /*ignoreHashes=*/false);
  ASSERT_TRUE(checked) << checked.status().message();
  const auto &sections = *(*checked)->sections();
  ASSERT_EQ(sections.size(), 4u);
  const char *const names[] = {"code/x86-64-v3", "text/tokenizer.json",
                               "data/empty", "weights"};
  const abi::SectionKind kinds[] = {
      abi::SectionKind::Code, abi::SectionKind::Text, abi::SectionKind::Data,
      abi::SectionKind::Weights};
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(sections[i]->name()->str(), names[i]);
    EXPECT_EQ(sections[i]->kind(), kinds[i]);
    EXPECT_EQ(sections[i]->offset() % abi::kPageSize, 0u);
  }
  EXPECT_EQ(bytes[sections[0]->offset() + 4999], std::byte(0xc3));

  std::string text(sections[1]->raw_size(), '\0');
  EXPECT_EQ(ZSTD_decompress(text.data(), text.size(),
                            bytes.data() + sections[1]->offset(),
                            sections[1]->size()),
            text.size());
  EXPECT_EQ(text, contents.texts[0].text);
  EXPECT_EQ(sections[2]->raw_size(), 0u);

  const auto &weights = *(*checked)->program()->weights();
  ASSERT_EQ(weights.size(), 2u);
  EXPECT_EQ(weights[0]->name()->str(), kGate);
  EXPECT_EQ(weights[0]->encoding()->str(), "int4<32>");
  EXPECT_EQ(weights[0]->rows(), 40u);
  EXPECT_EQ(weights[0]->cols(), 32u);
  EXPECT_EQ(weights[0]->sources()->Get(0)->str(), kGate);
  EXPECT_GT(weights[0]->relative_error(), 0.02f);
  EXPECT_EQ(weights[1]->encoding()->str(), "f32");
  EXPECT_EQ(weights[1]->size(), 70u);
  EXPECT_EQ(weights[1]->relative_error(), 0.0f);
  for (const abi::Weight *weight : weights)
    EXPECT_EQ(weight->hash(), XXH3_64bits(bytes.data() + sections[3]->offset() +
                                              weight->offset(),
                                          weight->stored_size()));
}

TEST_F(ArtifactWriterTest, LeavesWeightsOut) {
  ArtifactContents bare = contentsFor(checkpoint);
  bare.withoutWeights = true;
  auto wholeSizes = writeArtifact(contents, checkpoint, path, {});
  auto bareSizes =
      writeArtifact(bare, checkpoint, outDir.path("bare.retort"), {});
  ASSERT_TRUE(wholeSizes) << wholeSizes.status().message();
  ASSERT_TRUE(bareSizes) << bareSizes.status().message();
  EXPECT_EQ(bareSizes->weights, wholeSizes->weights);
  EXPECT_LT(bareSizes->file, wholeSizes->file);
  const abi::ProgramT &whole = *contents.index.program;
  EXPECT_TRUE(bare.index.program->without_weights);
  EXPECT_FALSE(whole.without_weights);
  EXPECT_EQ(bare.index.sections.size() + 1, contents.index.sections.size());
  ASSERT_EQ(bare.index.program->weights.size(), whole.weights.size());
  for (size_t i = 0; i < whole.weights.size(); ++i) {
    const abi::WeightT &a = *bare.index.program->weights[i];
    const abi::WeightT &b = *whole.weights[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.offset, b.offset);
    EXPECT_EQ(a.size, b.size);
    EXPECT_EQ(a.stored_size, b.stored_size);
    EXPECT_EQ(a.hash, 0u);
  }
}

TEST_F(ArtifactWriterTest, EveryByteIsHashedOrZero) {
  ASSERT_TRUE(writeArtifact(contents, checkpoint, path, {}));
  std::vector<std::byte> bytes = readBytes(path);
  auto checked = checkContainer(bytes, false);
  ASSERT_TRUE(checked);
  uint64_t begin = (*checked)->sections()->Get(3)->offset();
  uint64_t end = begin + (*checked)->sections()->Get(3)->size();
  for (size_t at = 0; at < bytes.size(); at += 97) {
    if (at >= begin && at < end)
      continue; // the weights' own hashes are compared above
    bytes[at] ^= std::byte(0x10);
    EXPECT_FALSE(checkContainer(bytes, false)) << at;
    bytes[at] ^= std::byte(0x10);
  }
}

TEST_F(ArtifactWriterTest, WritesTheSameBytesEveryTime) {
  WriteOptions options;
  options.pack.threads = 1;
  ASSERT_TRUE(writeArtifact(contents, checkpoint, path, options));
  ArtifactContents again = contentsFor(checkpoint);
  options.pack.threads = 4;
  ASSERT_TRUE(writeArtifact(again, checkpoint, outDir.path("other"), options));
  EXPECT_EQ(readBytes(path), readBytes(outDir.path("other")));
}

TEST_F(ArtifactWriterTest, ReplacesAnOlderFile) {
  writeText(path, std::string(1 << 20, 'o'));
  auto sizes = writeArtifact(contents, checkpoint, path, {});
  ASSERT_TRUE(sizes);
  EXPECT_EQ(readBytes(path).size(), sizes->file);
}

TEST_F(ArtifactWriterTest, IndexMayGrowWhenExamined) {
  contents.examine = [&](const std::string &partial,
                         abi::IndexT &index) -> Result<bool> {
    std::vector<std::byte> partialBytes = readBytes(partial);
    EXPECT_TRUE(findStandalone(partialBytes));
    index.properties.push_back(std::make_unique<abi::PropertyT>());
    index.properties[0]->key = "note";
    index.properties[0]->value = std::string(9000, 'n');
    return true;
  };
  contents.standaloneRuntime = fakeRuntime(dir);
  auto sizes = writeArtifact(contents, checkpoint, path, {});
  ASSERT_TRUE(sizes) << sizes.status().message();
  std::vector<std::byte> file = readBytes(path);
  EXPECT_EQ(file.size(), sizes->file);
  auto artifact = findStandalone(file);
  ASSERT_TRUE(artifact) << artifact.status().message();
  std::vector<std::byte> bytes(artifact->begin(), artifact->end());
  auto checked = checkContainer(bytes, false);
  ASSERT_TRUE(checked) << checked.status().message();
  EXPECT_EQ((*checked)->properties()->Get(0)->value()->size(), 9000u);
}

TEST_F(ArtifactWriterTest, BothWaysToAStandaloneGiveTheSameExecutable) {
  std::string runtime = fakeRuntime(dir);
  ASSERT_TRUE(writeArtifact(contents, checkpoint, path, {}));
  Status joined = writeStandalone(runtime, path, outDir.path("joined"));
  ASSERT_TRUE(joined) << joined.message();
  ArtifactContents direct = contentsFor(checkpoint);
  direct.standaloneRuntime = runtime;
  auto sizes = writeArtifact(direct, checkpoint, outDir.path("direct"), {});
  ASSERT_TRUE(sizes) << sizes.status().message();

  std::vector<std::byte> file = readBytes(outDir.path("joined"));
  EXPECT_EQ(file, readBytes(outDir.path("direct")));
  EXPECT_EQ(file.size(), sizes->file);
  std::vector<std::byte> head = readBytes(runtime);
  EXPECT_TRUE(std::equal(head.begin(), head.end(), file.begin()));
  auto artifact = findStandalone(file);
  ASSERT_TRUE(artifact) << artifact.status().message();
  EXPECT_EQ(static_cast<uint64_t>(artifact->data() - file.data()) %
                abi::kPageSize,
            0u);
  EXPECT_TRUE(std::ranges::equal(*artifact, readBytes(path)));
  for (const char *name : {"joined", "direct"}) {
    struct stat st{};
    ASSERT_EQ(::stat(outDir.path(name).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0755u);
  }
}

TEST_F(ArtifactWriterTest, RefusesTwoSectionsOfAName) {
  contents.texts[1].name = contents.texts[0].name;
  expectFailure(Code::InvalidArgument,
                "two sections are named 'text/tokenizer.json'");
}

TEST_F(ArtifactWriterTest, RefusesTwoWeightsOfAName) {
  contents.weights[1].name = kGate;
  expectFailure(Code::InvalidArgument, "two weights are named '" + kGate + "'");
}

TEST_F(ArtifactWriterTest, RefusesATargetWithoutCode) {
  contents.index.targets[0]->section = 1;
  expectFailure(Code::InvalidArgument, "a target names a code section");
}

TEST_F(ArtifactWriterTest, RefusesAnIndexWithoutProgram) {
  contents.index.program.reset();
  expectFailure(Code::InvalidArgument, "needs a model and a program");
}

TEST_F(ArtifactWriterTest, LeavesNothingAfterABadWeight) {
  contents.weights[0].rowRuns[0].tensor = "absent";
  expectFailure(Code::NotFound, "expected tensor 'absent', found none");
}

TEST_F(ArtifactWriterTest, LeavesNothingAfterACancel) {
  std::atomic<bool> cancel = true;
  WriteOptions options;
  options.pack.cancel = &cancel;
  expectFailure(Code::Cancelled, "cancelled", options);
}

TEST_F(ArtifactWriterTest, LeavesNothingOnAFullDisk) {
  // Wherever it is full: in a code, text, weights or the index.
  for (rlim_t size : {1000u, 6000u, 13000u, 21000u}) {
    FileSizeLimit limit(size);
    expectFailure(Code::Io, path + ": cannot write: File too large");
  }
}

TEST_F(ArtifactWriterTest, RefusesAnOutputThatCannotBe) {
  for (const std::string &bad :
       {outDir.path("absent/model.retort"), std::string("/proc/model.retort"),
        outDir.path(), std::string("/dev/null"), std::string()}) {
    auto sizes = writeArtifact(contents, checkpoint, bad, {});
    EXPECT_FALSE(sizes) << bad;
  }
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre());
}

TEST_F(ArtifactWriterTest, RefusesARuntimeThatIsNoExecutable) {
  contents.standaloneRuntime = dir.path("config.json");
  expectFailure(Code::InvalidData, "config.json: expected an ELF executable");
  contents.standaloneRuntime = dir.path("absent");
  expectFailure(Code::NotFound, "absent: cannot open");
}

TEST_F(ArtifactWriterTest, StandaloneRefusesWhatIsNoArtifact) {
  ASSERT_TRUE(writeArtifact(contents, checkpoint, path, {}));
  std::string runtime = fakeRuntime(dir), out = outDir.path("out");
  auto text = readFile(path, 1 << 20);
  ASSERT_TRUE(text);
  struct {
    std::string bytes, message;
  } rows[] = {
      {"", "expected an artifact, found 0 bytes"},
      {std::string(100, 'x'), "expected an artifact's signature"},
      {text->substr(0, text->size() - 1), "bytes, found"},
      {*text + "x", "bytes, found"},
      {text->substr(0, 9) + "x" + text->substr(10), "hash does not match"}};
  for (const auto &row : rows) {
    writeText(dir.path("bad"), row.bytes);
    Status status = writeStandalone(runtime, dir.path("bad"), out);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.code(), Code::InvalidData);
    EXPECT_THAT(status.message(), HasSubstr(row.message));
  }
  EXPECT_FALSE(writeStandalone(dir.path("config.json"), path, out));
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre("model.retort"));
}

} // namespace
} // namespace retort
