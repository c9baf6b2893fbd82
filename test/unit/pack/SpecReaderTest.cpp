//===- SpecReaderTest.cpp - Reading the rows of a weight spec ---*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/SpecReader.h"
#include "compiler/checkpoint/DType.h"
#include "compiler/pack/PackedView.h"
#include "compiler/pack/Quantizer.h"
#include "test/unit/pack/PackTestSupport.h"

#include <chrono>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace retort {
namespace {

using namespace test;
using checkpoint::Checkpoint;
using testing::HasSubstr;

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";
const std::string kOut = "model.layers.0.self_attn.o_proj.weight";
const std::string kNorm = "model.layers.0.input_layernorm.weight";
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

/// Gate and up are [100, 64], o_proj [64, 64].
TinyModel model() {
  TinyModel tiny;
  tiny.hidden = 64;
  tiny.intermediate = 100;
  tiny.dtype = DType::F32;
  return tiny;
}

WeightSpec emptyMatrix(int64_t rows, int64_t cols) {
  WeightSpec spec;
  spec.name = "w";
  spec.rows = rows;
  spec.cols = cols;
  spec.colRuns = {{0, cols, 0}};
  return spec;
}

/// What the definition of RowRun says, element by element.
std::vector<float> expectedOf(const WeightSpec &spec,
                              const Checkpoint &checkpoint) {
  std::vector<float> out(static_cast<size_t>(spec.rows * spec.cols));
  for (const RowRun &run : spec.rowRuns) {
    std::vector<float> tensor = valuesOf(checkpoint, run.tensor);
    int64_t width = checkpoint.find(run.tensor)->shape[1];
    for (int64_t i = 0; i < run.rows; ++i)
      for (const ColRun &cols : spec.colRuns)
        for (int64_t j = 0; j < cols.cols; ++j) {
          int64_t r = run.srcRow + i, c = cols.srcCol + run.colShift + j;
          if (run.transposed)
            std::swap(r, c);
          int64_t row = run.dstRow + i / 32 * run.stripStride + i % 32;
          out[static_cast<size_t>(row * spec.cols + cols.dstCol + j)] =
              tensor[static_cast<size_t>(r * width + c)];
        }
  }
  return out;
}

/// Reads all rows, in ranges of `step`.
std::vector<float> readAll(const SpecReader &reader, int64_t step) {
  const WeightSpec &spec = reader.spec();
  std::vector<float> out(static_cast<size_t>(spec.rows * spec.cols));
  for (int64_t row = 0; row < spec.rows; row += step) {
    Status status = reader.readRows(row, std::min(step, spec.rows - row),
                                    out.data() + row * spec.cols, spec.cols);
    EXPECT_TRUE(status.isOk()) << status.message();
    reader.dropResident(row, std::min(step, spec.rows - row));
  }
  return out;
}

void expectReads(const WeightSpec &spec, const Checkpoint &checkpoint) {
  auto reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  std::vector<float> expected = expectedOf(spec, checkpoint);
  for (int64_t step : {1, 7, 32, 1000})
    EXPECT_EQ(readAll(*reader, step), expected) << "rows at a time: " << step;
}

std::string errorOf(const WeightSpec &spec, const Checkpoint &checkpoint) {
  auto reader = SpecReader::create(spec, checkpoint);
  return reader ? "" : reader.status().message();
}

TEST(SpecReaderTest, StripStrideInterleavesTensors) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(256, 64);
  spec.rowRuns = {{kUp, 0, 100, 32, 64}, {kGate, 0, 100, 0, 64}};
  expectReads(spec, checkpoint);
  auto reader = SpecReader::create(spec, checkpoint);
  EXPECT_THAT(reader->describe(96 + 3, 5),
              HasSubstr("tensor '" + kUp + "': row 35, column 5"));
}

TEST(SpecReaderTest, ManyRunsInTheGapsOfAWideOne) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(4096, 64);
  spec.rowRuns = {{kGate, 0, 100, 0, 1024}};
  for (int64_t row = 32; row < 3000; row += 40)
    if (row % 1024 >= 32 && row % 1024 + 24 <= 1024)
      spec.rowRuns.push_back({kUp, row % 70, 24, row});
  expectReads(spec, checkpoint);
}

