//===- EmitAttentionTest.cpp - Attention against double precision ---------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"
#include "test/unit/lower/KernelHarness.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <random>
#include <sstream>

namespace retort {
namespace {

using test::AlignedBytes;
using test::CompiledKernel;

struct Shape {
  int64_t headDim, heads, kvHeads;
  CacheElement element = CacheElement::F32;
  int64_t splits = 0; ///< 0: without partials

  int64_t size() const { return 2 * roundUp<int64_t>(headDim / 2, 16); }
  int64_t width() const { return heads * size(); }
  int64_t stride() const { return roundUp<int64_t>(width(), 128); }
  double scale() const { return 1 / std::sqrt(static_cast<double>(headDim)); }

  std::string entry(bool one) const {
    auto cache = [&](const char *kind) {
      return "!kernel.cache<" + std::string(kind) + ", " +
             std::to_string(kvHeads) + " x " + std::to_string(size()) + ", " +
             std::string(cacheElementName(element)) + ">";
    };
    std::string partials = "!kernel.partials<" + std::to_string(splits) + ", " +
                           std::to_string(kvHeads) + " x " +
                           std::to_string(heads / kvHeads) + " x " +
                           std::to_string(size()) + ">";
    bool isSplit = splits > 0;
    std::string q = "tensor<?x" + std::to_string(stride()) + "xf32>";
    std::string keys = cache("keys"), values = cache("values");
    std::ostringstream out;
    out << "kernel.entry @k tokens(" << (one ? "one" : "many") << ") {\n"
        << "^bb0(%q: " << q << ", %k: " << keys << ", %v: " << values
        << (isSplit ? ", %p: " + partials : "") << "):\n"
        << "  %r = kernel.attention %q, %k, %v" << (isSplit ? ", %p" : "")
        << " heads " << heads << " scale " << std::scientific
        << std::setprecision(17) << scale() << " : (" << q << ", " << keys
        << ", " << values << (isSplit ? ", " + partials : "") << ") -> " << q
        << "\n}\n";
    return out.str();
  }
};

/// Random queries and caches for a chunk of `tokens` at `position`. Whatever a
/// kernel must not let into its results is a large number.
struct Problem {
  Problem(Shape shape, int64_t tokens, int64_t position, uint32_t seed,
          float queryScale = 1)
      : shape(shape), tokens(tokens), position(position),
        positions(roundUp<int64_t>(position + tokens, 64)),
        queries(activationBytes()),
        keys(shape.element, shape.kvHeads, shape.size(), true, positions),
        values(shape.element, shape.kvHeads, shape.size(), false, positions),
        partials(partialsBytes()), results(activationBytes()) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t t = 0; t < rows(); ++t)
      for (int64_t i = 0; i < shape.stride(); ++i) {
        bool inside = t < tokens && i < shape.width() && !padding(i);
        float value = inside ? queryScale * normal(random) : 0;
        queries.as<float>()[t * shape.stride() + i] = value;
        results.as<float>()[t * shape.stride() + i] = kUntouched;
      }
    for (int64_t p = 0; p < positions; ++p)
      for (int64_t h = 0; h < shape.kvHeads; ++h) {
        std::vector<float> key(shape.size()), value(shape.size());
        for (int64_t i = 0; i < shape.size(); ++i) {
          bool stale = p >= position + tokens;
          key[i] = stale ? 1e4f : padding(i) ? 0 : normal(random);
          value[i] = stale ? -1e4f : padding(i) ? 0 : normal(random);
        }
        keys.set(p, h, key);
        values.set(p, h, value);
      }
  }

  static constexpr float kUntouched = 12345;

  int64_t rows() const { return roundUp<int64_t>(tokens, 8); }
  bool padding(int64_t i) const {
    return i % (shape.size() / 2) >= shape.headDim / 2;
  }
  void run(const CompiledKernel &kernel) {
    run(kernel, queries.data(), results.data(), tokens, position);
  }
  void run(const CompiledKernel &kernel, void *q, void *result, int64_t count,
           int64_t at) {
    std::vector<void *> args = {q, keys.bytes.data(), values.bytes.data()};
    if (shape.splits > 0)
      args.push_back(partials.data());
    args.push_back(result);
    kernel.run(args, {count, at, 0});
  }
  std::vector<float> resultRows(int64_t count) {
    return {results.as<float>(), results.as<float>() + count * shape.stride()};
  }

