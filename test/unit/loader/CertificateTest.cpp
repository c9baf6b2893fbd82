//===- CertificateTest.cpp - What an artifact says of its fidelity --------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/loader/ArtifactBuilder.h"

#include "runtime/loader/Certificate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace retort::test {
namespace {

/// A sound certificate of the builder's model.
abi::CertificateT makeCertificate(const abi::Index &index) {
  abi::CertificateT c;
  c.weights = hashWeights(*index.program());
  auto source = std::make_unique<abi::SourceTensorT>();
  source->name = "model.embed_tokens.weight";
  source->dtype = "BF16";
  source->shape = {4, 2};
  source->sha256.assign(32, 7);
  c.sources.push_back(std::move(source));
  auto plan = std::make_unique<abi::MatrixPlanT>();
  plan->weight = index.program()->weights()->Get(0)->name()->str();
  plan->method = "nearest";
  plan->inputs = "int8<32>";
  c.plan.push_back(std::move(plan));
  c.reference = "a test";
  c.tolerance = 0.001;
  c.layers.assign(index.model()->num_layers(), 0.25);
  c.logits = 0.5;
  auto test = std::make_unique<abi::TestInputT>();
  test->tokens = {1, 2};
  for (int i = 0; i < 2; ++i) {
    auto row = std::make_unique<abi::TestRowT>();
    row->ids = {3, 1};
    row->logits = {2.5f, 1};
    row->rms = 1.5;
    test->rows.push_back(std::move(row));
  }
  c.tests.push_back(std::move(test));
  auto text = std::make_unique<abi::TextFiguresT>();
  text->name = "book.txt";
  text->sha256.assign(32, 9);
  text->tokens = 100;
  text->target = "x86-64-v3";
  text->mean_loss = 3;
  text->against = "teacher";
  text->kl_p99 = 0.5;
  c.texts.push_back(std::move(text));
  return c;
}

/// A file of the builder's model in a folder of its own.
class CertificateTest : public ::testing::Test {
protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "retort-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    path = folder + "/model.retort";
    write(path, builder.build());
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static void write(const std::string &to, const Bytes &bytes) {
    std::ofstream(to, std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  static std::string read(const std::string &from) {
    std::ifstream in(from, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::shared_ptr<const Artifact> open() {
    OpenOptions options;
    options.weights = WeightCheck::Always;
    auto artifact = Artifact::open(path, options);
    EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
    return artifact.isOk() ? *artifact : nullptr;
  }
  /// What parsing says of a certificate after a change.
  std::string refusal(const std::function<void(abi::CertificateT &)> &change) {
    abi::CertificateT c = makeCertificate(open()->index());
    change(c);
    auto parsed = parseCertificate(encodeCertificate(c), open()->index());
    return parsed.isOk() ? "" : parsed.status().message();
  }
  size_t files() const {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(folder), {}));
  }

  ArtifactBuilder builder;
  std::string folder, path;
};

TEST_F(CertificateTest, AnArtifactMayHaveNone) {
  auto found = readCertificate(*open());
  ASSERT_TRUE(found.isOk());
  EXPECT_FALSE(found->has_value());
}

TEST_F(CertificateTest, WhatIsWrittenIsRead) {
  auto artifact = open();
  abi::CertificateT c = makeCertificate(artifact->index());
  ASSERT_TRUE(replaceCertificate(*artifact, c).isOk());
  EXPECT_EQ(files(), 1u);
  auto changed = open();
  auto found = readCertificate(*changed);
  ASSERT_TRUE(found.isOk()) << found.status().message();
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ(**found, c);
  // All else stays.
  for (uint32_t i = 0; i < artifact->index().program()->weights()->size(); ++i)
    EXPECT_TRUE(std::ranges::equal(artifact->weight(i), changed->weight(i)));
  EXPECT_EQ(changed->index().sections()->size(),
            artifact->index().sections()->size() + 1);
}

TEST_F(CertificateTest, ReplacingGivesTheSameBytesAsWritingOnce) {
  abi::CertificateT c = makeCertificate(open()->index());
  ASSERT_TRUE(replaceCertificate(*open(), c).isOk());
  std::string once = read(path);
  // A longer one, then the first again.
  for (int i = 0; i < 2000; ++i) {
    c.texts.push_back(std::make_unique<abi::TextFiguresT>(*c.texts[0]));
    c.texts.back()->name = std::to_string(i * i);
  }
  ASSERT_TRUE(replaceCertificate(*open(), c).isOk());
  EXPECT_GT(read(path).size(), once.size());
  c.texts.resize(1);
  ASSERT_TRUE(replaceCertificate(*open(), c).isOk());
  EXPECT_EQ(read(path), once);
}

TEST_F(CertificateTest, ALinkStaysALink) {
  std::filesystem::rename(path, folder + "/target");
  std::filesystem::create_symlink("target", path);
  ASSERT_TRUE(
      replaceCertificate(*open(), makeCertificate(open()->index())).isOk());
  EXPECT_TRUE(std::filesystem::is_symlink(path));
  EXPECT_TRUE((*readCertificate(*open())).has_value());
}

TEST_F(CertificateTest, AFileThatWasReplacedMeanwhileIsLeftAlone) {
  auto artifact = open();
  builder.index.producer = "another";
  std::filesystem::remove(path);
  write(path, builder.build());
  std::string before = read(path);
  Status status =
      replaceCertificate(*artifact, makeCertificate(artifact->index()));
  EXPECT_FALSE(status.isOk());
  EXPECT_NE(status.message().find("was changed since it was opened"),
            std::string::npos);
  EXPECT_EQ(read(path), before);
  EXPECT_EQ(files(), 1u);
}

TEST_F(CertificateTest, OneInFrontOfOtherSectionsIsNotReplaced) {
  std::string text = encodeCertificate(makeCertificate(open()->index()));
  builder.addText(kCertificateSection, text, abi::SectionKind::Data);
  builder.addText("text/behind.txt", "text");
  write(path, builder.build());
  Status status = replaceCertificate(*open(), makeCertificate(open()->index()));
  EXPECT_FALSE(status.isOk());
  EXPECT_NE(status.message().find("behind all other sections"),
            std::string::npos)
      << status.message();
}

TEST_F(CertificateTest, BytesThatAreNoneAreRefused) {
  std::string good = encodeCertificate(makeCertificate(open()->index()));
  auto refused = [&](std::string_view bytes) {
    return !parseCertificate(bytes, open()->index()).isOk();
  };
  EXPECT_FALSE(refused(good));
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("RTCF"));
  for (size_t size = 0; size < good.size(); size += 8)
    EXPECT_TRUE(refused(std::string_view(good).substr(0, size))) << size;
  // Whatever a byte says, nothing but an answer comes out.
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x81);
    (void)refused(bad);
  }
}

