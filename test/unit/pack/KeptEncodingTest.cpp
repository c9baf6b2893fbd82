//===- KeptEncodingTest.cpp - What holds quantized matrices ---------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/KeptEncoding.h"
#include "compiler/pack/PackedView.h"
#include "compiler/pack/Packer.h"

#include "test/unit/checkpoint/QuantizedBuilder.h"
#include "test/unit/pack/PackTestSupport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

const std::string kTensor = "model.layers.0.mlp.up_proj.weight";

/// Weights stay in memory.
class MemorySink : public WeightSink {
public:
  explicit MemorySink(std::span<const WeightSpec> specs)
      : section(*weightsSectionBytes(specs)) {}
  Status write(uint64_t at, std::span<const std::byte> bytes) override {
    std::ranges::copy(bytes, section.begin() + static_cast<ptrdiff_t>(at));
    return Status::ok();
  }
  std::vector<std::byte> section;
};

TinyModel model() {
  TinyModel tiny;
  tiny.hidden = 192;
  tiny.intermediate = 192;
  return tiny;
}

checkpoint::Checkpoint open(const TempDir &dir, const QuantForm &form) {
  QuantizedBuilder(model(), form).quantized.write(dir.path());
  return openCheckpoint(dir.path());
}

std::string keptName(const checkpoint::Checkpoint &checkpoint) {
  return keptEncoding(*checkpoint.find(kTensor)->quantized).encoding.str();
}

/// Packs and reads the tensor back; compares bits.
void expectExact(const checkpoint::Checkpoint &checkpoint,
                 const WeightSpec &spec) {
  std::vector<WeightSpec> specs = {spec};
  MemorySink sink(specs);
  auto packed = packWeights(specs, checkpoint, sink, {});
  ASSERT_TRUE(packed) << packed.status().message();
  EXPECT_EQ((*packed)[0].relativeError, 0);
  auto view = PackedView::create(specs, sink.section);
  ASSERT_TRUE(view) << view.status().message();
  std::vector<float> expected = valuesOf(checkpoint, kTensor);
  std::vector<float> found(expected.size());
  auto shape = checkpoint.find(kTensor)->shape;
  ASSERT_TRUE(view->read(kTensor, 0, shape[0], shape[1], found));
  EXPECT_EQ(found, expected);
}

TEST(KeptEncoding, HoldsEveryFormExactly) {
  struct {
    QuantForm form;
    const char *encoding;
  } const rows[] = {
      {{"gptq", 4, 32, false}, "int4<32, zero_points, f16_scales>"},
      {{"gptq", 4, 64}, "int4<64, f16_scales>"},
      {{"gptq", 4, 128}, "int4<128, f16_scales>"},
      {{"gptq", 4, 96, false}, "int4<32, zero_points, f16_scales>"},
      {{"gptq", 4, -1}, "int4<128, f16_scales>"},
      {{"gptq", 4, 48}, "f32"},
      {{"gptq", 4, 32, true, true}, "f32"},
      {{"gptq", 8, 64}, "int8<64, f16_scales>"},
      {{"gptq", 8, 64, false}, "f32"},
      {{"awq", 4, 64, false}, "int4<64, zero_points, f16_scales>"},
      {{"pack-quantized", 4, 64, false, false, DType::BF16},
       "int4<64, zero_points>"},
      {{"pack-quantized", 4, 32, true, false, DType::F32},
       "int4<32, f32_scales>"},
      {{"int-quantized", 8, -1, true, false, DType::BF16}, "int8<128>"},
      {{"int-quantized", 8, 0, true, false, DType::BF16}, "int8<128>"},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.form.format + " " + row.encoding);
    TempDir dir;
    checkpoint::Checkpoint checkpoint = open(dir, row.form);
    EXPECT_EQ(keptName(checkpoint), row.encoding);
    expectExact(checkpoint, wholeMatrix(checkpoint, kTensor, row.encoding));
  }
}

TEST(KeptEncoding, SmallerBlocksAndWiderScalesHoldItToo) {
  TempDir dir;
  checkpoint::Checkpoint checkpoint = open(dir, {"gptq", 4, 64});
  for (const char *encoding :
       {"int4<32, f16_scales>", "int4<64, zero_points, f16_scales>",
        "int4<32, zero_points, f32_scales>"})
    expectExact(checkpoint, wholeMatrix(checkpoint, kTensor, encoding));
}

TEST(KeptEncoding, ColumnsWithGapsKeepTheirGroups) {
  TempDir dir;
  checkpoint::Checkpoint checkpoint = open(dir, {"gptq", 4, 32, false});
  WeightSpec spec =
      wholeMatrix(checkpoint, kTensor, "int4<32, zero_points, f16_scales>");
  // Heads of 48 columns, padded to 64: columns 32 to 47 of a head end a block.
  spec.cols = 4 * 64;
  spec.colRuns.clear();
  for (int64_t h = 0; h < 4; ++h)
    spec.colRuns.push_back({h * 48, 48, h * 64});
  auto matrix = checkpoint.find(kTensor)->quantized;
  EXPECT_TRUE(mixesScales(spec.colRuns, 0, matrix->groupSize, 32));
  std::vector<WeightSpec> specs = {spec};
  MemorySink sink(specs);
  auto packed = packWeights(specs, checkpoint, sink, {});
  ASSERT_FALSE(packed);
  EXPECT_THAT(packed.status().message(),
              HasSubstr("expected sources that int4<32, zero_points, "
                        "f16_scales> holds exactly"));
  // Heads of 64 columns, padded to 96, divide into whole groups.
  spec.cols = 3 * 96;
  spec.colRuns = {{0, 64, 0}, {64, 64, 96}, {128, 64, 192}};
  expectExact(checkpoint, spec);
}

TEST(BadKeptEncoding, ScalesThatDoNotFit) {
  TempDir dir;
  checkpoint::Checkpoint checkpoint = open(dir, {"gptq", 4, 64, false});
  const auto &matrix = *checkpoint.find(kTensor)->quantized;
  for (const char *encoding :
       {"int4<64, zero_points>", "int4<64, f16_scales>",
        "int4<128, zero_points, f16_scales>", "int8<64, f16_scales>", "f32"})
    EXPECT_FALSE(holdsExactly(encodingOf(encoding), matrix)) << encoding;
}

} // namespace
