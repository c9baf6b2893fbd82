//===- ResumeTest.cpp - Interrupted and split artifacts ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ArtifactWriter.h"

#include "runtime/abi/Format.h"
#include "test/unit/pack/PackTestSupport.h"

#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace retort {
namespace {

using namespace test;
namespace fs = std::filesystem;
using checkpoint::Checkpoint;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGate = "model.layers.0.mlp.gate_proj.weight";
const std::string kEmbedding = "model.embed_tokens.weight";
constexpr size_t kWeights = 6;
/// Five parts, so that weights cross from one to the next.
constexpr uint64_t kPartBytes = 24 * abi::kPartAlignment;

class ResumeTest : public testing::TestWithParam<uint64_t> {
protected:
  void SetUp() override {
    TinyModel model;
    model.vocab = 5000;
    model.hidden = 512;
    model.intermediate = 1100;
    model.layers = 1;
    CheckpointBuilder(model).write(dir.path());
  }

  ArtifactContents contents(uint64_t partBytes) const {
    ArtifactContents contents;
    abi::IndexT &index = contents.index;
    index.producer = "test";
    index.model = std::make_unique<abi::ModelT>();
    index.model->family = "qwen2";
    index.model->name = "tiny";
    index.program = std::make_unique<abi::ProgramT>();
    index.properties.push_back(std::make_unique<abi::PropertyT>());
    index.properties[0]->key = "group_size";
    index.properties[0]->value = groupSize;
    contents.codes.push_back(
        {"code/x86-64-v3", std::vector<std::byte>(5000, std::byte(0xc3))});
    contents.texts.push_back({"text/config.json", text});
    contents.weights = {
        wholeMatrix(checkpoint(), kEmbedding, "int4<32>"),
        literalOf("table", 1000),
        vectorOf("bias", 600,
                 {{"model.layers.0.self_attn.q_proj.bias", 0, 512, 50}}),
        wholeMatrix(checkpoint(), kGate, "int8<64>"),
        wholeMatrix(checkpoint(), "lm_head.weight", "f16"),
        wholeMatrix(checkpoint(), "model.layers.0.mlp.up_proj.weight",
                    "int4<128, zero_points>")};
    contents.partBytes = partBytes;
    contents.examine = [this](const std::string &,
                              abi::IndexT &index) -> Result<bool> {
      if (killWhenExamined)
        std::raise(SIGKILL);
      if (!examination.isOk())
        return std::move(examination);
      index.properties.push_back(std::make_unique<abi::PropertyT>());
      index.properties.back()->key = "note";
      index.properties.back()->value = std::string(9000, 'n');
      return true;
    };
    return contents;
  }

  const Checkpoint &checkpoint() const {
    if (!opened)
      opened.emplace(openCheckpoint(dir.path()));
    return *opened;
  }

  /// Writes to model.retort in `outDir`; notes and progress are kept.
  Status write(uint64_t partBytes) {
    notes.clear();
    firstDone.reset();
    options.resume.note = [&](const std::string &note) {
      notes.push_back(note);
    };
    auto userProgress = options.pack.progress;
    options.pack.progress = [&, userProgress](uint64_t done, uint64_t total) {
      if (!firstDone)
        firstDone = done;
      if (userProgress)
        userProgress(done, total);
    };
    options.pack.recordSeconds = 0;
    auto made = contents(partBytes);
    auto sizes = writeArtifact(made, checkpoint(), path, options);
    options.pack.progress = userProgress;
    return sizes ? Status::ok() : sizes.takeStatus();
  }

  std::string partial(const std::string &name = "") const {
    return path + ".partial" + (name.empty() ? "" : "/" + name);
  }
  std::string journal() const { return partial("model.retort.journal"); }

  /// Records in the journal, if there is one.
  size_t records() const {
    std::error_code error;
    auto bytes = readFile(journal(), 1 << 20);
    if (!bytes)
      return 0;
    auto parsed = parseJournal(std::as_bytes(std::span(*bytes)));
    return parsed ? parsed->records.size() : 0;
  }