  std::vector<double> reference(int64_t t, int64_t h) {
    int64_t kvHead = h / (shape.heads / shape.kvHeads);
    const float *q =
        queries.as<float>() + t * shape.stride() + h * shape.size();
    std::vector<double> scores(position + t + 1);
    for (size_t p = 0; p < scores.size(); ++p) {
      for (int64_t i = 0; i < shape.size(); ++i)
        scores[p] += static_cast<double>(q[i]) * keys.get(p, kvHead, i);
      scores[p] *= shape.scale();
    }
    double maximum = *std::max_element(scores.begin(), scores.end()), sum = 0;
    std::vector<double> out(shape.size());
    for (size_t p = 0; p < scores.size(); ++p) {
      double weight = std::exp(scores[p] - maximum);
      sum += weight;
      for (int64_t i = 0; i < shape.size(); ++i)
        out[i] += weight * values.get(p, kvHead, i);
    }
    for (double &o : out)
      o /= sum;
    return out;
  }

  /// The largest deviation over `count` tokens spread over the chunk.
  double worstError(int64_t count) {
    double worst = 0;
    int64_t step = std::max<int64_t>(1, tokens / count);
    for (int64_t t = tokens - 1; t >= 0; t -= step)
      for (int64_t h = 0; h < shape.heads; ++h) {
        std::vector<double> expected = reference(t, h);
        for (int64_t i = 0; i < shape.size(); ++i) {
          double got =
              results.as<float>()[t * shape.stride() + h * shape.size() + i];
          // A NaN must not pass as small.
          double error = std::abs(got - expected[i]);
          worst = error <= worst ? worst : error;
        }
      }
    return worst;
  }

  void expectNothingElseWritten() {
    // Counters are ready for the next launch.
    for (int64_t i = 0; shape.splits && i < 8 * shape.kvHeads * 16; ++i)
      ASSERT_EQ(partials.as<int32_t>()[i], 0) << "counter " << i;
    for (int64_t t = 0; t < rows(); ++t)
      for (int64_t i = 0; i < shape.stride(); ++i) {
        float got = results.as<float>()[t * shape.stride() + i];
        if (t >= tokens)
          ASSERT_EQ(got, kUntouched) << "row " << t << ", element " << i;
        else if (i >= shape.width() || padding(i))
          ASSERT_EQ(got, 0.0f) << "row " << t << ", element " << i;
      }
  }

  Shape shape;
  int64_t tokens, position, positions;
  AlignedBytes queries;
  test::HeadCache keys, values;
  AlignedBytes partials, results;

private:
  size_t activationBytes() const { return 4 * rows() * shape.stride(); }
  size_t partialsBytes() const {
    int64_t group = shape.heads / shape.kvHeads;
    int64_t record = group * shape.size() + 2 * roundUp<int64_t>(group, 16);
    return 4 * 8 * shape.kvHeads * (16 + shape.splits * record);
  }
};

