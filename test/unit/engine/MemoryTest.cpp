//===- MemoryTest.cpp - Predicted memory ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/engine/TestModel.h"

#include <sys/resource.h>

using namespace retort;
using namespace retort::test;

namespace {

TEST(MemoryTest, PredictsEachPart) {
  TestModel test;
  auto use = predictMemory(test.model->index(), 65, 3);
  ASSERT_TRUE(use.isOk());
  EXPECT_EQ(use->weights, 2u * 4 * kVocab * kHidden);
  EXPECT_EQ(use->activations,
            8u * 4 + 8u * 4 * kHidden + 4u * kVocabStride * kHeadTokens);
  EXPECT_EQ(use->caches, 128u * 4 * kHidden);
  EXPECT_EQ(use->scratch, 3u * 4096);
  EXPECT_EQ(use->total(), use->weights + use->session());
}

TEST(MemoryTest, CountsTheCachesAndLogitsOfEverySequence) {
  TestModel test;
  auto one = predictMemory(test.model->index(), 65, 3);
  auto five = predictMemory(test.model->index(), 65, 3, 5);
  ASSERT_TRUE(one.isOk() && five.isOk());
  EXPECT_EQ(five->caches, 5 * one->caches);
  EXPECT_EQ(five->activations, one->activations + 5 * 4u * kVocab);
  EXPECT_EQ(five->scratch, one->scratch);
  EXPECT_EQ(five->weights, one->weights);
}

TEST(MemoryTest, ContextOutOfRangeIsAnError) {
  TestModel test;
  for (uint64_t context : {uint64_t(0), uint64_t(kMaxContext + 1), UINT64_MAX})
    EXPECT_EQ(predictMemory(test.model->index(), context, 1).status().code(),
              Code::InvalidArgument);
}

TEST(MemoryTest, MachineHasMemory) {
  EXPECT_GT(availableMemory(), 1u << 20);
  EXPECT_GE(physicalMemory(), availableMemory());
}

TEST(MemoryTest, FormatsBytes) {
  EXPECT_EQ(formatBytes(0), "0 bytes");
  EXPECT_EQ(formatBytes(999), "999 bytes");
  EXPECT_EQ(formatBytes(1000), "1.00 kB");
  EXPECT_EQ(formatBytes(12345678), "12.3 MB");
  EXPECT_EQ(formatBytes(999999), "1.00 MB");
  EXPECT_EQ(formatBytes(~0ull), "18.4 EB");
}

TEST(PagesTest, AreZeroAndAligned) {
  auto pages = Pages::allocate(10000);
  ASSERT_TRUE(pages.isOk());
  EXPECT_EQ(pages->size(), 12288u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(pages->data()) % 4096, 0u);
  for (uint64_t i = 0; i < pages->size(); ++i)
    ASSERT_EQ(pages->data()[i], std::byte{0});
}

TEST(PagesTest, ImpossibleSizeIsOutOfMemory) {
  EXPECT_EQ(Pages::allocate(1ull << 60).status().code(), Code::OutOfMemory);
}

} // namespace