TEST(SpecReaderTest, ColumnShiftReadsAHeadOfEach) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(96, 40);
  spec.colRuns = {{0, 8, 32}, {8, 8, 0}};
  spec.rowRuns = {{kOut, 0, 64, 0, 32, 16}, {kOut, 0, 30, 64, 32, 48}};
  expectReads(spec, checkpoint);
}

TEST(SpecReaderTest, TransposedTakesColumnsForRows) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(192, 48);
  spec.colRuns = {{0, 16, 0}, {40, 20, 20}};
  spec.rowRuns = {{kUp, 3, 60, 0, 96, 7, true},
                  {kUp, 0, 64, 32, 96, -0, true},
                  {kGate, 10, 30, 64, 32, 2}};
  expectReads(spec, checkpoint);
  auto reader = SpecReader::create(spec, checkpoint);
  EXPECT_THAT(reader->describe(96 + 1, 21),
              HasSubstr("tensor '" + kUp + "': row 48, column 36"));
}

TEST(SpecReaderTest, VectorsFollowStrips) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = vectorOf("v", 128, {{kNorm, 0, 64, 32, 64}});
  auto reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  std::vector<float> read(128), norm = valuesOf(checkpoint, kNorm);
  ASSERT_TRUE(reader->readElements(0, 128, read.data()).isOk());
  std::vector<float> expected(128);
  std::copy_n(norm.begin(), 32, expected.begin() + 32);
  std::copy_n(norm.begin() + 32, 32, expected.begin() + 96);
  EXPECT_EQ(read, expected);
}

TEST(SpecReaderTest, SourceBytesFollowTheRuns) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(256, 16);
  spec.rowRuns = {{kGate, 0, 100, 0, 64}, {kUp, 0, 64, 32, 64, 8, true}};
  auto reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  EXPECT_EQ(reader->sourceBytes(0, 256), 100 * 64 * 4 + 64 * 16 * 4);
  EXPECT_EQ(reader->sourceBytes(32, 32), 32 * 16 * 4);
  EXPECT_EQ(reader->maxSourceBytes(8), 16 * 64 * 4);
}

/// Tens of thousands of runs, as 256 experts have.
TEST(SpecReaderTest, ManyRunsAreFoundQuickly) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  constexpr int64_t kRuns = 40000;
  WeightSpec spec = emptyMatrix(kRuns * 128, 64);
  for (int64_t i = 0; i < kRuns / 2; ++i) {
    spec.rowRuns.push_back({kGate, 0, 64, i * 256, 64});
    spec.rowRuns.push_back({kUp, 0, 64, i * 256 + 32, 64});
  }
  auto start = std::chrono::steady_clock::now();
  auto reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  std::vector<float> rows(32 * 64);
  for (int64_t i = 0; i < kRuns; ++i)
    ASSERT_TRUE(reader->readRows(i * 128, 32, rows.data(), 64).isOk());
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  // Walking all runs for every range would take minutes.
  EXPECT_LT(seconds.count(), 5);
}

