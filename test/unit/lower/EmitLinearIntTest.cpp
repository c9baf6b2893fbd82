//===- EmitLinearIntTest.cpp - Integer linear kernels ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"
#include "test/unit/lower/KernelHarness.h"

#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

using namespace retort;
using namespace retort::test;

namespace {

std::string plainType(int64_t stride) {
  return "tensor<?x" + std::to_string(stride) + "xf32>";
}

/// One matrix product, compiled for a token class.
struct Product {
  Product(const char *encoding, int64_t rows, int64_t cols, bool swiglu)
      : weight(*PackedEncoding::parse(encoding), rows, cols, 7),
        inputs(*ActivationEncoding::forWeights(weight.encoding)),
        swiglu(swiglu), outputs(swiglu ? rows / 2 : rows),
        xStride(roundUp<int64_t>(cols, kStrideMultiple)),
        outStride(roundUp<int64_t>(outputs, kStrideMultiple)) {}

  std::string entry(const char *tokenClass, bool quantizes) const {
    std::string x = QuantizedRows::type(inputs, xStride);
    return std::string("kernel.entry @k tokens(") + tokenClass +
           ") {\n^bb0(%x: " + x + ", %w: " + weight.type() +
           "):\n  %y = kernel.linear %x, %w " +
           (swiglu ? "epilogue swiglu " : "") + ": (" + x + ", " +
           weight.type() + ") -> " +
           (quantizes ? QuantizedRows::type(inputs, outStride)
                      : plainType(outStride)) +
           "\n}\n";
  }
  Result<CompiledKernel> compile(const char *tokenClass,
                                 bool quantizes = false) const {
    std::string text = entry(tokenClass, quantizes);
    // On one architecture a machine runs what comes before its own target.
    bool isNative =
        target->triple == hostTarget()->triple && target <= hostTarget();
    return isNative ? CompiledKernel::compile(text, *target)
                    : CompiledKernel::emulate(text, *target);
  }
  std::vector<float> run(const CompiledKernel &kernel, uint8_t *x,
                         int64_t tokens) {
    int64_t padded = roundUp<int64_t>(tokens, 8);
    AlignedBytes y(padded * outStride * 4);
    kernel.run({x, weight.bytes.data(), y.data()},
               {.n_tokens = tokens, .position = 0, .first_row = 0});
    std::vector<float> out;
    for (int64_t t = 0; t < tokens; ++t)
      out.insert(out.end(), y.as<float>() + t * outStride,
                 y.as<float>() + t * outStride + outputs);
    return out;
  }

  PackedMatrix weight;
  ActivationEncoding inputs;
  bool swiglu;
  int64_t outputs, xStride, outStride;
  const Target *target = hostTarget();
};

struct Case {
  const char *encoding;
  int64_t rows, cols;
  bool swiglu;
  std::vector<int64_t> manyTokens;
  const char *emulated = nullptr; ///< a target, in place of the machine's

  Product product() const {
    Product made(encoding, rows, cols, swiglu);
    if (emulated)
      made.target = findTarget(emulated);
    return made;
  }
};

void PrintTo(const Case &c, std::ostream *os) {
  *os << c.encoding << ' ' << c.rows << 'x' << c.cols << " swiglu " << c.swiglu;
  if (c.emulated)
    *os << " for " << c.emulated;
}

class LinearIntKernels : public testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    if (!hostTarget())
      GTEST_SKIP() << "this machine runs none of the targets";
  }
  void check(const char *tokenClass, const std::vector<int64_t> &tokenCounts);
};

void LinearIntKernels::check(const char *tokenClass,
                             const std::vector<int64_t> &tokenCounts) {
  const Case &c = GetParam();
  Product product = c.product();
  auto kernel = product.compile(tokenClass);
  ASSERT_TRUE(kernel) << kernel.status().message();
  for (int64_t n : tokenCounts) {
    // What padding rows hold must not reach other rows.
    QuantizedRows x(product.inputs, randomFloats(n * c.cols, 11), c.cols,
                    product.xStride, roundUp<int64_t>(n, 8) - n);
    std::vector<float> found = product.run(*kernel, x.bytes.data(), n);
    auto sum = [&](int64_t t, int64_t r) {
      double s = 0;
      for (int64_t i = 0; i < c.cols; ++i)
        s += double(x.decoded[t * c.cols + i]) *
             product.weight.decoded[r * c.cols + i];
      return s;
    };
    double errors = 0, squares = 0;
    for (int64_t t = 0; t < n; ++t)
      for (int64_t o = 0; o < product.outputs; ++o) {
        double expected;
        if (c.swiglu) {
          double gate = sum(t, o / 32 * 64 + o % 32);
          expected =
              gate / (1 + std::exp(-gate)) * sum(t, o / 32 * 64 + o % 32 + 32);
        } else {
          expected = sum(t, o);
        }
        double error = found[t * product.outputs + o] - expected;
        ASSERT_FALSE(std::isnan(error)) << "row " << t << " column " << o;
        errors += error * error;
        squares += expected * expected;
      }
    EXPECT_LT(std::sqrt(errors / squares), 1e-6) << n << " tokens";
  }
}