class EmitAttentionTest : public ::testing::Test {
protected:
  void SetUp() override {
    target = hostTarget();
    if (!target)
      GTEST_SKIP() << "no CPU target of the table runs on this machine";
  }
  void check(Shape shape, bool one,
             std::vector<std::pair<int64_t, int64_t>> chunks,
             double bound = 2e-6) {
    SCOPED_TRACE("head " + std::to_string(shape.headDim) + ", " +
                 std::to_string(shape.heads) + "/" +
                 std::to_string(shape.kvHeads) + " heads, " +
                 std::string(cacheElementName(shape.element)) + ", splits " +
                 std::to_string(shape.splits));
    auto kernel = CompiledKernel::compile(shape.entry(one), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    for (auto [tokens, position] : chunks) {
      Problem problem(shape, tokens, position, tokens * 31 + position);
      problem.run(*kernel);
      EXPECT_LT(problem.worstError(8), bound)
          << tokens << " tokens at " << position;
      problem.expectNothingElseWritten();
    }
  }
  const Target *target = nullptr;
};

TEST_F(EmitAttentionTest, OneTokenOfAnyGroupSize) {
  for (int64_t group : {1, 2, 3, 5, 7, 12, 16})
    check({64, 2 * group, 2}, true,
          {{1, 0}, {1, 15}, {1, 63}, {1, 64}, {1, 700}});
}

TEST_F(EmitAttentionTest, OneTokenOfAnyHeadSize) {
  for (int64_t headDim : {16, 80, 96, 128, 256})
    check({headDim, 4, 2}, true, {{1, 0}, {1, 77}, {1, 320}});
}

TEST_F(EmitAttentionTest, OneTokenFarIntoTheContext) {
  check({32, 4, 1}, true, {{1, 5000}, {1, 40000}});
}

TEST_F(EmitAttentionTest, ManyTokensOfAnyGroupSize) {
  for (int64_t group : {1, 2, 3, 7, 8, 16})
    check({64, 2 * group, 2}, false,
          {{1, 0}, {2, 0}, {3, 61}, {5, 64}, {17, 130}, {100, 0}, {100, 33}});
}

TEST_F(EmitAttentionTest, ManyTokensOfAnyHeadSize) {
  for (int64_t headDim : {16, 80, 96, 128, 256})
    check({headDim, 6, 2}, false, {{1, 5}, {4, 63}, {33, 0}, {100, 300}});
}

TEST_F(EmitAttentionTest, ManyTokensFarIntoTheContext) {
  check({64, 7, 1}, false, {{20, 5000}});
}

TEST_F(EmitAttentionTest, GroupLargerThanATile) {
  check({32, 128, 1}, true, {{1, 100}});
  check({32, 128, 1}, false, {{3, 100}});
}

TEST_F(EmitAttentionTest, StrideWiderThanTheHeads) {
  Shape shape{32, 3, 1};
  ASSERT_GT(shape.stride(), shape.width());
  check(shape, true, {{1, 9}});
  check(shape, false, {{9, 9}});
}

constexpr CacheElement kElements[] = {CacheElement::F32, CacheElement::F16,
                                      CacheElement::BF16, CacheElement::Int8};

// Around the edges of cache blocks, of attention's blocks and of the rounds
// that these go over the tiles.
TEST_F(EmitAttentionTest, OneTokenOfAnyElement) {
  for (CacheElement element : kElements)
    for (int64_t splits : {0, 3})
      for (auto [headDim, group] :
           {std::pair<int64_t, int64_t>{80, 6}, {32, 1}, {128, 7}, {64, 12}})
        check({headDim, 2 * group, 2, element, splits}, true,
              {{1, 0},
               {1, 15},
               {1, 16},
               {1, 63},
               {1, 64},
               {1, 127},
               {1, 128},
               {1, 191},
               {1, 192},
               {1, 193},
               {1, 1000}});
}

TEST_F(EmitAttentionTest, ManyTokensOfAnyElement) {
  for (CacheElement element : kElements)
    for (auto [headDim, group] :
         {std::pair<int64_t, int64_t>{80, 6}, {32, 1}, {128, 7}})
      check({headDim, 2 * group, 2, element, 3}, false,
            {{1, 0}, {9, 60}, {33, 0}, {100, 300}});
}

TEST_F(EmitAttentionTest, SplitFarIntoTheContext) {
  for (CacheElement element : kElements)
    check({32, 4, 1, element, 16}, true, {{1, 5000}, {1, 20000}});
}

// Each token's tiles meet in memory of their own.
TEST_F(EmitAttentionTest, FewTokensHaveTheBitsOfEachAlone) {
  for (CacheElement element : kElements) {
    Shape shape{64, 6, 2, element, 5};
    auto kernel = CompiledKernel::compile(shape.entry(true), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    Problem problem(shape, 8, 445, 9);
    problem.run(*kernel);
    std::vector<float> together = problem.resultRows(8);
    EXPECT_LT(problem.worstError(8), 2e-6);
    problem.expectNothingElseWritten();
    for (int64_t t = 0; t < 8; ++t) {
      auto row = [&](AlignedBytes &a) {
        return a.as<float>() + t * shape.stride();
      };
      problem.run(*kernel, row(problem.queries), row(problem.results), 1,
                  445 + t);
    }
    EXPECT_EQ(problem.resultRows(8), together);
  }
}

// A part whose positions are all hopeless must vanish, not spoil the sum.
TEST_F(EmitAttentionTest, PartsOfVeryDifferentMaxima) {
  for (CacheElement element : kElements) {
    Shape shape{64, 4, 2, element, 4};
    auto kernel = CompiledKernel::compile(shape.entry(true), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    Problem problem(shape, 1, 400, 6, /*queryScale=*/60);
    problem.run(*kernel);
    EXPECT_LT(problem.worstError(1), 1e-3);
  }
}

// Weights that underflow, and maxima that grow from block to block.
TEST_F(EmitAttentionTest, LargeScores) {
  Shape shape{64, 4, 2};
  for (bool one : {true, false}) {
    auto kernel = CompiledKernel::compile(shape.entry(one), *target);
    ASSERT_TRUE(kernel) << kernel.status().message();
    Problem problem(shape, one ? 1 : 20, 300, 5, /*queryScale=*/60);
    problem.run(*kernel);
    // Scores reach some hundreds, which f32 holds to some 1e-5.
    EXPECT_LT(problem.worstError(20), 1e-3);
  }
}

// The order of a row's sums is that of the positions, whatever the tile.
TEST_F(EmitAttentionTest, ResultsDoNotDependOnTheChunk) {
  Shape shape{64, 14, 2};
  auto one = CompiledKernel::compile(shape.entry(true), *target);
  auto many = CompiledKernel::compile(shape.entry(false), *target);
  ASSERT_TRUE(one && many);
  Problem whole(shape, 150, 0, 1);
  whole.run(*many);
  AlignedBytes expected(4 * whole.rows() * shape.stride());
  std::copy_n(whole.results.as<float>(), whole.rows() * shape.stride(),
              expected.as<float>());
  for (int64_t chunk : {1, 7, 64, 100}) {
    for (int64_t first = 0; first < 150; first += chunk) {
      int64_t tokens = std::min<int64_t>(chunk, 150 - first);
      auto at = [&](AlignedBytes &a) {
        return a.as<float>() + first * shape.stride();
      };
      std::fill_n(at(whole.results), tokens * shape.stride(), -1.0f);
      (tokens == 1 ? *one : *many)
          .run({at(whole.queries), whole.keys.bytes.data(),
                whole.values.bytes.data(), at(whole.results)},
               {tokens, first, 0});
    }
    for (int64_t i = 0; i < 150 * shape.stride(); ++i)
      ASSERT_EQ(whole.results.as<float>()[i], expected.as<float>()[i])
          << "chunks of " << chunk << ", element " << i;
  }
}

TEST_F(EmitAttentionTest, RunsAreBitIdentical) {
  Shape shape{128, 12, 2};
  auto kernel = CompiledKernel::compile(shape.entry(false), *target);
  ASSERT_TRUE(kernel);
  Problem problem(shape, 40, 200, 3);
  problem.run(*kernel);
  std::vector<float> first(problem.results.as<float>(),
                           problem.results.as<float>() + 40 * shape.stride());
  problem.run(*kernel);
  EXPECT_TRUE(
      std::equal(first.begin(), first.end(), problem.results.as<float>()));
}

// Every target can be compiled for, on any machine.
TEST_F(EmitAttentionTest, CompilesForEveryTarget) {
  for (const Target &target : allTargets())
    for (auto [element, one] : {std::pair{CacheElement::F32, true},
                                {CacheElement::F32, false},
                                {CacheElement::F16, true},
                                {CacheElement::BF16, true},
                                {CacheElement::Int8, true}}) {
      auto kernel = CompiledKernel::compile(
          Shape{80, 14, 2, element, 4}.entry(one), target);
      // Loading needs this machine's architecture, compiling does not.
      if (!kernel)
        EXPECT_EQ(kernel.status().code(), Code::InvalidData)
            << target.name.str() << ": " << kernel.status().message();
    }
}

TEST_F(EmitAttentionTest, TheFutureIsNotSeen) {
  Shape shape{64, 4, 2};
  auto kernel = CompiledKernel::compile(shape.entry(false), *target);
  ASSERT_TRUE(kernel);
  Problem problem(shape, 90, 10, 4);
  problem.run(*kernel);
  std::vector<float> before(problem.results.as<float>(),
                            problem.results.as<float>() + 50 * shape.stride());
  for (int64_t p = 60; p < 100; ++p)
    for (test::HeadCache *cache : {&problem.keys, &problem.values})
      cache->set(p, cache == &problem.values, std::vector<float>(64, 50));
  problem.run(*kernel);
  for (size_t i = 0; i < before.size(); ++i)
    ASSERT_EQ(problem.results.as<float>()[i], before[i]) << i;
  // The tokens from there on do see it.
  EXPECT_LT(problem.worstError(90), 1e-3);
}

} // namespace
} // namespace retort