  /// Writes in a process that is killed when the journal has `count` records
  /// or, with threads that are ahead of it, a few more.
  void writeAndKill(uint64_t partBytes, size_t count, int threads = 1) {
    pid_t child = ::fork();
    if (child == 0) {
      options.pack.threads = threads;
      killWhenExamined = true;
      options.pack.progress = [&](uint64_t, uint64_t) {
        if (records() >= count)
          std::raise(SIGKILL);
      };
      std::_Exit(write(partBytes).isOk() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    ASSERT_FALSE(fs::exists(path));
    ASSERT_TRUE(fs::exists(partial()));
  }

  /// The files of an uninterrupted writeArtifact().
  std::map<std::string, std::vector<std::byte>> expected(uint64_t partBytes) {
    TempDir other;
    std::string saved = std::exchange(path, other.path("model.retort"));
    Status status = write(partBytes);
    EXPECT_TRUE(status) << status.message();
    path = saved;
    return filesIn(other.path());
  }

  static std::map<std::string, std::vector<std::byte>>
  filesIn(const std::string &dir) {
    std::map<std::string, std::vector<std::byte>> files;
    for (const std::string &name : listDirectory(dir))
      if (fs::is_regular_file(dir + "/" + name))
        files[name] = readBytes(dir + "/" + name);
    return files;
  }

  /// Another try succeeds with the bytes of one that nothing interrupted.
  void expectResumes(uint64_t partBytes) {
    auto want = expected(partBytes);
    Status status = write(partBytes);
    ASSERT_TRUE(status) << status.message();
    EXPECT_TRUE(filesIn(outDir.path()) == want);
    EXPECT_FALSE(fs::exists(partial()));
  }

  TempDir dir, outDir;
  std::string path = outDir.path("model.retort");
  std::string text = "{}", groupSize = "32";
  mutable Status examination;
  bool killWhenExamined = false;
  mutable std::optional<Checkpoint> opened;
  WriteOptions options;
  std::vector<std::string> notes;
  std::optional<uint64_t> firstDone;
};

TEST_P(ResumeTest, KilledAtAnyRecordGivesTheSameBytes) {
  auto want = expected(GetParam());
  for (int threads : {1, 3})
    for (size_t count = 0; count < kWeights - 1; ++count) {
      fs::remove_all(outDir.path());
      fs::create_directory(outDir.path());
      writeAndKill(GetParam(), count, threads);
      size_t there = records();
      EXPECT_GE(there, count);
      Status status = write(GetParam());
      ASSERT_TRUE(status) << status.message();
      EXPECT_TRUE(filesIn(outDir.path()) == want) << count;
      EXPECT_FALSE(fs::exists(partial()));
      if (there == 0)
        continue;
      ASSERT_GE(notes.size(), 1u);
      EXPECT_THAT(notes[0], AllOf(HasSubstr("going on"), HasSubstr("% of")));
      // The embedding is not packed again.
      EXPECT_GE(*firstDone, uint64_t(5000) * 512 * 2);
    }
}

TEST_P(ResumeTest, KilledTwiceGivesTheSameBytes) {
  writeAndKill(GetParam(), 1);
  writeAndKill(GetParam(), 4);
  EXPECT_GE(records(), 4u);
  expectResumes(GetParam());
}

TEST_P(ResumeTest, FailureBehindThePackingPacksNothingAgain) {
  examination = Status::error(Code::Internal, "code and reference differ");
  EXPECT_EQ(write(GetParam()).code(), Code::Internal);
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(records(), kWeights);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("model.retort.partial holds 100%"));
  expectResumes(GetParam());
}

TEST_P(ResumeTest, CancelKeepsWhatIsFinished) {
  std::atomic<bool> cancel = false;
  options.pack.cancel = &cancel;
  options.pack.threads = 1;
  options.pack.progress = [&](uint64_t, uint64_t) { cancel = records() >= 2; };
  EXPECT_EQ(write(GetParam()).code(), Code::Cancelled);
  EXPECT_FALSE(fs::exists(path));
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("the same command goes on from there"));
  // Cancelled while what is there is read again, nothing is lost.
  size_t before = records();
  options.pack.progress = nullptr;
  EXPECT_EQ(write(GetParam()).code(), Code::Cancelled);
  EXPECT_EQ(records(), before);
  options.pack.cancel = nullptr;
  expectResumes(GetParam());
}

TEST_P(ResumeTest, TornRecordIsDoneAgain) {
  for (uintmax_t cut : {1, 20, 47}) {
    writeAndKill(GetParam(), 3);
    size_t before = records();
    fs::resize_file(journal(), fs::file_size(journal()) - cut);
    EXPECT_EQ(records(), before - 1);
    expectResumes(GetParam());
    fs::remove(path);
  }
}

TEST_P(ResumeTest, GarbageBehindTheRecordsIsIgnored) {
  writeAndKill(GetParam(), 3);
  auto bytes = readFile(journal(), 1 << 20);
  ASSERT_TRUE(bytes);
  writeText(journal(), *bytes + std::string(1000, 'g'));
  expectResumes(GetParam());
}

TEST_P(ResumeTest, DamagedWeightsArePackedAgain) {
  auto want = expected(GetParam());
  writeAndKill(GetParam(), 4);
  std::string file =
      partial(GetParam() ? "model-00001-of-00005.retort-part" : "model.retort");
  ASSERT_TRUE(fs::exists(file));
  auto bytes = readFile(file, 1 << 30);
  ASSERT_TRUE(bytes);
  bytes->at(abi::kPartAlignment + 100000) ^= 1;
  writeText(file, *bytes);
  Status status = write(GetParam());
  ASSERT_TRUE(status) << status.message();
  ASSERT_FALSE(notes.empty());
  EXPECT_THAT(notes[0], HasSubstr("holds 0% of the weights; what follows is "
                                  "damaged"));
  EXPECT_TRUE(filesIn(outDir.path()) == want);
}

TEST_P(ResumeTest, MissingOrShortFilesArePackedAgain) {
  for (bool remove : {true, false}) {
    writeAndKill(GetParam(), 4);
    std::string file = partial(GetParam() ? "model-00002-of-00005.retort-part"
                                          : "model.retort");
    ASSERT_TRUE(fs::exists(file));
    if (remove)
      fs::remove(file);
    else
      fs::resize_file(file, 1000);
    expectResumes(GetParam());
    fs::remove(path);
  }
}

TEST_P(ResumeTest, DamagedJournalStartsAnew) {
  writeAndKill(GetParam(), 3);
  auto bytes = readFile(journal(), 1 << 20);
  ASSERT_TRUE(bytes);
  bytes->at(30) ^= 1;
  writeText(journal(), *bytes);
  auto want = expected(GetParam());
  Status status = write(GetParam());
  ASSERT_TRUE(status) << status.message();
  ASSERT_FALSE(notes.empty());
  EXPECT_THAT(notes[0],
              AllOf(HasSubstr("is damaged"), HasSubstr("starting anew")));
  EXPECT_TRUE(filesIn(outDir.path()) == want);
}

INSTANTIATE_TEST_SUITE_P(Files, ResumeTest, testing::Values(0, kPartBytes),
                         [](const auto &info) {
                           return info.param ? "Split" : "Whole";
                         });

/// What differs is said, and nothing of the old weights is used.
class OtherInputTest : public ResumeTest {
protected:
  void expectAnew(const std::string &name, uint64_t partBytes = 0) {
    Status status = write(partBytes);
    ASSERT_TRUE(status) << status.message();
    ASSERT_FALSE(notes.empty());
    EXPECT_THAT(notes[0],
                AllOf(HasSubstr("begun with something else (" + name + ")"),
                      HasSubstr("starting anew")));
    auto found = filesIn(outDir.path());
    EXPECT_TRUE(found == expected(partBytes));
  }
};

TEST_F(OtherInputTest, Option) {
  writeAndKill(0, 3);
  groupSize = "64";
  expectAnew("--group-size");
}

TEST_F(OtherInputTest, TimeOfACheckpointFile) {
  writeAndKill(0, 3);
  std::string file = dir.path("model.safetensors");
  fs::last_write_time(file,
                      fs::last_write_time(file) + std::chrono::seconds(1));
  expectAnew("model.safetensors");
}

TEST_F(OtherInputTest, Split) {
  writeAndKill(0, 3);
  expectAnew("--split, the code or the texts", kPartBytes);
}

TEST_F(OtherInputTest, OtherSizeOfParts) {
  writeAndKill(kPartBytes, 3);
  expectAnew("--split", kPartBytes + abi::kPartAlignment);
}

TEST_F(OtherInputTest, PlaceOfTheWeights) {
  writeAndKill(0, 3);
  for (int i = 0; i < 20000; ++i)
    text += std::to_string(i * 7919 % 10007);
  expectAnew("the code or the texts");
}

TEST_F(OtherInputTest, TextsDoNotMatterToParts) {
  writeAndKill(kPartBytes, 3);
  for (int i = 0; i < 20000; ++i)
    text += std::to_string(i * 7919 % 10007);
  expectResumes(kPartBytes);
}

TEST_F(ResumeTest, NoResumeStartsAnewSilently) {
  writeAndKill(0, 3);
  options.resume.resume = false;
  expectResumes(0);
  EXPECT_TRUE(notes.empty());
  EXPECT_LT(*firstDone, uint64_t(5000) * 512 * 2);
}

TEST_F(ResumeTest, BadWeightLeavesNothing) {
  ArtifactContents bad = contents(0);
  bad.weights.back().rowRuns[0].tensor = "absent";
  auto sizes = writeArtifact(bad, checkpoint(), path, options);
  ASSERT_FALSE(sizes);
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre());
}

