//===- PackerTest.cpp - Streamed packing ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/PackedView.h"
#include "compiler/pack/Quantizer.h"
#include "test/unit/pack/PackTestSupport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

namespace retort {
namespace {

using namespace test;
using checkpoint::Checkpoint;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";
const std::string kOut = "model.layers.0.self_attn.o_proj.weight";
const std::string kQBias = "model.layers.0.self_attn.q_proj.bias";
const std::string kKBias = "model.layers.0.self_attn.k_proj.bias";
const std::string kEmbedding = "model.embed_tokens.weight";

struct Packed {
  std::vector<PackedWeight> weights;
  std::vector<std::byte> bytes; ///< the section
};

/// Packs to a file at an offset of a page, and checks what must hold always.
Result<Packed> pack(std::span<const WeightSpec> specs,
                    const Checkpoint &checkpoint,
                    const PackOptions &options = {}) {
  constexpr uint64_t kOffset = 4096;
  TempDir dir;
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(dir.path("out")));
  FileSink sink(file, kOffset);
  RETORT_ASSIGN_OR_RETURN(std::vector<PackedWeight> weights,
                          packWeights(specs, checkpoint, sink, options));
  RETORT_RETURN_IF_ERROR(file.commit());
  std::vector<std::byte> bytes = readBytes(dir.path("out"));
  bytes.erase(bytes.begin(), bytes.begin() + kOffset);
  EXPECT_EQ(bytes.size(), *weightsSectionBytes(specs));
  uint64_t end = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const PackedWeight &weight = weights[i];
    EXPECT_EQ(weight.offset, end);
    EXPECT_EQ(weight.size, static_cast<uint64_t>(specs[i].bytes()));
    EXPECT_EQ(weight.storedSize, (weight.size + 63) / 64 * 64);
    end += weight.storedSize;
    EXPECT_EQ(weight.hash,
              XXH3_64bits(bytes.data() + weight.offset, weight.storedSize));
    for (uint64_t at = weight.offset + weight.size; at < end; ++at)
      EXPECT_EQ(bytes[at], std::byte(0));
  }
  EXPECT_EQ(end, bytes.size());
  return Packed{std::move(weights), std::move(bytes)};
}

std::string errorOf(const WeightSpec &spec, const Checkpoint &checkpoint) {
  auto packed = pack(std::span(&spec, 1), checkpoint);
  return packed ? "no error" : packed.status().message();
}

/// Several units of every form: what the tests of threads and memory pack.
TinyModel wideModel() {
  TinyModel model;
  model.vocab = 5000;
  model.hidden = 512;
  model.intermediate = 1100;
  model.layers = 1;
  return model;
}
std::vector<WeightSpec> wideSpecs(const Checkpoint &checkpoint) {
  return {wholeMatrix(checkpoint, kEmbedding, "int4<32>"),
          vectorOf("bias", 600, {{kQBias, 0, 512, 50}}),
          wholeMatrix(checkpoint, kGate, "int8<64>"),
          literalOf("table", 1000),
          wholeMatrix(checkpoint, "lm_head.weight", "f16"),
          wholeMatrix(checkpoint, kOut, "int4<128, zero_points>")};
}

TEST(PackerTest, KeepsBF16Exactly) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec = wholeMatrix(checkpoint, kGate, "bf16");
  auto packed = pack(std::span(&spec, 1), checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  std::vector<float> decoded(40 * 32);
  decodeMatrix(spec.encoding, packed->bytes, 40, 32, decoded);
  EXPECT_EQ(decoded, valuesOf(checkpoint, kGate));
  EXPECT_EQ(packed->weights[0].relativeError, 0.0f);
}

