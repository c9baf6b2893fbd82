//===- EmitEmbedTest.cpp - Embedding kernels ------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;

namespace {

class EmbedKernels : public testing::TestWithParam<const char *> {};

/// Rows come out exactly, in any order, zero beyond the columns.
TEST_P(EmbedKernels, GivesRowsOfTheMatrix) {
  if (!hostTarget())
    GTEST_SKIP() << "this machine runs none of the targets";
  PackedMatrix weight(*PackedEncoding::parse(GetParam()), 70, 100, 3);
  std::string entry =
      "kernel.entry @k tokens(many) {\n^bb0(%t: tensor<?xi32>, %w: " +
      weight.type() + "):\n  %y = kernel.embed %t, %w : (tensor<?xi32>, " +
      weight.type() + ") -> tensor<?x128xf32>\n}\n";
  auto kernel = CompiledKernel::compile(entry, *hostTarget());
  ASSERT_TRUE(kernel) << kernel.status().message();
  std::vector<int32_t> ids = {0, 69, 31, 32, 5, 5};
  int64_t n = static_cast<int64_t>(ids.size());
  AlignedBytes tokens(64), y(8 * 128 * 4);
  std::copy(ids.begin(), ids.end(), tokens.as<int32_t>());
  std::fill_n(y.as<float>(), 8 * 128, 7.0f);
  kernel->run({tokens.data(), weight.bytes.data(), y.data()},
              {.n_tokens = n, .position = 0, .first_row = 0});
  for (int64_t t = 0; t < n; ++t)
    for (int64_t c = 0; c < 128; ++c)
      ASSERT_EQ(y.as<float>()[t * 128 + c],
                c < 100 ? weight.decoded[ids[t] * 100 + c] : 0)
          << "token " << t << " column " << c;
  EXPECT_EQ(y.as<float>()[n * 128], 7.0f);
}

INSTANTIATE_TEST_SUITE_P(Encodings, EmbedKernels,
                         testing::Values("f32", "f16", "bf16", "fp8",
                                         "int8<32>", "int8<128>", "int4<32>",
                                         "int4<128>", "int4<64, zero_points>",
                                         "int2<32>", "int3<64, zero_points>",
                                         "int5<128>", "int6<32, zero_points>",
                                         "nf4<64>"));

} // namespace
