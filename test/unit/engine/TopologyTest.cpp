//===- TopologyTest.cpp - Processors, cores and memory nodes --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/Topology.h"
#include "runtime/engine/Memory.h"
#include "runtime/engine/Workers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <sched.h>

using namespace retort;

namespace {

TEST(TopologyTest, ListsOfProcessors) {
  using List = std::vector<int>;
  EXPECT_EQ(parseCpuList("0-3,8\n"), List({0, 1, 2, 3, 8}));
  EXPECT_EQ(parseCpuList("5"), List({5}));
  EXPECT_EQ(parseCpuList("\n"), List());
  for (const char *bad : {"a", "3-1", "1,", "-1", "1-", "1;2", "1-2-3",
                          "99999999999", "0-70000", " 1"})
    EXPECT_EQ(parseCpuList(bad), std::nullopt) << bad;
}

/// Two nodes of two cores with two threads each, as Linux numbers them.
class TwoNodes : public ::testing::Test {
protected:
  void SetUp() override {
    root = ::testing::TempDir() + "topology-" + std::to_string(::getpid());
    write("node/online", "0-1\n");
    write("node/node0/cpulist", "0-1,4-5\n");
    write("node/node1/cpulist", "2-3,6-7\n");
    for (int cpu = 0; cpu < 8; ++cpu)
      write("cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
            std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4) + "\n");
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  void write(const std::string &name, const std::string &text) {
    std::filesystem::path path = root + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  Topology read(std::vector<int> allowed) {
    return Topology::read(allowed, root);
  }
  std::string root;
};

TEST_F(TwoNodes, AreRead) {
  Topology topology = read({7, 0, 1, 2, 3, 4, 5, 6});
  ASSERT_EQ(topology.processors.size(), 8u);
  EXPECT_EQ(topology.processors[5], (Processor{5, 1, 0}));
  EXPECT_EQ(topology.processors[6], (Processor{6, 2, 1}));
  EXPECT_EQ(topology.nodes(), (std::vector<int>{0, 1}));
  EXPECT_TRUE(topology.sharesCores());
}

TEST_F(TwoNodes, CoresComeBeforeTheirSecondThreads) {
  Topology topology = read({0, 1, 2, 3, 4, 5, 6, 7});
  using Order = std::vector<int>;
  EXPECT_EQ(topology.assign(2, Placement::Auto), Order({0, 2}));
  EXPECT_EQ(topology.assign(4, Placement::Auto), Order({0, 2, 1, 3}));
  EXPECT_EQ(topology.assign(8, Placement::On), Order({0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(topology.assign(9, Placement::On), Order());
  EXPECT_EQ(topology.assign(4, Placement::Off), Order());
}

TEST_F(TwoNodes, OnlyAllowedProcessorsCount) {
  Topology cores = read({0, 1});
  EXPECT_FALSE(cores.sharesCores());
  EXPECT_EQ(cores.nodes(), std::vector<int>{0});
  EXPECT_TRUE(cores.assign(2, Placement::Auto).empty());
  EXPECT_EQ(cores.assign(2, Placement::On), (std::vector<int>{0, 1}));
  Topology threads = read({1, 5});
  EXPECT_TRUE(threads.sharesCores());
  EXPECT_EQ(threads.assign(1, Placement::Auto), std::vector<int>{1});
}

TEST_F(TwoNodes, WhatIsNotSaidIsOneCoreOnOneNode) {
  write("node/online", "garbage");
  write("cpu/cpu0/topology/thread_siblings_list", "");
  Topology topology = read({0, 9});
  EXPECT_EQ(topology.processors[0], (Processor{0, 0, 0}));
  EXPECT_EQ(topology.processors[1], (Processor{9, 9, 0}));
  EXPECT_TRUE(topology.assign(2, Placement::Auto).empty());
}

TEST(PinTest, WorkersStayWhereTheyArePut) {
  Topology here = Topology::ofThisProcess();
  unsigned threads = static_cast<unsigned>(here.processors.size());
  if (threads < 2)
    GTEST_SKIP() << "needs two processors";
  std::vector<int> expected = here.assign(threads, Placement::On);
  cpu_set_t before, after;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  auto workers = Workers::create(threads, Placement::On);
  ASSERT_TRUE(workers.isOk());
  EXPECT_EQ((*workers)->pinned(), threads - 1);
  std::vector<int> found(threads, -1);
  (*workers)->run([&](unsigned worker) { found[worker] = ::sched_getcpu(); });
  for (unsigned i = 1; i < threads; ++i)
    EXPECT_EQ(found[i], expected[i]) << i;
  ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(PinTest, MoreThreadsThanProcessorsAreLeftAlone) {
  auto workers = Workers::create(availableProcessors() + 1, Placement::On);
  ASSERT_TRUE(workers.isOk());
  EXPECT_EQ((*workers)->pinned(), 0u);
}

TEST(InterleaveTest, KeepsTheBytes) {
  constexpr size_t kBytes = (size_t(5) << 20) + 123;
  auto pages = Pages::allocate(kBytes);
  ASSERT_TRUE(pages.isOk());
  auto *bytes = reinterpret_cast<unsigned char *>(pages->data());
  std::iota(bytes, bytes + kBytes, static_cast<unsigned char>(3));
  std::vector<int> nodes = Topology::ofThisProcess().nodes();
  Status done = interleave({pages->data() + 1, kBytes - 1}, nodes);
  if (!done.isOk())
    GTEST_SKIP() << done.message();
  for (size_t i = 0; i < kBytes; ++i)
    ASSERT_EQ(bytes[i], static_cast<unsigned char>(i + 3)) << i;
  EXPECT_TRUE(interleave({}, nodes).isOk());
  EXPECT_TRUE(interleave({pages->data(), 1}, {}).isOk());
}

} // namespace