TEST(PackerTest, InterleavesRowsOfTwoTensors) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
  spec.rows = 96 + 32; // 32 of gate, 32 of up, the 8 left of each in a strip
  spec.rowRuns = {{kUp, 0, 32, 32},
                  {kGate, 0, 32, 0},
                  {kGate, 32, 8, 64},
                  {kUp, 32, 8, 96}};
  auto packed = pack(std::span(&spec, 1), checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  std::vector<float> decoded(128 * 32), expected(128 * 32);
  decodeMatrix(spec.encoding, packed->bytes, 128, 32, decoded);
  std::vector<float> gate = valuesOf(checkpoint, kGate);
  std::vector<float> up = valuesOf(checkpoint, kUp);
  std::copy_n(gate.begin(), 32 * 32, expected.begin());
  std::copy_n(up.begin(), 32 * 32, expected.begin() + 32 * 32);
  std::copy_n(gate.begin() + 32 * 32, 8 * 32, expected.begin() + 64 * 32);
  std::copy_n(up.begin() + 32 * 32, 8 * 32, expected.begin() + 96 * 32);
  EXPECT_EQ(decoded, expected);
}

TEST(PackerTest, PermutesAndPadsColumns) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir); // o_proj is [32, 4 heads x 8]
  WeightSpec spec = wholeMatrix(checkpoint, kOut, "f32");
  spec.cols = 64; // heads in reverse order, each padded to 16 columns
  spec.colRuns = {{0, 8, 48}, {8, 8, 32}, {16, 8, 16}, {24, 8, 0}};
  auto packed = pack(std::span(&spec, 1), checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  std::vector<float> decoded(32 * 64);
  decodeMatrix(spec.encoding, packed->bytes, 32, 64, decoded);
  std::vector<float> source = valuesOf(checkpoint, kOut);
  for (size_t r = 0; r < 32; ++r)
    for (size_t head = 0; head < 4; ++head)
      for (size_t i = 0; i < 16; ++i)
        ASSERT_EQ(decoded[r * 64 + (3 - head) * 16 + i],
                  i < 8 ? source[r * 32 + head * 8 + i] : 0.0f);
}

TEST(PackerTest, JoinsVectorsWithGaps) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec =
      vectorOf("bias", 60, {{kKBias, 2, 10, 40}, {kQBias, 0, 32, 3}});
  auto packed = pack(std::span(&spec, 1), checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  std::vector<float> expected(60), found(60);
  std::vector<float> q = valuesOf(checkpoint, kQBias);
  std::vector<float> k = valuesOf(checkpoint, kKBias);
  std::copy_n(q.begin(), 32, expected.begin() + 3);
  std::copy_n(k.begin() + 2, 10, expected.begin() + 40);
  std::memcpy(found.data(), packed->bytes.data(), 60 * 4);
  EXPECT_EQ(found, expected);
}

TEST(PackerTest, WritesLiteralsAsTheyAre) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  std::vector<WeightSpec> specs = {literalOf("a", 1), literalOf("b", 64),
                                   literalOf("c", 65)};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  for (size_t i = 0; i < specs.size(); ++i)
    EXPECT_TRUE(
        std::equal(specs[i].literal.begin(), specs[i].literal.end(),
                   packed->bytes.begin() +
                       static_cast<ptrdiff_t>(packed->weights[i].offset)));
}

TEST(PackerTest, PacksATensorTwiceIfAsked) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  std::vector<WeightSpec> specs = {wholeMatrix(checkpoint, kEmbedding, "bf16"),
                                   wholeMatrix(checkpoint, kEmbedding, "bf16")};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  EXPECT_EQ(packed->weights[0].hash, packed->weights[1].hash);
}

TEST(PackerTest, TellsTheErrorOfAnEncoding) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  std::vector<WeightSpec> specs = {wholeMatrix(checkpoint, kGate, "int4<32>"),
                                   wholeMatrix(checkpoint, kGate, "int8<32>")};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  std::vector<float> source = valuesOf(checkpoint, kGate);
  for (size_t i = 0; i < 2; ++i) {
    std::vector<float> decoded(source.size());
    decodeMatrix(specs[i].encoding,
                 std::span(packed->bytes).subspan(packed->weights[i].offset),
                 40, 32, decoded);
    double error = 0, size = 0;
    for (size_t j = 0; j < source.size(); ++j) {
      error += std::pow(double(decoded[j]) - source[j], 2);
      size += std::pow(double(source[j]), 2);
    }
    EXPECT_NEAR(packed->weights[i].relativeError, std::sqrt(error / size),
                1e-4 * std::sqrt(error / size));
  }
}