TEST_P(LinearIntKernels, OneToken) { check("one", {1}); }
TEST_P(LinearIntKernels, FewTokens) { check("few", {1, 3, 8}); }
TEST_P(LinearIntKernels, ManyTokens) { check("many", GetParam().manyTokens); }

/// A token's result is the same bits whatever surrounds it and whichever
/// algorithm computes it.
TEST_P(LinearIntKernels, ATokensResultIsTheSameInEveryClass) {
  const Case &c = GetParam();
  Product product = c.product();
  auto one = product.compile("one"), few = product.compile("few"),
       many = product.compile("many");
  ASSERT_TRUE(few) << few.status().message();
  ASSERT_TRUE(one) << one.status().message();
  ASSERT_TRUE(many) << many.status().message();
  constexpr int64_t kTokens = 103;
  QuantizedRows x(product.inputs, randomFloats(kTokens * c.cols, 5), c.cols,
                  product.xStride, 9);
  std::vector<float> all = product.run(*many, x.bytes.data(), kTokens);
  auto expectSame = [&](const std::vector<float> &found, int64_t first) {
    EXPECT_EQ(std::memcmp(found.data(), &all[first * product.outputs],
                          found.size() * sizeof(float)),
              0)
        << found.size() / product.outputs << " tokens from " << first;
  };
  for (int64_t t : {0, 1, 50, 95, 96, 102})
    expectSame(product.run(*one, x.row(t), 1), t);
  for (int64_t n : {1, 2, 3, 5, 8})
    for (int64_t t : {0, 7, 93}) {
      expectSame(product.run(*few, x.row(t), n), t);
      expectSame(product.run(*many, x.row(t), n), t);
    }
}

/// Sums of integers are exact, and what follows is done in every lane alike.
TEST_P(LinearIntKernels, EveryTargetGivesTheSameBits) {
  const Case &c = GetParam();
  if (!c.emulated)
    GTEST_SKIP() << "nothing to compare this machine's target with";
  Product there = c.product(), here = c.product();
  here.target = hostTarget();
  constexpr int64_t kTokens = 45;
  QuantizedRows x(there.inputs, randomFloats(kTokens * c.cols, 3), c.cols,
                  there.xStride, 3);
  for (const char *tokens : {"one", "few", "many"}) {
    auto emulated = there.compile(tokens), native = here.compile(tokens);
    ASSERT_TRUE(emulated) << emulated.status().message();
    ASSERT_TRUE(native) << native.status().message();
    int64_t n = tokens[0] == 'o' ? 1 : tokens[0] == 'f' ? 5 : kTokens;
    EXPECT_EQ(there.run(*emulated, x.bytes.data(), n),
              here.run(*native, x.bytes.data(), n))
        << tokens;
  }
}

std::vector<Case> emulatedCases() {
  std::vector<Case> all;
  for (const Target &target : allTargets())
    if (target.name != "x86-64-v3")
      for (Case c : {Case{"int4<32>", 64, 40, false, {1, 13, 33, 130}},
                     Case{"int4<64, zero_points>", 64, 200, true, {31}},
                     Case{"int8<32>", 64, 100, false, {1, 13, 33, 130}},
                     Case{"int8<128>", 64, 300, true, {31}},
                     Case{"int3<32, zero_points>", 64, 72, false, {1, 6, 33}},
                     Case{"int6<64, zero_points>", 64, 72, false, {1, 6, 33}},
                     Case{"nf4<32>", 64, 72, false, {1, 6, 33}}}) {
        c.emulated = target.name.data();
        all.push_back(c);
      }
  return all;
}

INSTANTIATE_TEST_SUITE_P(OtherTargets, LinearIntKernels,
                         testing::ValuesIn(emulatedCases()));