TEST(SpecReaderTest, PackedViewUndoesEveryKindOfRun) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  std::vector<WeightSpec> specs(3, emptyMatrix(256, 64));
  specs[0].rowRuns = {{kGate, 0, 100, 0, 64}};
  // Rows 0 ... 31 of up transposed, the others as they are.
  specs[1].cols = 32;
  specs[1].colRuns = {{0, 32, 0}};
  specs[1].rowRuns = {{kUp, 0, 64, 0, 64, 0, true}};
  specs[2].rowRuns = {{kUp, 32, 68, 32, 64}};
  // Columns of o_proj in two runs.
  specs.push_back(emptyMatrix(128, 32));
  specs[3].rowRuns = {{kOut, 0, 64, 0, 32, 32}, {kOut, 0, 64, 64, 32, 0}};
  std::vector<std::byte> section;
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].name += std::to_string(i);
    auto reader = SpecReader::create(specs[i], checkpoint);
    ASSERT_TRUE(reader) << reader.status().message();
    const WeightSpec &spec = specs[i];
    int64_t stride = stripStride(spec.cols);
    std::vector<float> rows(static_cast<size_t>(32 * stride));
    for (int64_t row = 0; row < spec.rows; row += 32) {
      ASSERT_TRUE(reader->readRows(row, 32, rows.data(), stride).isOk());
      size_t at = section.size();
      section.resize(at +
                     static_cast<size_t>(spec.encoding.stripBytes(spec.cols)));
      SquaredError error;
      ASSERT_FALSE(encodeStrip(spec.encoding, rows.data(), stride, spec.cols,
                               section.data() + at, error));
    }
  }
  auto view = PackedView::create(specs, section);
  ASSERT_TRUE(view) << view.status().message();
  for (const std::string &name : {kGate, kUp, kOut}) {
    int64_t rows = checkpoint.find(name)->shape[0];
    std::vector<float> read(static_cast<size_t>(rows * 64));
    EXPECT_TRUE(view->read(name, 0, rows, 64, read)) << name;
    EXPECT_EQ(read, valuesOf(checkpoint, name)) << name;
  }
}

/// Matrices of layers are fp8 in blocks of 128 x 128, which don't divide them.
TinyModel fp8Model() {
  TinyModel tiny;
  tiny.modelType = "deepseek_v3";
  tiny.hidden = 160;
  tiny.intermediate = 300;
  return tiny;
}

const checkpoint::TensorView *firstF8(const Checkpoint &checkpoint) {
  for (const checkpoint::TensorView &tensor : checkpoint.tensors())
    if (tensor.dtype == DType::F8E4M3 && tensor.scales && tensor.shape[1] > 128)
      return &tensor;
  return nullptr;
}

TEST(Fp8Test, KeptBlocksDecodeToTheScaledValues) {
  TempDir dir;
  TinyModel tiny = fp8Model();
  tiny.extra = {{"quantization_config",
                 {{"quant_method", "fp8"},
                  {"fmt", "e4m3"},
                  {"activation_scheme", "dynamic"},
                  {"weight_block_size", {128, 128}}}}};
  Checkpoint checkpoint = openModel(dir, tiny);
  const checkpoint::TensorView *tensor = firstF8(checkpoint);
  ASSERT_TRUE(tensor);
  int64_t rows = tensor->shape[0], cols = tensor->shape[1];
  WeightSpec spec = wholeMatrix(checkpoint, tensor->name, "fp8");
  auto reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  int64_t stride = stripStride(cols);
  std::vector<uint8_t> bits(static_cast<size_t>(32 * stride));
  std::vector<float> scales(
      static_cast<size_t>(32 * spec.encoding.blocksPerStrip(cols)));
  std::vector<std::byte> packed(static_cast<size_t>(spec.bytes()));
  for (int64_t strip = 0; strip * 32 < rows; ++strip) {
    Status status =
        reader->readF8Strip(strip * 32, bits.data(), stride, scales.data());
    ASSERT_TRUE(status.isOk()) << status.message();
    encodeF8Strip(bits.data(), stride, scales.data(), cols,
                  packed.data() + strip * spec.encoding.stripBytes(cols));
  }
  std::vector<float> decoded(static_cast<size_t>(rows * cols)),
      expected(static_cast<size_t>(rows * cols));
  decodeMatrix(spec.encoding, packed, rows, cols, decoded);
  ASSERT_TRUE(checkpoint::readRows(*tensor, 0, rows, expected).isOk());
  EXPECT_EQ(decoded, expected);
  // A shift by half a block brings two scales together.
  spec.cols = cols - 64;
  spec.colRuns = {{0, spec.cols, 0}};
  spec.rowRuns[0].colShift = 64;
  reader = SpecReader::create(spec, checkpoint);
  ASSERT_TRUE(reader) << reader.status().message();
  Status status = reader->readF8Strip(0, bits.data(), stride, scales.data());
  EXPECT_THAT(status.message(),
              HasSubstr("expected one scale in a packed block of fp8"));
}

