//===- EmitFusedTest.cpp - Fused launches against their parts -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace retort {
namespace {

using test::AlignedBytes;
using test::CompiledKernel;
using test::HeadCache;
using test::PackedMatrix;
using test::QuantizedRows;
using test::randomFloats;

std::string rows(int64_t stride) {
  return "tensor<?x" + std::to_string(stride) + "xf32>";
}

std::string vectorType(int64_t n) {
  return "tensor<" + std::to_string(n) + "xf32>";
}

/// Parts of an entry as text: operands, each a name and a type, and an op.
struct Part {
  std::vector<std::pair<std::string, std::string>> operands;
  std::string results; ///< "%q, %nk, %nv"
  std::string op;      ///< from the "=" on
};

std::string joined(const Part &part, bool names, bool types) {
  std::string out;
  for (auto &[name, type] : part.operands) {
    out += out.empty() ? "" : ", ";
    out += names && types ? name + ": " + type : names ? name : type;
  }
  return out;
}

std::string entryOf(const Part &part, const std::string &tokens) {
  return "kernel.entry @k tokens(" + tokens + ") {\n^bb0(" +
         joined(part, true, true) + "):\n  " + part.results + " = " + part.op +
         "\n}\n";
}

/// `outer` are the fused op's operands, `types` those of its results.
std::string fusedEntry(const Part &outer, const std::vector<Part> &parts,
                       const std::string &results, const std::string &types,
                       const std::string &tokens) {
  std::string body;
  for (const Part &part : parts)
    body += "  " + part.results + " = " + part.op + "\n";
  return "kernel.entry @k tokens(" + tokens + ") {\n^bb0(" +
         joined(outer, true, true) + "):\n  %r:" +
         std::to_string(std::count(results.begin(), results.end(), '%')) +
         " = kernel.fused " + joined(outer, true, false) + " : (" +
         joined(outer, false, true) + ") -> (" + types + ") {\n  ^bb1(" +
         [&] {
           std::string inner;
           for (auto &[name, type] : outer.operands)
             inner +=
                 (inner.empty() ? "%i" : ", %i") + name.substr(1) + ": " + type;
           return inner;
         }() +
         "):\n" + body + "  kernel.yield " + results + " : " + types +
         "\n  }\n}\n";
}

class EmitFusedTest : public ::testing::Test {
protected:
  void SetUp() override {
    target = hostTarget();
    if (!target)
      GTEST_SKIP() << "no CPU target of the table runs on this machine";
  }
  const Target *target = nullptr;
};

struct NormCase {
  PackedEncoding encoding;
  int64_t cols, rows;
  bool swiglu, isQuantized;
};

/// A norm and its linear for one token, at once and in turn: the same bits.
void checkNormLinear(const Target &target, NormCase c) {
  SCOPED_TRACE(c.encoding.str() + ", " + std::to_string(c.rows) + " x " +
               std::to_string(c.cols));
  auto inputs = ActivationEncoding::forWeights(c.encoding);
  int64_t stride = roundUp<int64_t>(c.cols, kStrideMultiple);
  int64_t width = c.swiglu ? c.rows / 2 : c.rows;
  int64_t outStride = roundUp<int64_t>(width, kStrideMultiple);
  PackedMatrix weight(c.encoding, c.rows, c.cols, 3);
  std::string form =
      inputs ? QuantizedRows::type(*inputs, stride) : rows(stride);
  std::string result =
      c.isQuantized ? QuantizedRows::type(*inputs, outStride) : rows(outStride);
  std::string normType =
      "(" + rows(stride) + ", " + vectorType(c.cols) + ") -> " + form;
  auto linearOp = [&](const std::string &x, const std::string &w,
                      const std::string &bias) {
    return "kernel.linear " + x + ", " + w + " bias " + bias + " : " +
           vectorType(c.rows) + (c.swiglu ? " epilogue swiglu" : "") + " : (" +
           form + ", " + weight.type() + ") -> " + result;
  };
  Part norm{{{"%x", rows(stride)}, {"%n", vectorType(c.cols)}},
            "%y",
            "kernel.rms_norm %x, %n eps 1.0e-5 from_first_row : " + normType};
  Part linear{{{"%x", form}, {"%w", weight.type()}, {"%b", vectorType(c.rows)}},
              "%y",
              linearOp("%x", "%w", "%b")};
  Part outer{{{"%x", rows(stride)},
              {"%n", vectorType(c.cols)},
              {"%w", weight.type()},
              {"%b", vectorType(c.rows)}},
             "",
             ""};
  std::string text = fusedEntry(
      outer,
      {{{},
        "%m",
        "kernel.rms_norm %ix, %in eps 1.0e-5 from_first_row : " + normType},
       {{}, "%z", linearOp("%m", "%iw", "%ib")}},
      "%z", result, "one");
  auto first = CompiledKernel::compile(entryOf(norm, "one"), target);
  auto second = CompiledKernel::compile(entryOf(linear, "one"), target);
  auto fused = CompiledKernel::compile(text, target);
  ASSERT_TRUE(first) << first.status().message();
  ASSERT_TRUE(second) << second.status().message();
  ASSERT_TRUE(fused) << fused.status().message() << text;
  EXPECT_TRUE(fused->tiling().prepares);

  constexpr int64_t kRow = 2; // that head phases begin with
  auto numbers = randomFloats((kRow + 1) * stride + c.cols + c.rows, 7);
  AlignedBytes x(4 * (kRow + 1) * stride), n(4 * stride), b(4 * c.rows);
  std::copy_n(numbers.begin(), (kRow + 1) * stride, x.as<float>());
  std::copy_n(numbers.end() - c.cols, c.cols, n.as<float>());
  std::copy_n(numbers.end() - c.cols - c.rows, c.rows, b.as<float>());
  size_t bytes = 8 * outStride + 4096;
  AlignedBytes mid(8 * stride + 4096), expected(bytes), found(bytes);
  std::memset(expected.data(), 0x2a, bytes);
  std::memset(found.data(), 0x2a, bytes);
  retort_kernel_scalars scalars{1, 5, kRow};
  first->run({x.data(), n.data(), mid.data()}, scalars);
  second->run({mid.data(), weight.bytes.data(), b.data(), expected.data()},
              scalars);
  fused->run({x.data(), n.data(), weight.bytes.data(), b.data(), found.data()},
             scalars);
  EXPECT_EQ(std::memcmp(expected.data(), found.data(), bytes), 0);
  EXPECT_NE(expected.as<float>()[0], 0.0f);
}

TEST_F(EmitFusedTest, NormAndLinearOfOneToken) {
  PackedEncoding int4{EncodingKind::Int4, 32, false};
  PackedEncoding zeroPoints{EncodingKind::Int4, 64, true};
  PackedEncoding int8{EncodingKind::Int8, 32, false};
  PackedEncoding bf16{EncodingKind::BF16};
  checkNormLinear(*target, {int4, 200, 32 * 50, false, false});
  checkNormLinear(*target, {int4, 896, 64 * 26, true, true});
  checkNormLinear(*target, {zeroPoints, 256, 64, true, false});
  checkNormLinear(*target, {int8, 300, 32 * 7, false, false});
  checkNormLinear(*target, {bf16, 100, 64 * 30, true, false});
}

TEST_F(EmitFusedTest, NormOfSeveralTokensIsRefused) {
  PackedMatrix weight({EncodingKind::BF16}, 32, 128, 3);
  std::string x = rows(128), n = vectorType(128);
  std::string text = fusedEntry(
      {{{"%x", x}, {"%n", n}, {"%w", weight.type()}}, "", ""},
      {{{},
        "%m",
        "kernel.rms_norm %ix, %in eps 1.0e-5 : (" + x + ", " + n + ") -> " + x},
       {{},
        "%z",
        "kernel.linear %m, %iw : (" + x + ", " + weight.type() + ") -> " + x}},
      "%z", x, "many");
  auto kernel = CompiledKernel::compile(text, *target);
  ASSERT_FALSE(kernel);
  EXPECT_NE(kernel.status().message().find("launches of one token alone"),
            std::string::npos)
      << kernel.status().message();
}

struct HeadCase {
  PackedEncoding encoding;
  int64_t size, heads, kvHeads, cols, tokens;
  CacheElement element = CacheElement::F32;
};

/// A linear and what rotates its heads, at once and in turn: the same bits.
void checkLinearRope(const Target &target, HeadCase c) {
  SCOPED_TRACE(c.encoding.str() + ", head size " + std::to_string(c.size) +
               ", " + std::to_string(c.tokens) + " tokens");
  auto inputs = ActivationEncoding::forWeights(c.encoding);
  int64_t stride = roundUp<int64_t>(c.cols, kStrideMultiple);
  int64_t all = (c.heads + 2 * c.kvHeads) * c.size;
  int64_t allStride = roundUp<int64_t>(all, kStrideMultiple);
  int64_t qStride = roundUp<int64_t>(c.heads * c.size, kStrideMultiple);
  PackedMatrix weight(c.encoding, all, c.cols, 5);
  std::string tokens = c.tokens == 1 ? "one" : "many";
  std::string form =
      inputs ? QuantizedRows::type(*inputs, stride) : rows(stride);
  auto cache = [&](const char *kind) {
    return "!kernel.cache<" + std::string(kind) + ", " +
           std::to_string(c.kvHeads) + " x " + std::to_string(c.size) + ", " +
           std::string(cacheElementName(c.element)) + ">";
  };
  std::string keyType = cache("keys"), valueType = cache("values");
  std::string types = rows(qStride) + ", " + keyType + ", " + valueType;
  std::string linearType =
      " : (" + form + ", " + weight.type() + ") -> " + rows(allStride);
  std::string bias = " : " + vectorType(all);
  std::string ropeType = " heads " + std::to_string(c.heads) + " : (" +
                         rows(allStride) + ", " + rows(c.size) + ", " +
                         keyType + ", " + valueType + ") -> (" + types + ")";
  auto first = CompiledKernel::compile(
      entryOf({{{"%x", form}, {"%w", weight.type()}, {"%b", vectorType(all)}},
               "%y",
               "kernel.linear %x, %w bias %b" + bias + linearType},
              tokens),
      target);
  auto second = CompiledKernel::compile(
      entryOf({{{"%x", rows(allStride)},
                {"%t", rows(c.size)},
                {"%k", keyType},
                {"%v", valueType}},
               "%q, %nk, %nv",
               "kernel.rope_cache %x, %t, %k, %v" + ropeType},
              tokens),
      target);
  std::string text = fusedEntry(
      {{{"%x", form},
        {"%w", weight.type()},
        {"%b", vectorType(all)},
        {"%t", rows(c.size)},
        {"%k", keyType},
        {"%v", valueType}},
       "",
       ""},
      {{{}, "%m", "kernel.linear %ix, %iw bias %ib" + bias + linearType},
       {{}, "%q, %nk, %nv", "kernel.rope_cache %m, %it, %ik, %iv" + ropeType}},
      "%q, %nk, %nv", types, tokens);
  auto fused = CompiledKernel::compile(text, target);
  ASSERT_TRUE(first) << first.status().message();
  ASSERT_TRUE(second) << second.status().message();
  ASSERT_TRUE(fused) << fused.status().message() << text;

  constexpr int64_t kSpare = 16, kPosition = 30;
  int64_t positions = roundUp<int64_t>(kPosition + c.tokens, 64);
  auto numbers = randomFloats((c.tokens + kSpare) * c.cols, 11);
  AlignedBytes plain(4 * (c.tokens + kSpare) * stride);
  std::memset(plain.data(), 0, 4 * (c.tokens + kSpare) * stride);
  for (int64_t t = 0; t < c.tokens + kSpare; ++t)
    std::copy_n(numbers.begin() + t * c.cols, c.cols,
                plain.as<float>() + t * stride);
  std::optional<QuantizedRows> quantized;
  if (inputs)
    quantized.emplace(*inputs, numbers, c.cols, stride);
  void *x = inputs ? quantized->row(0) : plain.data();
  AlignedBytes b(4 * all), table(4 * (c.tokens + kSpare) * c.size);
  auto more = randomFloats(all + (c.tokens + kSpare) * c.size, 13);
  std::copy_n(more.begin(), all, b.as<float>());
  std::copy(more.begin() + all, more.end(), table.as<float>());
  struct Outputs {
    AlignedBytes q;
    HeadCache keys, values;
  };
  size_t qBytes = 4 * (c.tokens + kSpare) * qStride;
  size_t cacheBytes = positions / kCachePositions * c.kvHeads *
                      CacheEncoding{c.element}.blockBytes(c.size);
  auto fresh = [&] {
    Outputs out{AlignedBytes(qBytes),
                HeadCache(c.element, c.kvHeads, c.size, true, positions),
                HeadCache(c.element, c.kvHeads, c.size, false, positions)};
    std::memset(out.q.data(), 0x2a, qBytes);
    std::memset(out.keys.bytes.data(), 0x2a, cacheBytes);
    std::memset(out.values.bytes.data(), 0x2a, cacheBytes);
    return out;
  };
  Outputs expected = fresh(), found = fresh();
  retort_kernel_scalars scalars{c.tokens, kPosition, 0};
  AlignedBytes qkv(4 * (c.tokens + kSpare) * allStride);
  first->run({x, weight.bytes.data(), b.data(), qkv.data()}, scalars);
  second->run({qkv.data(), table.data(), expected.keys.bytes.data(),
               expected.values.bytes.data(), expected.q.data()},
              scalars);
  fused->run({x, weight.bytes.data(), b.data(), table.data(),
              found.keys.bytes.data(), found.values.bytes.data(),
              found.q.data()},
             scalars);
  EXPECT_EQ(std::memcmp(expected.q.data(), found.q.data(), qBytes), 0);
  EXPECT_EQ(std::memcmp(expected.keys.bytes.data(), found.keys.bytes.data(),
                        cacheBytes),
            0);
  EXPECT_EQ(std::memcmp(expected.values.bytes.data(), found.values.bytes.data(),
                        cacheBytes),
            0);
}

TEST_F(EmitFusedTest, LinearAndRope) {
  PackedEncoding int4{EncodingKind::Int4, 32, false};
  PackedEncoding int8{EncodingKind::Int8, 32, false};
  PackedEncoding bf16{EncodingKind::BF16};
  for (int64_t tokens : {1, 150}) {
    checkLinearRope(*target, {int4, 128, 12, 2, 200, tokens});
    checkLinearRope(*target, {int4, 64, 14, 2, 896, tokens});
    checkLinearRope(*target, {int8, 32, 3, 1, 100, tokens});
    checkLinearRope(*target, {bf16, 96, 2, 2, 130, tokens});
    checkLinearRope(*target, {int4, 256, 2, 1, 64, tokens});
    checkLinearRope(*target, {bf16, 32, 5, 1, 64, tokens});
  }
}

TEST_F(EmitFusedTest, EveryElementOfACache) {
  PackedEncoding int4{EncodingKind::Int4, 32, false};
  for (CacheElement element :
       {CacheElement::F16, CacheElement::BF16, CacheElement::Int8})
    for (int64_t tokens : {1, 20})
      checkLinearRope(*target, {int4, 128, 4, 2, 128, tokens, element});
}

} // namespace
} // namespace retort