TEST_F(ResumeTest, MistakesKeepWhatIsThere) {
  writeAndKill(0, 3);
  size_t before = records();
  EXPECT_EQ(write(abi::kPartAlignment).code(), Code::InvalidArgument);
  options.resume.resume = false;
  EXPECT_EQ(write(abi::kPartAlignment).code(), Code::InvalidArgument);
  options.resume.resume = true;
  EXPECT_EQ(records(), before);
  expectResumes(0);
}

TEST_F(ResumeTest, FullDiskKeepsWhatIsFinished) {
  {
    // The embedding fits, the head doesn't.
    FileSizeLimit limit(4'000'000);
    Status status = write(0);
    EXPECT_EQ(status.code(), Code::Io);
    EXPECT_THAT(status.message(),
                HasSubstr(path + ": cannot write: File too large"));
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_GE(records(), 1u);
  expectResumes(0);
}

TEST_F(ResumeTest, SecondWriterIsRefused) {
  auto first = PartialOutput::open(path);
  ASSERT_TRUE(first) << first.status().message();
  Status second = write(0);
  EXPECT_EQ(second.code(), Code::InvalidArgument);
  EXPECT_EQ(second.message(), path + ": another compile is writing it");
  first->reset();
  EXPECT_TRUE(write(0));
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre("model.retort"));
}

