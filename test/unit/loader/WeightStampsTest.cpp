//===- WeightStampsTest.cpp - Weights that were hashed before -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/WeightStamps.h"
#include "runtime/abi/Format.h"
#include "runtime/loader/Artifact.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

namespace fs = std::filesystem;

/// An artifact in a folder of its own, and a folder for stamps that isn't there
/// yet.
class WeightStampsTest : public testing::Test {
protected:
  void SetUp() override {
    dir = (fs::temp_directory_path() / "retort-stamps-XXXXXX").string();
    ASSERT_NE(::mkdtemp(dir.data()), nullptr);
    bytes = builder.build();
    weightByte = builder.index.sections[1]->offset +
                 builder.index.program->weights[1]->offset + 5;
    model = dir + "/model.retort";
    write(model, bytes);
    options.stampFolder = dir + "/cache/retort/verified";
    options.settleSeconds = 0;
  }
  void TearDown() override { fs::remove_all(dir); }

  static void write(const std::string &path, const Bytes &content) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char *>(content.data()),
              static_cast<std::streamsize>(content.size()));
  }
  /// Flips bits of a weight in place.
  void damage() {
    ::usleep(20'000); // the clock of files has to go on
    bytes[weightByte] ^= std::byte{4};
    int fd = ::open(model.c_str(), O_WRONLY);
    ASSERT_EQ(
        ::pwrite(fd, &bytes[weightByte], 1, static_cast<off_t>(weightByte)), 1);
    ::close(fd);
  }
  size_t stamps() const {
    if (!fs::exists(options.stampFolder))
      return 0;
    return static_cast<size_t>(std::distance(
        fs::directory_iterator(options.stampFolder), fs::directory_iterator()));
  }
  Result<std::shared_ptr<const Artifact>> open() {
    return Artifact::open(model, options);
  }
  bool verified() {
    auto artifact = open();
    EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
    return artifact.isOk() && (*artifact)->weightsVerified();
  }

  ArtifactBuilder builder;
  Bytes bytes;
  size_t weightByte = 0;
  std::string dir, model;
  OpenOptions options;
};

} // namespace

TEST_F(WeightStampsTest, OneStampIsLeftAndFound) {
  EXPECT_TRUE(verified());
  EXPECT_EQ(stamps(), 1u);
  EXPECT_TRUE(verified());
  EXPECT_EQ(stamps(), 1u);
  // That the stamp was believed: nothing else makes these verified.
  options.weights = WeightCheck::Never;
  EXPECT_TRUE(verified());
  options.weights = WeightCheck::Auto;
  options.physicalMemory = 1;
  EXPECT_TRUE(verified());
  fs::remove_all(options.stampFolder);
  EXPECT_FALSE(verified());
  options.weights = WeightCheck::Never;
  EXPECT_FALSE(verified());
  EXPECT_EQ(stamps(), 0u);
}

TEST_F(WeightStampsTest, NoFolderMeansNoStamps) {
  options.stampFolder.clear();
  EXPECT_TRUE(verified());
  EXPECT_FALSE(fs::exists(dir + "/cache"));
  options.weights = WeightCheck::Never;
  EXPECT_FALSE(verified());
}

TEST_F(WeightStampsTest, ADamagedFileIsFound) {
  EXPECT_TRUE(verified());
  damage();
  auto artifact = open();
  EXPECT_EQ(artifact.status().code(), Code::InvalidData);
  EXPECT_THAT(artifact.status().message(), HasSubstr("weight 'head.weight'"));
  EXPECT_EQ(stamps(), 1u) << "the damaged file must not get a stamp";
}

// Setting the times back changes the time of the change.
TEST_F(WeightStampsTest, TimesThatWereSetBackDoNotHide) {
  struct stat before;
  ASSERT_EQ(::stat(model.c_str(), &before), 0);
  EXPECT_TRUE(verified());
  damage();
  timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, model.c_str(), times, 0), 0);
  struct stat after;
  ASSERT_EQ(::stat(model.c_str(), &after), 0);
  EXPECT_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
  EXPECT_EQ(open().status().code(), Code::InvalidData);
}

TEST_F(WeightStampsTest, AnotherFileHasAnotherStamp) {
  EXPECT_TRUE(verified());
  std::string first = model;
  model = dir + "/copy.retort";
  write(model, bytes);
  damage();
  EXPECT_EQ(open().status().code(), Code::InvalidData);
  // A file renamed over the first is another one, too.
  ASSERT_EQ(::rename(model.c_str(), first.c_str()), 0);
  model = first;
  EXPECT_EQ(open().status().code(), Code::InvalidData);
}