/// Small enough that not all threads fit. The address sanitizer's own memory
/// counts as resident, so that its runs need more.
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
constexpr uint64_t kTightRam = uint64_t(512) << 20;
#else
constexpr uint64_t kTightRam = uint64_t(128) << 20;
#endif

TEST(PackerTest, BytesDoNotDependOnThreadsAndMemory) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, wideModel());
  std::vector<WeightSpec> specs = wideSpecs(checkpoint);
  PackOptions options;
  options.threads = 1;
  auto expected = pack(specs, checkpoint, options);
  ASSERT_TRUE(expected) << expected.status().message();
  for (int threads : {2, 3, 7, 64})
    for (uint64_t maxRam : {kTightRam, uint64_t(8) << 30}) {
      options.threads = threads;
      options.maxRam = maxRam;
      auto found = pack(specs, checkpoint, options);
      ASSERT_TRUE(found) << found.status().message();
      EXPECT_EQ(found->bytes, expected->bytes);
      for (size_t i = 0; i < specs.size(); ++i) {
        EXPECT_EQ(found->weights[i].hash, expected->weights[i].hash);
        EXPECT_EQ(found->weights[i].relativeError,
                  expected->weights[i].relativeError);
      }
    }
}

TEST(PackerTest, ReportsProgressInOrder) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, wideModel());
  std::vector<WeightSpec> specs = wideSpecs(checkpoint);
  std::vector<std::pair<uint64_t, uint64_t>> calls;
  PackOptions options;
  options.threads = 3;
  options.progress = [&](uint64_t done, uint64_t total) {
    calls.push_back({done, total});
  };
  auto packed = pack(specs, checkpoint, options);
  ASSERT_TRUE(packed) << packed.status().message();
  uint64_t total = 0;
  for (const WeightSpec &spec : specs)
    for (const RowRun &run : spec.rowRuns)
      total += checkpoint.find(run.tensor)->bytes.size();
  ASSERT_GE(calls.size(), 8u);
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
  for (const auto &call : calls)
    EXPECT_EQ(call.second, total);
  EXPECT_EQ(calls.back().first, total);
}

TEST(PackerTest, StopsWhenCancelled) {
  TempDir dir, outDir;
  Checkpoint checkpoint = openModel(dir, wideModel());
  std::vector<WeightSpec> specs = wideSpecs(checkpoint);
  for (int threads : {1, 3}) {
    std::atomic<bool> cancel = false;
    int calls = 0;
    PackOptions options;
    options.threads = threads;
    options.cancel = &cancel;
    options.progress = [&](uint64_t, uint64_t) {
      ++calls;
      cancel = true;
    };
    {
      auto file = OutputFile::create(outDir.path("out"));
      ASSERT_TRUE(file);
      FileSink sink(*file);
      auto packed = packWeights(specs, checkpoint, sink, options);
      ASSERT_FALSE(packed);
      EXPECT_EQ(packed.status().code(), Code::Cancelled);
    }
    // Units that were finished and waited for the first are reported.
    EXPECT_LE(calls, threads + 2);
    EXPECT_TRUE(listDirectory(outDir.path()).empty());
  }
}

TEST(PackerTest, NamesTheLeastMemoryThatWorks) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, wideModel());
  std::vector<WeightSpec> specs = wideSpecs(checkpoint);
  PackOptions options;
  options.threads = 1;
  options.maxRam = 1 << 20;
  auto packed = pack(specs, checkpoint, options);
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.status().code(), Code::OutOfMemory);
  EXPECT_THAT(packed.status().message(), HasSubstr("found 1 MiB"));
  std::string message = packed.status().message();
  uint64_t least = std::stoull(message.substr(message.find("least ") + 6));
  // The test itself may have grown by a little in between.
  options.maxRam = (least + 4) << 20;
  packed = pack(specs, checkpoint, options);
  EXPECT_TRUE(packed) << packed.status().message();
}

TEST(PackerErrorTest, MissingTensor) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
  spec.rowRuns[0].tensor = "model.layers.9.mlp.gate_proj.weight";
  EXPECT_EQ(errorOf(spec, checkpoint),
            "weight '" + kGate +
                "': expected tensor 'model.layers.9.mlp.gate_proj.weight', "
                "found none");
}