TEST_F(ResumeTest, FolderOfSomebodyElseIsLeftAlone) {
  fs::create_directory(partial());
  writeText(partial("model.retort"), "mine");
  Status status = write(0);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("found other files"));
  auto kept = readFile(partial("model.retort"), 100);
  ASSERT_TRUE(kept);
  EXPECT_EQ(*kept, "mine");
  fs::remove_all(partial());
  writeText(partial(), "a file");
  EXPECT_THAT(write(0).message(), HasSubstr("found something else"));
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(ResumeTest, EmptyJournalIsFresh) {
  // Killed between making the folder and writing into it.
  for (const char *start : {"", "\x8e", "garbage"}) {
    fs::create_directory(partial());
    writeText(journal(), start);
    expectResumes(0);
    fs::remove(path);
  }
}

TEST_F(ResumeTest, OlderArtifactStaysUntilTheEnd) {
  writeText(path, "old");
  pid_t child = ::fork();
  if (child == 0) {
    killWhenExamined = true;
    std::_Exit(write(0).isOk() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  auto old = readFile(path, 100);
  ASSERT_TRUE(old);
  EXPECT_EQ(*old, "old");
  expectResumes(0);
}

TEST_F(ResumeTest, PartsHoldTheSectionOneBehindTheOther) {
  auto whole = expected(0), split = expected(kPartBytes);
  ASSERT_EQ(split.size(), 6u);
  ArtifactContents made = contents(0);
  auto sizes = writeArtifact(made, checkpoint(), path, options);
  ASSERT_TRUE(sizes);
  EXPECT_EQ(sizes->parts, 0u);
  const abi::SectionT &section = *made.index.sections.back();
  const std::vector<std::byte> &file = whole.at("model.retort");
  std::vector<std::byte> joined;
  for (const auto &[name, bytes] : split) {
    EXPECT_LE(bytes.size(), kPartBytes) << name;
    if (name != "model.retort")
      joined.insert(joined.end(), bytes.begin() + abi::kPartAlignment,
                    bytes.end());
  }
  EXPECT_TRUE(std::ranges::equal(
      joined, std::span(file).subspan(section.offset, section.size)));
}

TEST_F(ResumeTest, TooSmallPartsAreRefused) {
  Status status = write(2 * abi::kPartAlignment - 1);
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("--split: expected at least 131072"));
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre());
}

TEST_F(ResumeTest, PartsOfAnOlderArtifactAreNamed) {
  ASSERT_TRUE(write(kPartBytes));
  EXPECT_TRUE(notes.empty());
  ASSERT_TRUE(write(0));
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0],
              HasSubstr("model-00001-of-00005.retort-part and 4 more belong to "
                        "an older artifact"));
}

TEST_F(ResumeTest, PartThatIsAFolderIsRefused) {
  std::string name = "model-00003-of-00005.retort-part";
  fs::create_directory(outDir.path(name));
  EXPECT_THAT(write(kPartBytes).message(),
              HasSubstr(name + ": the output must be a regular file"));
  EXPECT_THAT(listDirectory(outDir.path()), ElementsAre(name));
}

} // namespace
} // namespace retort
