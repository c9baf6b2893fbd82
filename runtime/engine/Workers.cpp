//===- Workers.cpp - Threads that walk launches together --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Workers.h"

#include <algorithm>
#include <csignal>
#include <pthread.h>
#include <sched.h>
#include <system_error>

namespace retort {
namespace {

/// About 50 microseconds on current machines: longer than the gaps between
/// launches and between the steps of decoding, too short to be noticed as load.
constexpr unsigned kSpins = 2000;

void pauseCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Signals belong to the thread that called the library.
class BlockSignals {
public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &old, nullptr); }

private:
  sigset_t old;
};

} // namespace

unsigned availableProcessors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

void WaitPoint::advance() {
  counter.fetch_add(1, std::memory_order_acq_rel);
  counter.notify_all();
}

void WaitPoint::waitWhile(uint32_t old) const {
  for (unsigned i = 0; i < spins; ++i) {
    if (value() != old)
      return;
    pauseCpu();
  }
  while (value() == old)
    counter.wait(old, std::memory_order_acquire);
}

Workers::Workers(unsigned count, unsigned spins)
    : count(count), meeting(count, spins), finished(count, spins),
      start(spins) {}

Result<std::unique_ptr<Workers>> Workers::create(unsigned threads,
                                                 Placement pin) {
  unsigned processors = availableProcessors();
  if (threads == 0)
    threads = std::min(processors, kMaxThreads);
  if (threads > kMaxThreads)
    return Status::error(Code::InvalidArgument,
                         "threads: expected at most " +
                             std::to_string(kMaxThreads) + ", found " +
                             std::to_string(threads));
  std::unique_ptr<Workers> workers(
      new Workers(threads, threads > processors ? 0 : kSpins));
  std::vector<int> processorOf;
  if (threads > 1)
    processorOf = Topology::ofThisProcess().assign(threads, pin);
  workers->numPinned = processorOf.empty() ? 0 : threads - 1;
  BlockSignals block;
  for (unsigned i = 1; i < threads; ++i) {
    std::optional<int> processor;
    if (!processorOf.empty())
      processor = processorOf[i];
    try {
      workers->threads.emplace_back(
          [w = workers.get(), i, processor] { w->loop(i, processor); });
    } catch (const std::system_error &error) {
      return Status::error(Code::OutOfMemory,
                           "cannot start thread " + std::to_string(i) + " of " +
                               std::to_string(threads) + ": " + error.what());
    }
  }
  return workers;
}

Workers::~Workers() {
  stopping = true;
  start.advance();
  for (std::thread &thread : threads)
    thread.join();
}

void Workers::loop(unsigned worker, std::optional<int> processor) {
  // Where the system refuses, e.g. since the processor has gone, it decides.
  if (processor)
    pinThisThread(*processor);
  for (uint32_t seen = 0;; ++seen) {
    start.waitWhile(seen);
    if (stopping)
      return;
    (*current)(worker);
    finished.arrive([] {});
  }
}

void Workers::run(const std::function<void(unsigned)> &job) {
  if (count == 1) {
    job(0);
    return;
  }
  current = &job;
  start.advance();
  job(0);
  finished.arrive([] {});
}

} // namespace retort