INSTANTIATE_TEST_SUITE_P(
    Encodings, LinearIntKernels,
    testing::Values(
        Case{"int4<32>", 32, 40, false, {1, 2, 3, 6, 7, 8, 13, 96, 100}},
        Case{"int4<32>", 544, 1536, false, {7}},
        Case{"int4<32>", 1600, 64, true, {7}},
        Case{"int4<64>", 96, 100, false, {13}},
        Case{"int4<128>", 64, 300, true, {48}},
        Case{"int4<32, zero_points>", 96, 1536, false, {13}},
        Case{"int4<64, zero_points>", 192, 100, true, {100}},
        Case{"int4<128, zero_points>", 64, 40, true, {3}},
        Case{"int8<32>", 96, 100, false, {1, 8, 100}},
        Case{"int8<64>", 64, 1536, true, {6}},
        Case{"int8<128>", 544, 300, false, {13}},
        Case{"int2<32>", 544, 100, false, {1, 3, 8, 13, 130}},
        Case{"int2<128, zero_points>", 64, 300, true, {2, 48}},
        Case{"int3<32>", 64, 1536, true, {1, 7, 13}},
        Case{"int3<64, zero_points>", 96, 100, false, {5, 100}},
        Case{"int5<32>", 96, 100, false, {1, 8, 100}},
        Case{"int5<64, zero_points>", 64, 300, true, {3, 13}},
        Case{"int6<128>", 544, 300, false, {1, 13}},
        Case{"int6<32, zero_points>", 64, 40, true, {6, 33}},
        Case{"nf4<32>", 96, 1536, false, {1, 4, 13}},
        Case{"nf4<128>", 64, 300, true, {7, 100}}));

/// The largest quants and weights, which fill the narrow sums to the brim.
TEST(LinearInt, ExtremesDoNotOverflow) {
  if (!hostTarget())
    GTEST_SKIP() << "this machine runs none of the targets";
  for (const char *encoding : {"int4<32, zero_points>", "int3<32, zero_points>",
                               "int8<32>", "int6<32, zero_points>", "nf4<32>"})
    for (auto [sign, index] :
         {std::pair(1, 0), {1, 1}, {-1, 2}, {1, 3}, {-1, 4}, {-1, 0}}) {
      Product product(encoding, 32, 64, false);
      product.target = &allTargets()[index];
      SCOPED_TRACE(product.target->name.str());
      const PackedEncoding &e = product.weight.encoding;
      const IntegerFormat &format = *e.integers();
      int most = (1 << format.bits) - 1;
      for (int64_t b = 0; b < 2; ++b) {
        uint8_t *block = product.weight.bytes.data() + b * e.blockBytes();
        std::memset(block, format.kind == EncodingKind::Int8 ? 0x80 : 0xff,
                    e.blockQuantBytes());
        uint16_t one = 0x3f80; // 1.0 in bf16
        for (int64_t r = 0; r < 32; ++r)
          std::memcpy(block + e.scaleOffset() + r * 2, &one, 2);
        if (e.zeroPoints)
          std::memset(block + e.zeroPointOffset(), b ? most : 0, 32);
      }
      QuantizedRows x(product.inputs,
                      std::vector<float>(64, float(sign) * 3.0f), 64, 128, 7);
      double w0 = e.zeroPoints      ? most
                  : format.codebook ? format.codebook[15]
                                    : -128,
             w1 = e.zeroPoints ? 0 : w0;
      auto expected = static_cast<float>(32 * sign * 3.0 * (w0 + w1));
      for (const char *tokens : {"one", "few", "many"}) {
        auto kernel = product.compile(tokens);
        ASSERT_TRUE(kernel) << kernel.status().message();
        for (float found : product.run(*kernel, x.bytes.data(), 1))
          ASSERT_NEAR(found, expected, std::fabs(expected) * 1e-6)
              << encoding << ' ' << tokens;
      }
    }
}