TEST(MixesScalesTest, BlocksMustLieInOneSourceBlock) {
  // Whole rows, aligned; shifted by a block; shifted by half a block.
  std::vector<ColRun> whole = {{0, 300, 0}};
  EXPECT_FALSE(mixesScales(whole, 0, 128));
  EXPECT_FALSE(mixesScales(whole, 128, 128));
  EXPECT_TRUE(mixesScales(whole, 64, 128));
  // Smaller source blocks mix, larger ones don't.
  EXPECT_TRUE(mixesScales(whole, 0, 64));
  EXPECT_FALSE(mixesScales(whole, 0, 256));
  // Padded heads: two of 64 in one packed block come from one source block,
  // three of 48 cross it.
  std::vector<ColRun> pairs = {{0, 32, 0}, {32, 32, 64}, {64, 64, 128}};
  EXPECT_FALSE(mixesScales(pairs, 0, 128));
  std::vector<ColRun> odd = {{0, 48, 0}, {96, 48, 64}};
  EXPECT_TRUE(mixesScales(odd, 0, 128));
}

TEST(SpecReaderErrorTest, StripStride) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  for (int64_t stride : {int64_t(0), int64_t(-32), int64_t(48)}) {
    WeightSpec spec = emptyMatrix(256, 64);
    spec.rowRuns = {{kGate, 0, 100, 0, stride}};
    EXPECT_THAT(errorOf(spec, checkpoint),
                HasSubstr("expected a strip stride that is a positive multiple "
                          "of 32, found " +
                          std::to_string(stride)));
  }
}

TEST(SpecReaderErrorTest, StripsBehindThePackedRows) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  for (int64_t stride : {int64_t(96), kMax / 32 * 32}) {
    WeightSpec spec = emptyMatrix(256, 64);
    spec.rowRuns = {{kGate, 0, 100, 0, stride}};
    EXPECT_THAT(errorOf(spec, checkpoint),
                HasSubstr("expected packed rows in [0, 256), found"));
  }
}

TEST(SpecReaderErrorTest, OverlappingStrips) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(256, 64);
  spec.rowRuns = {{kGate, 0, 100, 0, 64}, {kUp, 0, 69, 32, 96}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("two row runs cover packed row 128"));
}

TEST(SpecReaderErrorTest, ColumnShiftOutOfTheTensor) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  for (int64_t shift : {int64_t(1), int64_t(-1), kMax}) {
    WeightSpec spec = emptyMatrix(256, 64);
    spec.rowRuns = {{kGate, 0, 100, 0, 32, shift}};
    spec.colRuns = {{0, 32, 0}, {32, 32, 32}};
    EXPECT_THAT(errorOf(spec, checkpoint),
                HasSubstr("expected columns in [0, 64), found"));
  }
}

TEST(SpecReaderErrorTest, TransposedOutOfTheTensor) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  WeightSpec spec = emptyMatrix(256, 64);
  spec.rowRuns = {{kGate, 0, 65, 0, 32, 0, true}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("expected columns in [0, 64), found [0, 65)"));
  spec.rowRuns = {{kGate, 0, 64, 0, 32, 37, true}};
  EXPECT_THAT(errorOf(spec, checkpoint),
              HasSubstr("expected rows in [0, 100), found [37, 101)"));
}

TEST(SpecReaderErrorTest, VectorsHaveNoColumns) {
  TempDir dir;
  Checkpoint checkpoint = openModel(dir, model());
  EXPECT_THAT(
      errorOf(vectorOf("v", 64, {{kNorm, 0, 64, 0, 32, 1}}), checkpoint),
      HasSubstr("expected a vector's run to have no column shift"));
  EXPECT_THAT(
      errorOf(vectorOf("v", 64, {{kNorm, 0, 64, 0, 32, 0, true}}), checkpoint),
      HasSubstr("not to be transposed"));
}

} // namespace
} // namespace retort
