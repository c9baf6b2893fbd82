//===- Topology.cpp - Processors, cores and memory nodes ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/Topology.h"

#include "runtime/support/File.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <pthread.h>
#include <sched.h>
#include <set>
#include <sys/syscall.h>
#include <unistd.h>

namespace retort {

std::optional<std::vector<int>> parseCpuList(std::string_view text) {
  constexpr int kMost = 1 << 16;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
    text.remove_suffix(1);
  std::vector<int> list;
  const char *at = text.data(), *end = at + text.size();
  auto number = [&](int &value) {
    auto [next, error] = std::from_chars(at, end, value);
    at = next;
    return error == std::errc() && value >= 0 && value < kMost;
  };
  while (at != end) {
    int first = 0;
    if (!number(first))
      return std::nullopt;
    int last = first;
    if (at != end && *at == '-') {
      ++at;
      if (!number(last) || last < first)
        return std::nullopt;
    }
    for (int i = first; i <= last; ++i)
      list.push_back(i);
    if (at == end)
      break;
    if (*at++ != ',' || at == end)
      return std::nullopt;
  }
  return list;
}

static std::optional<std::vector<int>> readCpuList(const std::string &path) {
  constexpr size_t kMaxBytes = 1 << 16;
  if (!pathExists(path))
    return std::nullopt;
  auto text = readFile(path, kMaxBytes);
  return text.isOk() ? parseCpuList(*text) : std::nullopt;
}

Topology Topology::read(std::span<const int> allowed, const std::string &root) {
  std::map<int, int> nodeOf;
  if (auto nodes = readCpuList(root + "/node/online"))
    for (int node : *nodes)
      if (auto list = readCpuList(root + "/node/node" + std::to_string(node) +
                                  "/cpulist"))
        for (int cpu : *list)
          nodeOf[cpu] = node;
  Topology topology;
  for (int cpu : allowed) {
    Processor processor{.id = cpu, .core = cpu, .node = 0};
    if (auto known = nodeOf.find(cpu); known != nodeOf.end())
      processor.node = known->second;
    auto siblings = readCpuList(root + "/cpu/cpu" + std::to_string(cpu) +
                                "/topology/thread_siblings_list");
    if (siblings && !siblings->empty())
      processor.core = *std::min_element(siblings->begin(), siblings->end());
    topology.processors.push_back(processor);
  }
  std::sort(topology.processors.begin(), topology.processors.end(),
            [](const Processor &a, const Processor &b) { return a.id < b.id; });
  return topology;
}

Topology Topology::ofThisProcess() {
  std::vector<int> allowed;
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set))
        allowed.push_back(i);
  return read(allowed);
}

std::vector<int> Topology::nodes() const {
  std::set<int> all;
  for (const Processor &processor : processors)
    all.insert(processor.node);
  return {all.begin(), all.end()};
}

bool Topology::sharesCores() const {
  std::set<int> cores;
  for (const Processor &processor : processors)
    if (!cores.insert(processor.core).second)
      return true;
  return false;
}

std::vector<int> Topology::assign(unsigned threads, Placement pin) const {
  if (pin == Placement::Off || threads > processors.size() ||
      (pin == Placement::Auto && !sharesCores() && nodes().size() < 2))
    return {};
  // By how many of its core, then of its node, come before it.
  struct Place {
    int thread, turn;
    Processor processor;
  };
  std::map<int, int> ofCore;
  std::map<std::pair<int, int>, int> ofNode;
  std::vector<Place> places;
  for (const Processor &processor : processors) {
    int thread = ofCore[processor.core]++;
    int turn = ofNode[{thread, processor.node}]++;
    places.push_back({thread, turn, processor});
  }
  std::stable_sort(
      places.begin(), places.end(), [](const Place &a, const Place &b) {
        return std::pair(a.thread, a.turn) < std::pair(b.thread, b.turn);
      });
  std::vector<int> order;
  for (unsigned i = 0; i < threads; ++i)
    order.push_back(places[i].processor.id);
  return order;
}

bool pinThisThread(int processor) {
  if (processor < 0 || processor >= CPU_SETSIZE)
    return false;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set) == 0;
}

Status interleave(std::span<const std::byte> memory,
                  std::span<const int> nodes) {
  constexpr size_t kChunk = size_t(2) << 20, kBatch = 4096;
  constexpr int kMove = 1 << 1; // MPOL_MF_MOVE: pages of this process alone
  if (nodes.empty() || memory.empty())
    return Status::ok();
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  auto begin = reinterpret_cast<uintptr_t>(memory.data()) / page * page;
  auto end = reinterpret_cast<uintptr_t>(memory.data()) + memory.size();
  std::vector<void *> pages;
  std::vector<int> targets, found;
  auto move = [&]() -> Status {
    found.assign(pages.size(), 0);
    if (!pages.empty() &&
        ::syscall(SYS_move_pages, 0, pages.size(), pages.data(), targets.data(),
                  found.data(), kMove) < 0)
      return Status::error(Code::Unsupported,
                           std::string("cannot move pages between memory "
                                       "nodes: ") +
                               std::strerror(errno));
    pages.clear();
    targets.clear();
    return Status::ok();
  };
  for (uintptr_t at = begin; at < end; at += page) {
    // A page that nobody has read is nowhere yet.
    auto *first = reinterpret_cast<const std::byte *>(
        std::max(at, reinterpret_cast<uintptr_t>(memory.data())));
    [[maybe_unused]] std::byte read =
        *const_cast<const volatile std::byte *>(first);
    pages.push_back(reinterpret_cast<void *>(at));
    targets.push_back(nodes[(at - begin) / kChunk % nodes.size()]);
    if (pages.size() == kBatch)
      RETORT_RETURN_IF_ERROR(move());
  }
  return move();
}

} // namespace retort
