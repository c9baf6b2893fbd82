//===- Threads.h - The same work on several threads -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_THREADS_H
#define RETORT_RUNTIME_SUPPORT_THREADS_H

#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace retort {

/// Calls `work()` on the calling thread and on up to `count` - 1 more, and
/// returns when all calls have. Fewer threads run if the system has no more;
/// `work` takes its share from state that the calls have in common. It must not
/// throw on threads of its own.
template <typename Work> void runOnThreads(size_t count, const Work &work) {
  std::vector<std::thread> threads;
  threads.reserve(count);
  try {
    for (size_t i = 1; i < count; ++i)
      threads.emplace_back([&work] { work(); });
  } catch (const std::system_error &) {
    // The threads that could be had do the work.
  }
  work();
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_THREADS_H