TEST(PackerErrorTest, WrongRank) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec matrix = wholeMatrix(checkpoint, kGate, "f32");
  matrix.rowRuns[0] = {kQBias, 0, 32, 0};
  EXPECT_THAT(errorOf(matrix, checkpoint), HasSubstr("expected 2 dimensions"));
  EXPECT_THAT(errorOf(vectorOf("v", 40, {{kGate, 0, 40, 0}}), checkpoint),
              HasSubstr("found shape [40, 32]"));
}

TEST(PackerErrorTest, RowsOutsideTheTensor) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  for (auto [src, rows] : {std::pair<int64_t, int64_t>{1, 40},
                           {-1, 2},
                           {0, -1},
                           {kMax, 1},
                           {1, kMax}}) {
    WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
    spec.rowRuns[0].srcRow = src;
    spec.rowRuns[0].rows = rows;
    EXPECT_THAT(errorOf(spec, checkpoint),
                HasSubstr("expected rows in [0, 40), found"));
  }
}

TEST(PackerErrorTest, RowsOutsideThePackedShape) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  for (int64_t dst :
       {int64_t(-1), int64_t(1), std::numeric_limits<int64_t>::max()}) {
    WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
    spec.rowRuns[0].dstRow = dst;
    EXPECT_THAT(errorOf(spec, checkpoint),
                HasSubstr("expected packed rows in [0, 40), found"));
  }
}

TEST(PackerErrorTest, OverlappingRows) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
  spec.rowRuns = {{kUp, 0, 10, 9}, {kGate, 0, 10, 0}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("two row runs cover packed row 9"));
}

TEST(PackerErrorTest, BadColumns) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec = wholeMatrix(checkpoint, kGate, "f32");
  spec.colRuns = {{1, 32, 0}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("expected columns in [0, 32), found [1, 33)"));
  spec.colRuns = {{0, 32, 1}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("expected packed columns in [0, 32), found [1, 33)"));
  spec.colRuns = {{0, 8, 8}, {8, 9, 0}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("two column runs cover packed column 8"));
  spec.colRuns = {};
  EXPECT_THAT(errorOf(spec, checkpoint), HasSubstr("expected column runs"));
}

TEST(PackerErrorTest, BadShapes) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec spec;
  spec.name = "w";
  for (auto [rows, cols] : {std::pair<int64_t, int64_t>{0, 1},
                            {1, 0},
                            {-5, 3},
                            {int64_t(1) << 41, 1}}) {
    spec.rows = rows;
    spec.cols = cols;
    EXPECT_THAT(errorOf(spec, checkpoint), HasSubstr("weight 'w': expected a"));
  }
  spec.rows = spec.cols = int64_t(1) << 40;
  EXPECT_THAT(errorOf(spec, checkpoint), HasSubstr("the shape is too large"));
  spec.rows = spec.cols = 8;
  spec.encoding = {EncodingKind::Int4, 48, false};
  EXPECT_THAT(errorOf(spec, checkpoint), HasSubstr("unknown encoding"));
  spec.form = WeightForm::Literal;
  EXPECT_THAT(errorOf(spec, checkpoint), HasSubstr("expected bytes"));
}

