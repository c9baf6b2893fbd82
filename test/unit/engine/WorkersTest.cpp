//===- WorkersTest.cpp - The thread pool ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Workers.h"
#include "runtime/engine/Machine.h"
#include "runtime/loader/Cpu.h"

#include <gtest/gtest.h>

using namespace retort;

namespace {

TEST(WorkersTest, EachWorkerRunsEachJobOnce) {
  for (unsigned threads : {1u, 2u, 5u}) {
    auto workers = Workers::create(threads);
    ASSERT_TRUE(workers.isOk());
    std::vector<int> calls(threads);
    for (int job = 0; job < 500; ++job)
      (*workers)->run([&](unsigned worker) { ++calls[worker]; });
    EXPECT_EQ(calls, std::vector<int>(threads, 500));
  }
}

TEST(WorkersTest, BarrierSeparatesSteps) {
  for (unsigned threads : {2u, 3u, 7u}) {
    auto workers = Workers::create(threads);
    ASSERT_TRUE(workers.isOk());
    std::atomic<int> inside{0};
    int steps = 0;
    bool apart = true;
    (*workers)->run([&](unsigned) {
      for (int step = 0; step < 300; ++step) {
        inside.fetch_add(1);
        (*workers)->barrier().arrive([&] {
          apart &= inside.exchange(0) == int(threads);
          ++steps;
        });
      }
    });
    EXPECT_TRUE(apart);
    EXPECT_EQ(steps, 300);
  }
}

TEST(WorkersTest, SleepingWorkersWakeUp) {
  auto workers = Workers::create(2);
  ASSERT_TRUE(workers.isOk());
  std::atomic<int> calls{0};
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    (*workers)->run([&](unsigned) { ++calls; });
  }
  EXPECT_EQ(calls.load(), 6);
}

TEST(WorkersTest, ZeroMeansAllProcessors) {
  auto workers = Workers::create(0);
  ASSERT_TRUE(workers.isOk());
  EXPECT_EQ((*workers)->size(), availableProcessors());
}

TEST(WorkersTest, TooManyThreadsIsAnError) {
  EXPECT_EQ(Workers::create(Workers::kMaxThreads + 1).status().code(),
            Code::InvalidArgument);
}

TEST(MachineTest, PeaksArePlausible) {
  auto workers = Workers::create(1);
  ASSERT_TRUE(workers.isOk());
  auto peaks = measureMachine(**workers);
  ASSERT_TRUE(peaks.isOk()) << peaks.status().message();
  EXPECT_GT(peaks->readGbps, 0.1);
  EXPECT_LT(peaks->readGbps, 2000);
  EXPECT_GT(peaks->gflops, 0.1);
  EXPECT_LT(peaks->gflops, 1000);
  if (hostCpu().has("avx2")) {
    // Four times the lanes; a busy machine may give one of the two less.
    EXPECT_GT(peaks->int8Gops, peaks->gflops);
    EXPECT_LT(peaks->int8Gops, 32 * peaks->gflops);
  }
  RecordProperty("read_gbps", std::to_string(peaks->readGbps));
  RecordProperty("gflops", std::to_string(peaks->gflops));
}

} // namespace