/// A quantized result holds the bytes that quantizing the plain one gives.
TEST(LinearInt, SwigluQuantizesItsResult) {
  if (!hostTarget())
    GTEST_SKIP() << "this machine runs none of the targets";
  for (const char *encoding : {"int4<32>", "int8<32>"})
    for (const char *tokens : {"one", "few", "many"}) {
      Product product(encoding, 256, 96, true);
      auto plain = product.compile(tokens);
      auto quantized = product.compile(tokens, /*quantizes=*/true);
      ASSERT_TRUE(plain) << plain.status().message();
      ASSERT_TRUE(quantized) << quantized.status().message();
      int64_t n = tokens[0] == 'o' ? 1 : 5;
      QuantizedRows x(product.inputs, randomFloats(n * 96, 3), 96, 128, 8);
      QuantizedRows expected(product.inputs,
                             product.run(*plain, x.bytes.data(), n), 128, 128);
      AlignedBytes y(8 * product.inputs.rowBytes(128));
      quantized->run({x.bytes.data(), product.weight.bytes.data(), y.data()},
                     {.n_tokens = n, .position = 0, .first_row = 0});
      int64_t used = product.inputs.usedBytes(128);
      for (int64_t t = 0; t < n; ++t)
        EXPECT_EQ(std::memcmp(y.data() + t * product.inputs.rowBytes(128),
                              expected.row(t), used),
                  0)
            << encoding << ' ' << tokens << " token " << t;
    }
}

TEST(LinearInt, EveryTargetUsesItsDotInstructions) {
  struct Expected {
    const char *encoding, *target;
    std::vector<const char *> instructions;
    std::vector<const char *> classes = {"one", "few", "many"};
  };
  const Expected cases[] = {
      {"int4<32>", "x86-64-v3", {"vpmaddubsw", "vpaddw", "vpmaddwd"}},
      {"int8<32>", "x86-64-v3", {"vpmaddwd"}},
      {"int4<32>", "x86-64-v4", {"vpdpbusd"}},
      {"int8<32>", "x86-64-v4", {"vpdpwssd"}},
      {"int4<32>", "aarch64", {"sdot"}},
      {"int8<32>", "aarch64", {"sdot"}},
      // What many tokens take is in TilesFitTheRegisters.
      {"int4<32>", "aarch64-i8mm", {"sdot"}, {"one"}},
      {"int4<32>", "aarch64-i8mm", {"smmla"}, {"few"}},
      {"int8<32>", "aarch64-i8mm", {"sdot", "usdot"}, {"one"}},
  };
  mlir::DialectRegistry registry;
  registerCodegenDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  for (const Expected &c : cases)
    for (const char *tokens : c.classes) {
      Product product(c.encoding, 256, 256, false);
      auto module = mlir::parseSourceString<mlir::ModuleOp>(
          product.entry(tokens, false), mlir::ParserConfig(&context));
      ASSERT_TRUE(module);
      auto text = dumpCode(*module, *findTarget(c.target), TextForm::Assembly);
      ASSERT_TRUE(text) << text.status().message();
      for (const char *instruction : c.instructions)
        EXPECT_NE(text->find(instruction), std::string::npos)
            << c.encoding << ' ' << tokens << " for " << c.target << " without "
            << instruction;
    }
}

/// What the many tokens of a launch are multiplied with, and that registers
/// suffice: LLVM marks each spill in a comment.
TEST(LinearInt, TilesFitTheRegisters) {
  mlir::DialectRegistry registry;
  registerCodegenDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  struct Expected {
    const char *encoding, *target;
    std::vector<const char *> instructions;
  };
  for (const Expected &c :
       {Expected{"int4<32>", "x86-64-amx", {"tdpbssd", "tileloadd"}},
        {"int8<32>", "x86-64-amx", {"tdpbssd", "tdpbusd", "ldtilecfg"}},
        {"int4<32>", "aarch64-i8mm", {"smmla"}},
        {"int8<32>", "aarch64-i8mm", {"smmla", "usmmla"}},
        {"int8<32>", "aarch64", {"sdot"}}}) {
    Product product(c.encoding, 256, 256, false);
    auto module = mlir::parseSourceString<mlir::ModuleOp>(
        product.entry("many", false), mlir::ParserConfig(&context));
    ASSERT_TRUE(module);
    auto text = dumpCode(*module, *findTarget(c.target), TextForm::Assembly);
    ASSERT_TRUE(text) << text.status().message();
    for (const char *instruction : c.instructions)
      EXPECT_NE(text->find(instruction), std::string::npos)
          << c.encoding << " for " << c.target << " without " << instruction;
    for (const char *spill :
         {"16-byte Folded Spill", "64-byte Spill", "1024-byte"})
      EXPECT_EQ(text->find(spill), std::string::npos)
          << c.encoding << " for " << c.target << " spills";
  }
}

} // namespace