TEST(PackerErrorTest, NamesTheWeightThatAnEncodingCannotHold) {
  TempDir dir;
  CheckpointBuilder builder;
  auto &up = builder.tensor(kUp);
  up.bytes[(7 * 32 + 5) * 2] = std::byte(0x80); // -inf in bf16
  up.bytes[(7 * 32 + 5) * 2 + 1] = std::byte(0xff);
  auto &bias = builder.tensor(kQBias);
  bias.bytes[3 * 2] = std::byte(0xc0); // NaN
  bias.bytes[3 * 2 + 1] = std::byte(0x7f);
  auto &gate = builder.tensor(kGate);
  gate.bytes[39 * 64] = std::byte(0x80); // 65536
  gate.bytes[39 * 64 + 1] = std::byte(0x47);
  builder.write(dir.path());
  Checkpoint checkpoint = openCheckpoint(dir.path());

  WeightSpec spec = wholeMatrix(checkpoint, kUp, "int4<32>");
  spec.rows = 64; // and columns reversed by halves
  spec.rowRuns = {{kUp, 0, 40, 24}};
  spec.colRuns = {{0, 16, 16}, {16, 16, 0}};
  EXPECT_EQ(errorOf(spec, checkpoint),
            dir.path("model.safetensors") + ": tensor '" + kUp +
                "': row 7, column 5: expected a finite value below 2^120 for "
                "int4<32>, found -inf");
  EXPECT_EQ(errorOf(vectorOf("v", 32, {{kQBias, 0, 32, 0}}), checkpoint),
            dir.path("model.safetensors") + ": tensor '" + kQBias +
                "': element 3: expected a finite value, found nan");
  EXPECT_EQ(errorOf(wholeMatrix(checkpoint, kGate, "bf16"), checkpoint),
            "no error");
  EXPECT_EQ(errorOf(wholeMatrix(checkpoint, kGate, "f16"), checkpoint),
            dir.path("model.safetensors") + ": tensor '" + kGate +
                "': row 39, column 0: expected a magnitude up to 65504, the "
                "largest of f16 for f16, found 65536.000000");
}

TEST(PackerErrorTest, ReportsTheFirstBadWeightWhateverTheThreads) {
  TempDir dir;
  CheckpointBuilder builder(wideModel());
  auto &embedding = builder.tensor(kEmbedding);
  for (size_t row : {2500, 3999, 4999})
    embedding.bytes[row * 1024 + 1] = std::byte(0x7f),
                                 embedding.bytes[row * 1024] = std::byte(0x80);
  builder.write(dir.path());
  Checkpoint checkpoint = openCheckpoint(dir.path());
  WeightSpec spec = wholeMatrix(checkpoint, kEmbedding, "int4<32>");
  for (int threads : {1, 2, 8}) {
    PackOptions options;
    options.threads = threads;
    auto packed = pack(std::span(&spec, 1), checkpoint, options);
    ASSERT_FALSE(packed);
    EXPECT_THAT(packed.status().message(), HasSubstr("row 2500, column 0"));
  }
}

TEST(PackerErrorTest, FullDisk) {
  TempDir dir, outDir;
  Checkpoint checkpoint = openModel(dir, wideModel());
  std::vector<WeightSpec> specs = wideSpecs(checkpoint);
  {
    FileSizeLimit limit(100'000);
    auto file = OutputFile::create(outDir.path("out"));
    ASSERT_TRUE(file);
    FileSink sink(*file);
    auto packed = packWeights(specs, checkpoint, sink, {});
    ASSERT_FALSE(packed);
    EXPECT_EQ(packed.status().code(), Code::Io);
    EXPECT_THAT(packed.status().message(), HasSubstr("out: cannot write"));
  }
  EXPECT_TRUE(listDirectory(outDir.path()).empty());
}

TEST(PackedViewTest, ReadsTensorsBackThroughTheirRuns) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec mixed = wholeMatrix(checkpoint, kGate, "bf16");
  mixed.rows = 80;
  mixed.rowRuns = {{kUp, 0, 32, 32},
                   {kGate, 0, 32, 0},
                   {kGate, 32, 8, 64},
                   {kUp, 32, 8, 72}};
  WeightSpec out = wholeMatrix(checkpoint, kOut, "bf16");
  out.cols = 64;
  out.colRuns = {{0, 8, 48}, {8, 8, 32}, {16, 8, 16}, {24, 8, 0}};
  std::vector<WeightSpec> specs = {
      literalOf("table", 9),
      mixed,
      out,
      vectorOf("v", 40, {{kQBias, 4, 28, 10}}),
      wholeMatrix(checkpoint, kEmbedding, "bf16"),
      wholeMatrix(checkpoint, kEmbedding, "int4<32>")};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  auto view = PackedView::create(specs, packed->bytes);
  ASSERT_TRUE(view) << view.status().message();
  for (const std::string &name : {kGate, kUp, kOut, kEmbedding}) {
    std::vector<float> expected = valuesOf(checkpoint, name);
    std::vector<float> found(expected.size());
    auto rows = static_cast<int64_t>(expected.size()) / 32;
    ASSERT_TRUE(view->read(name, 0, rows, 32, found)) << name;
    EXPECT_EQ(found, expected) << name;
  }
  std::vector<float> bias = valuesOf(checkpoint, kQBias);
  std::vector<float> found(28);
  ASSERT_TRUE(view->read(kQBias, 4, 28, 1, found));
  EXPECT_TRUE(std::equal(found.begin(), found.end(), bias.begin() + 4));

  // The other of two forms of a tensor.
  std::vector<float> other(32), embedding = valuesOf(checkpoint, kEmbedding);
  ASSERT_TRUE(view->read(kEmbedding, 3, 1, 32, other, /*last=*/true));
  for (size_t k = 0; k < 32; ++k)
    EXPECT_NEAR(other[k], embedding[3 * 32 + k], 0.03f);
  EXPECT_FALSE(
      std::equal(other.begin(), other.end(), embedding.begin() + 3 * 32));

  EXPECT_FALSE(view->read("model.norm.weight", 0, 1, 1, found));
  EXPECT_FALSE(view->read(kQBias, 0, 28, 1, found)); // 0 ... 3 are not packed
}