TEST_F(CertificateTest, OneOfOtherWeightsIsRefused) {
  EXPECT_EQ(refusal([](auto &c) { ++c.weights; }),
            "certificate: is that of other weights");
}

TEST_F(CertificateTest, SourcesHaveNamesAndHashes) {
  EXPECT_EQ(refusal([](auto &c) { c.sources[0]->sha256.pop_back(); }),
            "certificate: sources[0]: sha256: expected 32 bytes, found 31");
  EXPECT_EQ(refusal([](auto &c) {
              c.sources.push_back(
                  std::make_unique<abi::SourceTensorT>(*c.sources[0]));
            }),
            "certificate: sources[1]: expected a name of its own, found "
            "'model.embed_tokens.weight' again");
}

TEST_F(CertificateTest, ThePlanIsOfWeights) {
  EXPECT_EQ(refusal([](auto &c) { c.plan[0]->weight = "none"; }),
            "certificate: plan[0]: expected a weight of the program, and each "
            "once, found 'none'");
  EXPECT_NE(refusal([](auto &c) {
              c.plan.push_back(std::make_unique<abi::MatrixPlanT>(*c.plan[0]));
            }),
            "");
}

TEST_F(CertificateTest, LayersAreThoseOfTheModel) {
  EXPECT_NE(refusal([](auto &c) { c.layers.push_back(0); }).find("layers: "),
            std::string::npos);
  EXPECT_NE(refusal([](auto &c) { c.layers[0] = NAN; }).find("finite"),
            std::string::npos);
  // Without sources there are none.
  EXPECT_NE(refusal([](auto &c) { c.sources.clear(); }), "");
  EXPECT_EQ(refusal([](auto &c) {
              c.sources.clear();
              c.layers.clear();
            }),
            "");
}

TEST_F(CertificateTest, TestInputsCanBeRun) {
  auto test = [&](const std::function<void(abi::TestInputT &)> &change) {
    return refusal([&](abi::CertificateT &c) { change(*c.tests[0]); });
  };
  EXPECT_EQ(test([](auto &t) { t.tokens[1] = kVocab; }),
            "certificate: tests[0]: tokens: expected ids below 260, found 260");
  EXPECT_NE(test([](auto &t) { t.tokens[0] = -1; }), "");
  EXPECT_NE(test([](auto &t) { t.tokens.clear(); }), "");
  EXPECT_NE(test([](auto &t) { t.tokens.push_back(1); }), "");
  EXPECT_NE(test([](auto &t) { t.tokens.resize(kMaxContext + 1); }), "");
  EXPECT_NE(test([](auto &t) { t.rows[0]->ids[0] = kVocab; }), "");
  EXPECT_NE(test([](auto &t) { t.rows[1]->ids.clear(); }), "");
  EXPECT_NE(test([](auto &t) { t.rows[1]->logits.pop_back(); }), "");
  EXPECT_NE(test([](auto &t) { t.rows[0]->logits[1] = INFINITY; }), "");
  EXPECT_NE(test([](auto &t) { t.rows[0]->rms = NAN; }), "");
}

TEST_F(CertificateTest, FiguresOfTextsAreNumbers) {
  auto text = [&](const std::function<void(abi::TextFiguresT &)> &change) {
    return refusal([&](abi::CertificateT &c) { change(*c.texts[0]); });
  };
  EXPECT_EQ(text([](auto &) {}), "");
  EXPECT_EQ(text([](auto &t) { t.tokens = 0; }),
            "certificate: texts[0]: expected at least one token, found none");
  EXPECT_NE(text([](auto &t) { t.sha256.clear(); }), "");
  EXPECT_NE(text([](auto &t) { t.mean_loss = NAN; }), "");
  EXPECT_NE(text([](auto &t) { t.kl_median = INFINITY; }), "");
}

} // namespace
} // namespace retort::test
