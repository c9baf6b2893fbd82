//===- FileTest.cpp - Files of large pages ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/File.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <filesystem>
#include <thread>
#include <unistd.h>

using namespace retort;

namespace {

class LargePages : public ::testing::Test {
protected:
  ~LargePages() override { std::filesystem::remove(path); }

  WritableFile open() {
    auto file = WritableFile::open(path, path, /*truncate=*/false);
    EXPECT_TRUE(file.isOk());
    return std::move(*file);
  }
  std::vector<std::byte> content() {
    auto mapped = MappedFile::open(path);
    EXPECT_TRUE(mapped.isOk());
    mapped->useLargePages();
    return {mapped->bytes().begin(), mapped->bytes().end()};
  }
  static std::vector<std::byte> bytesOf(uint64_t size, int value) {
    return std::vector<std::byte>(size, std::byte(value));
  }

  std::string path =
      ::testing::TempDir() + "large-pages-" + std::to_string(::getpid());
};

TEST_F(LargePages, PiecesInAnyOrderFromManyThreads) {
  constexpr uint64_t kPiece = 100'003, kPieces = 64;
  constexpr uint64_t kSize = kPiece * kPieces; // three pages and a bit
  static_assert(kSize % kLargePageBytes != 0);
  WritableFile file = open();
  ASSERT_TRUE(file.useLargePages(kSize).isOk());
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = kPieces; i-- > 0;)
        if (i % 4 == t) {
          EXPECT_TRUE(
              file.writeAt(i * kPiece, bytesOf(kPiece, int(i) + 1)).isOk());
        }
    });
  for (std::thread &thread : threads)
    thread.join();
  std::vector<std::byte> found = content();
  ASSERT_EQ(found.size(), kSize);
  for (uint64_t i = 0; i < kPieces; ++i)
    ASSERT_TRUE(std::all_of(found.begin() + i * kPiece,
                            found.begin() + (i + 1) * kPiece,
                            [&](std::byte b) { return b == std::byte(i + 1); }))
        << i;
}

TEST_F(LargePages, TheFirstWriteMakesAllOfItsPage) {
  WritableFile file = open();
  ASSERT_TRUE(file.useLargePages(3 * kLargePageBytes - 5).isOk());
  ASSERT_TRUE(file.writeAt(kLargePageBytes + 7, bytesOf(1, 9)).isOk());
  EXPECT_EQ(*file.size(), 2 * kLargePageBytes);
  ASSERT_TRUE(file.writeAt(3 * kLargePageBytes - 6, bytesOf(1, 8)).isOk());
  EXPECT_EQ(*file.size(), 3 * kLargePageBytes - 5);
  std::vector<std::byte> expected = bytesOf(3 * kLargePageBytes - 5, 0);
  expected[kLargePageBytes + 7] = std::byte(9);
  expected[3 * kLargePageBytes - 6] = std::byte(8);
  EXPECT_TRUE(content() == expected);
}

TEST_F(LargePages, WhatAFileHoldsStays) {
  {
    WritableFile file = open();
    ASSERT_TRUE(file.writeAt(0, bytesOf(kLargePageBytes + 10, 3)).isOk());
  }
  WritableFile file = open();
  ASSERT_TRUE(file.useLargePages(3 * kLargePageBytes).isOk());
  ASSERT_TRUE(file.writeAt(kLargePageBytes + 20, bytesOf(1, 4)).isOk());
  ASSERT_TRUE(file.writeAt(2 * kLargePageBytes, bytesOf(1, 5)).isOk());
  std::vector<std::byte> expected = bytesOf(3 * kLargePageBytes, 0);
  std::fill_n(expected.begin(), kLargePageBytes + 10, std::byte(3));
  expected[kLargePageBytes + 20] = std::byte(4);
  expected[2 * kLargePageBytes] = std::byte(5);
  EXPECT_TRUE(content() == expected);
}

TEST_F(LargePages, WritesBehindTheEndAreLikeAnyOther) {
  WritableFile file = open();
  ASSERT_TRUE(file.useLargePages(100).isOk());
  ASSERT_TRUE(file.writeAt(kLargePageBytes, bytesOf(10, 6)).isOk());
  EXPECT_EQ(*file.size(), kLargePageBytes + 10);
}

} // namespace