/// As the draft layer's matrix over two rows is: each half of the columns in a
/// weight of its own.
TEST(PackedViewTest, PutsColumnsOfSeveralWeightsTogether) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec left = wholeMatrix(checkpoint, kOut, "bf16"), right = left;
  left.cols = right.cols = 20;
  left.colRuns = right.colRuns = {{0, 20, 0}};
  right.cols = 12;
  right.colRuns = {{0, 12, 0}};
  right.rowRuns[0].colShift = 20;
  std::vector<WeightSpec> specs = {right, left};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  auto view = PackedView::create(specs, packed->bytes);
  ASSERT_TRUE(view) << view.status().message();
  std::vector<float> expected = valuesOf(checkpoint, kOut);
  for (bool last : {false, true}) {
    std::vector<float> found(expected.size());
    auto rows = static_cast<int64_t>(expected.size()) / 32;
    ASSERT_TRUE(view->read(kOut, 0, rows, 32, found, last));
    EXPECT_EQ(found, expected);
  }
}

/// Groups are those of the packed columns: here two heads of 10, of which each
/// begins a group. What another weight takes as it is stays as it is.
TEST(PackedViewTest, RoundsInputsInPackedGroups) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  WeightSpec heads = wholeMatrix(checkpoint, kOut, "int4<32>");
  WeightSpec rest = wholeMatrix(checkpoint, kOut, "bf16");
  heads.cols = 42;
  heads.colRuns = {{0, 10, 0}, {10, 10, 32}};
  heads.inputs = ActivationEncoding{ActivationKind::Int8};
  rest.cols = 12;
  rest.colRuns = {{0, 12, 0}};
  rest.rowRuns[0].colShift = 20;
  std::vector<WeightSpec> specs = {heads, rest};
  auto packed = pack(specs, checkpoint);
  ASSERT_TRUE(packed) << packed.status().message();
  auto view = PackedView::create(specs, packed->bytes);
  ASSERT_TRUE(view) << view.status().message();

  std::vector<float> row(32, 0.7f);
  row[0] = 127;  // a step of 1 for the first head
  row[10] = 254; // of 2 for the second
  row[31] = 1e6f;
  std::vector<float> before = row;
  view->roundInputs(kOut, row);
  for (size_t i = 1; i < 10; ++i) {
    EXPECT_EQ(row[i], 1) << i;
    EXPECT_EQ(row[10 + i], 0) << i;
  }
  for (size_t i = 20; i < 32; ++i)
    EXPECT_EQ(row[i], before[i]) << i;
  view->roundInputs("no such tensor", row);
}

TEST(PackedViewTest, RefusesASectionOfAnotherSize) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir);
  std::vector<WeightSpec> specs = {literalOf("table", 65)};
  std::vector<std::byte> bytes(127);
  auto view = PackedView::create(specs, bytes);
  ASSERT_FALSE(view);
  EXPECT_EQ(view.status().message(),
            "expected a weights section of 128 bytes, found 127");
}

} // namespace
} // namespace retort
