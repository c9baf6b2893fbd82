//===- TextScoreTest.cpp - Loss and divergence on texts -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TextScore.h"
#include "test/unit/score/ScoreTestSupport.h"

#include <algorithm>
#include <numeric>

using namespace retort;
using namespace retort::score;
using namespace retort::test;

namespace {

std::vector<int32_t> someTokens(size_t count, uint32_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> out(count);
  for (int32_t &token : out)
    token = static_cast<int32_t>(random() % vocab);
  return out;
}

TextPlan somePlan(uint32_t vocab, uint32_t context, uint32_t stride,
                  std::vector<int32_t> prefix = {}) {
  TextPlan plan;
  plan.texts.push_back({"one", someTokens(90, vocab, 1), 0});
  plan.texts.push_back({"empty", {}, 0});
  plan.texts.push_back({"two", someTokens(33, vocab, 2), 5});
  plan.prefix = std::move(prefix);
  plan.context = context;
  plan.stride = stride;
  return plan;
}

struct Expected {
  double loss, kl, position;
};

/// Each token on its own, as the plan's definition reads.
std::vector<Expected> scoredOneByOne(const TextPlan &plan,
                                     const FakeModel &model,
                                     const FakeModel &teacher, size_t ids) {
  std::vector<Expected> out;
  for (const Window &w : planWindows(plan))
    for (uint64_t i = w.firstScored; i < w.end; ++i) {
      const auto &tokens = plan.texts[w.text].tokens;
      std::vector<int32_t> context = plan.prefix;
      context.insert(context.end(), tokens.begin() + w.begin,
                     tokens.begin() + i);
      std::vector<float> q = model.rowAfter(context),
                         p = teacher.rowAfter(context);
      double loss = -exactLogProbs(q)[tokens[i]];
      q.resize(ids);
      p.resize(ids);
      out.push_back({loss, exactKl(p, q), double(context.size())});
    }
  return out;
}

TEST(ScoreTexts, GivesEachTokensLossAndDivergence) {
  for (auto [context, stride, prefix] :
       {std::tuple(64u, 63u, 0u), std::tuple(20u, 7u, 0u),
        std::tuple(16u, 1u, 2u), std::tuple(3u, 1u, 1u)}) {
    FakeModel model(40, 1), teacher(44, 2);
    TextPlan plan =
        somePlan(40, context, stride, std::vector<int32_t>(prefix, 3));
    TextReport report(3, true, 5);
    ASSERT_TRUE(scoreTexts(plan, model, &teacher, 38, report).isOk());
    auto expected = scoredOneByOne(plan, model, teacher, 38);
    ASSERT_EQ(report.all().tokens, expected.size());
    double loss = 0, kl = 0;
    std::vector<double> kls;
    for (const Expected &one : expected) {
      loss += one.loss;
      kl += one.kl;
      kls.push_back(one.kl);
    }
    auto count = double(expected.size());
    EXPECT_NEAR(report.meanLoss(), loss / count, 1e-10);
    EXPECT_NEAR(report.klMean().lower, kl / count, 1e-10);
    EXPECT_EQ(report.klMean().lower, report.klMean().upper);
    std::sort(kls.begin(), kls.end());
    EXPECT_NEAR(report.worst()[0].kl.lower, kls.back(), 1e-10);
    EXPECT_NEAR(report.worst()[4].kl.lower, kls[kls.size() - 5], 1e-10);
    EXPECT_EQ(report.texts()[0].tokens + report.texts()[2].tokens,
              report.all().tokens);
    EXPECT_EQ(report.texts()[1].tokens, 0u);
    std::vector<uint64_t> buckets(report.positions().size());
    for (const Expected &one : expected)
      ++buckets.at(size_t(std::log2(one.position)) + 1);
    for (size_t b = 0; b < buckets.size(); ++b)
      EXPECT_EQ(report.positions()[b].tokens, buckets[b]);
  }
}

TEST(ScoreTexts, AgreesWithItself) {
  FakeModel model(40, 1), same(40, 1);
  TextReport report(3, true, 0);
  ASSERT_TRUE(
      scoreTexts(somePlan(40, 30, 29), model, &same, 40, report).isOk());
  EXPECT_EQ(report.klMean().upper, 0);
  EXPECT_EQ(report.all().sameBest, double(report.all().tokens));
  EXPECT_EQ(report.all().sharedTop, double(report.all().tokens));
  EXPECT_TRUE(report.worst().empty());
}

TEST(ScoreTexts, NamesTheTokenOfABadLogit) {
  FakeModel model(40, 1, INFINITY);
  TextReport report(3, false, 0);
  Status status = scoreTexts(somePlan(40, 30, 29), model, nullptr, 40, report);
  EXPECT_EQ(status.code(), Code::InvalidData);
  EXPECT_NE(status.message().find("one: token 1"), std::string::npos)
      << status.message();
}

class TeacherRun : public ::testing::Test {
protected:
  TeacherInfo infoOf(uint32_t topK) {
    TeacherInfo info;
    info.name = "teacher";
    info.vocab = 40;
    info.topK = topK;
    info.teacher = 2;
    info.plan = somePlan(40, 20, 12);
    return info;
  }
  std::string path() { return dir.path("t"); }
  /// Writes a file, ending before its end if the model fails.
  Status record(FakeModel &model, const TeacherInfo &info, bool resume = true) {
    auto writer = TeacherWriter::create(path(), info, resume);
    if (!writer.isOk())
      return writer.takeStatus();
    Status status = recordTeacher(*writer, info, model);
    Status flushed = writer->flush();
    if (!status.isOk())
      return status;
    return flushed.isOk() ? writer->commit() : std::move(flushed);
  }
  std::string bytes() { return *readFile(path(), 1 << 24); }
  ScratchDir dir;
};

TEST_F(TeacherRun, BoundsHoldWhatTheTeacherItselfGives) {
  FakeModel model(43, 1), teacher(40, 2);
  TextReport exact(3, true, 3);
  TeacherInfo info = infoOf(40);
  ASSERT_TRUE(scoreTexts(info.plan, model, &teacher, 40, exact).isOk());
  for (uint32_t topK : {5u, 20u, 40u}) {
    info.topK = topK;
    ASSERT_TRUE(record(teacher, info).isOk());
    auto file = TeacherReader::open(path());
    ASSERT_TRUE(file.isOk()) << file.status().message();
    TextReport report(3, true, 3);
    ASSERT_TRUE(scoreAgainstFile(*file, model, report).isOk());
    EXPECT_DOUBLE_EQ(report.meanLoss(), exact.meanLoss());
    EXPECT_LE(report.klMean().lower, exact.klMean().lower);
    EXPECT_GE(report.klMean().upper, exact.klMean().upper);
    for (double share : {0.5, 0.99}) {
      EXPECT_LE(report.klQuantile(share).lower, exact.klQuantile(share).lower);
      EXPECT_GE(report.klQuantile(share).upper, exact.klQuantile(share).upper);
    }
    EXPECT_EQ(report.all().sameBest, exact.all().sameBest);
    EXPECT_EQ(report.all().sharedTop, exact.all().sharedTop);
    if (topK == 40)
      EXPECT_NEAR(report.klMean().upper, report.klMean().lower, 1e-4);
    TextReport own(3, false, 0);
    ASSERT_TRUE(scoreTeacherFile(*file, own).isOk());
    EXPECT_NEAR(own.meanLoss(),
                exact.all().teacherLoss / double(exact.all().tokens), 1e-6);
  }
}

TEST_F(TeacherRun, KilledAnywhereItGoesOnToTheSameBytes) {
  TeacherInfo info = infoOf(9);
  FakeModel whole(40, 2);
  ASSERT_TRUE(record(whole, info).isOk());
  std::string expected = bytes();
  for (uint64_t at = 1; at < whole.fed; at += 5) {
    std::filesystem::remove(path());
    FakeModel killed(40, 2), again(40, 2);
    killed.failAfter = at;
    ASSERT_FALSE(record(killed, info).isOk());
    EXPECT_FALSE(std::filesystem::exists(path()));
    // What a crash leaves may end anywhere.
    uint64_t size = std::filesystem::file_size(path() + ".partial");
    std::filesystem::resize_file(path() + ".partial", size - size % 13);
    ASSERT_TRUE(record(again, info).isOk());
    EXPECT_EQ(bytes(), expected) << at;
    EXPECT_FALSE(std::filesystem::exists(path() + ".partial"));
    if (at > 80)
      EXPECT_LT(again.fed, whole.fed) << at;
  }
}

TEST_F(TeacherRun, GoesOnOnlyWithTheSameTeacherAndTexts) {
  FakeModel killed(40, 2);
  killed.failAfter = 60;
  TeacherInfo info = infoOf(9);
  ASSERT_FALSE(record(killed, info).isOk());
  auto refusal = [&](auto change) {
    TeacherInfo other = info;
    change(other);
    FakeModel model(40, 2);
    Status status = record(model, other);
    EXPECT_EQ(status.code(), Code::InvalidArgument);
    return status.message();
  };
  auto has = [](const std::string &text, const char *part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(
      has(refusal([](TeacherInfo &i) { i.teacher = 3; }), "the teacher"));
  EXPECT_TRUE(
      has(refusal([](TeacherInfo &i) { i.vocabulary = 3; }), "the vocabulary"));
  EXPECT_TRUE(has(refusal([](TeacherInfo &i) { i.topK = 8; }), "--top-k"));
  EXPECT_TRUE(
      has(refusal([](TeacherInfo &i) { i.plan.context = 21; }), "--context"));
  EXPECT_TRUE(
      has(refusal([](TeacherInfo &i) { i.plan.stride = 3; }), "--stride"));
  EXPECT_TRUE(
      has(refusal([](TeacherInfo &i) { i.plan.texts[0].tokens[4] ^= 1; }),
          "the text"));
  info.teacher = 3;
  FakeModel other(40, 3);
  EXPECT_TRUE(record(other, info, /*resume=*/false).isOk());
}

TEST_F(TeacherRun, DamagedRecordsAreComputedAgain) {
  TeacherInfo info = infoOf(9);
  FakeModel model(40, 2), again(40, 2);
  ASSERT_TRUE(record(model, info).isOk());
  std::string expected = bytes(), damaged = expected;
  damaged[damaged.size() * 3 / 4] ^= 4;
  writeBytes(path() + ".partial", damaged);
  ASSERT_TRUE(record(again, info).isOk());
  EXPECT_EQ(bytes(), expected);
}

TEST_F(TeacherRun, IsWrittenByOneProcessAtATime) {
  TeacherInfo info = infoOf(9);
  auto first = TeacherWriter::create(path(), info, true);
  ASSERT_TRUE(first.isOk());
  auto second = TeacherWriter::create(path(), info, true);
  ASSERT_FALSE(second.isOk());
  EXPECT_EQ(second.status().code(), Code::Io);
}

TEST_F(TeacherRun, AForeignPartialFileIsLeftAlone) {
  std::string foreign(500, 'x');
  writeBytes(path() + ".partial", foreign);
  FakeModel model(40, 2);
  EXPECT_FALSE(record(model, infoOf(9)).isOk());
  EXPECT_EQ(*readFile(path() + ".partial", 1000), foreign);
}

TEST(Quantile, LiesBetweenNeighbours) {
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(quantile({7}, 0.99), 7);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 1), 4);
  std::vector<double> hundred(101);
  std::iota(hundred.begin(), hundred.end(), 0);
  EXPECT_DOUBLE_EQ(quantile(hundred, 0.99), 99);
  EXPECT_DOUBLE_EQ(quantile({0, 10}, 0.99), 9.9);
}

TEST(RowsAtOnce, BoundsTheMemory) {
  for (uint32_t vocab : {1u, 384u, 32000u, 151936u, 152064u, 262144u}) {
    uint32_t rows = rowsAtOnce(vocab);
    EXPECT_GE(rows, 32u);
    EXPECT_EQ(rows % 32, 0u);
    EXPECT_LE(uint64_t(rows) * vocab * sizeof(float), uint64_t(64) << 20);
  }
  EXPECT_EQ(rowsAtOnce(151936), rowsAtOnce(152064));
}

} // namespace