TEST_F(WeightStampsTest, AlwaysHashes) {
  EXPECT_TRUE(verified());
  EXPECT_EQ(stamps(), 1u);
  // A stamp for the damaged file, which must not count.
  damage();
  auto name = fs::directory_iterator(options.stampFolder)->path().filename();
  auto identity = FileIdentity::of(model);
  ASSERT_TRUE(identity.isOk());
  retort::abi::FileHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::string forged = stampName({&*identity, 1}, header.indexHash);
  EXPECT_NE(forged, name);
  leaveStamp(options.stampFolder, forged);
  EXPECT_TRUE(verified());
  options.weights = WeightCheck::Always;
  EXPECT_EQ(open().status().code(), Code::InvalidData);
}

TEST_F(WeightStampsTest, AlwaysLeavesAStamp) {
  options.weights = WeightCheck::Always;
  EXPECT_TRUE(verified());
  EXPECT_EQ(stamps(), 1u);
  // So models that don't fit are checked once.
  options.weights = WeightCheck::Auto;
  options.physicalMemory = 1;
  EXPECT_TRUE(verified());
}

TEST_F(WeightStampsTest, FilesThatWereJustChangedGetNone) {
  options.settleSeconds = 3600;
  EXPECT_TRUE(verified());
  EXPECT_EQ(stamps(), 0u);
}

TEST_F(WeightStampsTest, AFolderThatCannotBeMadeIsNoError) {
  write(dir + "/cache", Bytes(1)); // a file where a folder should be
  EXPECT_TRUE(verified());
  EXPECT_TRUE(verified());
  options.stampFolder = "/proc/no/such";
  EXPECT_TRUE(verified());
}

TEST_F(WeightStampsTest, TheFolderStaysSmall) {
  std::string folder = options.stampFolder;
  fs::create_directories(folder);
  std::ofstream(folder + "/README").put('x');
  FileIdentity file;
  std::set<std::string> names;
  for (uint64_t i = 0; i < kMaxStamps; ++i) {
    names.insert(stampName({&file, 1}, i));
    leaveStamp(folder, stampName({&file, 1}, i));
  }
  EXPECT_EQ(names.size(), kMaxStamps);
  EXPECT_EQ(stamps(), kMaxStamps + 1);
  std::string oldest = folder + "/" + stampName({&file, 1}, 7);
  timespec times[] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, oldest.c_str(), times, 0), 0);
  std::string last = stampName({&file, 1}, kMaxStamps);
  leaveStamp(folder, last);
  EXPECT_EQ(stamps(), kMaxStamps + 1);
  EXPECT_FALSE(fs::exists(oldest));
  EXPECT_TRUE(hasStamp(folder, last));
  EXPECT_TRUE(fs::exists(folder + "/README"));
}

TEST_F(WeightStampsTest, EveryFieldCounts) {
  FileIdentity file{1, 2, 3, 4, 5};
  std::set<std::string> names = {stampName({&file, 1}, 6),
                                 stampName({&file, 1}, 7), stampName({}, 6)};
  for (int field = 0; field < 5; ++field) {
    FileIdentity other = file;
    if (field == 0)
      ++other.device;
    else if (field == 1)
      ++other.inode;
    else if (field == 2)
      ++other.size;
    else
      ++(field == 3 ? other.modifiedNs : other.changedNs);
    EXPECT_NE(other, file);
    names.insert(stampName({&other, 1}, 6));
    FileIdentity both[] = {file, other};
    names.insert(stampName(both, 6));
  }
  EXPECT_EQ(names.size(), 13u);
}

TEST(StampFolder, FollowsTheEnvironment) {
  std::string before = std::getenv("XDG_CACHE_HOME");
  ::setenv("XDG_CACHE_HOME", "/some/cache", 1);
  EXPECT_EQ(defaultStampFolder(), "/some/cache/retort/verified");
  const char *home = std::getenv("HOME");
  std::string homeBefore = home ? home : "";
  ::setenv("HOME", "/home/someone", 1);
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(defaultStampFolder(), "/home/someone/.cache/retort/verified");
  ::unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(defaultStampFolder(), "/home/someone/.cache/retort/verified");
  ::setenv("HOME", "", 1);
  EXPECT_EQ(defaultStampFolder(), "");
  ::setenv("HOME", homeBefore.c_str(), 1);
  ::setenv("XDG_CACHE_HOME", before.c_str(), 1);
}
