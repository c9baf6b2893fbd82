//===- Memory.cpp - What a session takes, and pages to hold it --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Memory.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Semantics.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace retort {
namespace {

/// The number in a file of one line; `fallback` if there is none ("max").
uint64_t readNumber(const char *path, uint64_t fallback) {
  unsigned long long value = fallback;
  if (std::FILE *file = std::fopen(path, "re")) {
    if (std::fscanf(file, "%llu", &value) != 1)
      value = fallback;
    std::fclose(file);
  }
  return value;
}

uint64_t readMemInfo(const char *field) {
  uint64_t kib = 0;
  if (std::FILE *file = std::fopen("/proc/meminfo", "re")) {
    char line[128];
    size_t length = std::strlen(field);
    unsigned long long value;
    while (std::fgets(line, sizeof line, file))
      if (std::strncmp(line, field, length) == 0 &&
          std::sscanf(line + length, ": %llu", &value) == 1)
        kib = value;
    std::fclose(file);
  }
  return kib * 1024;
}

uint64_t groupLimit() {
  return readNumber("/sys/fs/cgroup/memory.max", UINT64_MAX);
}

} // namespace

Result<MemoryUse> predictMemory(const abi::Index &index, uint64_t context,
                                unsigned threads, uint64_t sequences) {
  const abi::Model &model = *index.model();
  if (context < 1 || context > model.max_context())
    return Status::error(Code::InvalidArgument,
                         "context: expected 1 to " +
                             std::to_string(model.max_context()) +
                             " positions, found " + std::to_string(context));
  MemoryUse use;
  for (const abi::Weight *weight : *index.program()->weights())
    use.weights += weight->stored_size();
  for (const abi::Buffer *buffer : *index.program()->buffers()) {
    // The loader has bounded the sum at max_context.
    uint64_t bytes = *bufferBytes(*buffer, model.max_chunk(), context);
    (buffer->kind() == abi::BufferKind::Cache ? use.caches : use.activations) +=
        bytes;
  }
  // A session's logits stay where they are computed.
  if (sequences > 1)
    use.activations += sequences * model.vocab_size() * sizeof(float);
  use.caches = checkedMul(use.caches, sequences).value_or(UINT64_MAX / 4);
  constexpr uint64_t kTablesFactor = 5, kJsonFactor = 11;
  for (const abi::Section *section : *index.sections()) {
    if (section->name()->string_view() == "data/tokenizer")
      use.text = section->raw_size() * kTablesFactor;
    else if (section->name()->string_view() == "text/tokenizer.json")
      use.text = section->raw_size() * kJsonFactor;
  }
  uint64_t scratch = 0;
  for (const abi::Kernel *kernel : *index.program()->kernels())
    scratch = std::max(scratch, kernel->scratch_bytes());
  use.scratch = roundUp(scratch, abi::kPageSize) * threads;
  return use;
}

namespace {

/// OutOfMemory if that isn't available. `who` ends in a verb, and `advice` may
/// follow.
Status checkAvailable(uint64_t needed, const std::string &who,
                      const char *advice) {
  uint64_t available = availableMemory();
  if (needed <= available)
    return Status::ok();
  return Status::error(Code::OutOfMemory,
                       who + " " + formatBytes(needed) + ", of which " +
                           formatBytes(available) + " are available" + advice);
}

} // namespace

Result<uint32_t> contextFor(const abi::Index &index, uint32_t asked,
                            unsigned threads, uint64_t sequences) {
  auto needed = [&](uint64_t context) -> Result<uint64_t> {
    RETORT_ASSIGN_OR_RETURN(MemoryUse use,
                            predictMemory(index, context, threads, sequences));
    return use.session();
  };
  if (asked != 0) {
    RETORT_ASSIGN_OR_RETURN(uint64_t bytes, needed(asked));
    std::string positions = std::to_string(asked) + " positions";
    RETORT_RETURN_IF_ERROR(checkAvailable(
        bytes,
        sequences == 1 ? "a context of " + positions + " needs"
                       : std::to_string(sequences) + " sequences of " +
                             positions + " each need",
        sequences == 1 ? "; ask for a smaller one"
                       : "; ask for fewer or for less context"));
    return asked;
  }
  // Caches grow with use, so an estimate from above would refuse short prompts
  // of models with a long context.
  uint64_t available = availableMemory();
  uint64_t low = 0, high = index.model()->max_context();
  RETORT_ASSIGN_OR_RETURN(uint64_t all, needed(high));
  if (all <= available)
    return static_cast<uint32_t>(high);
  while (low + 1 < high) { // low fits or is 0, high does not
    uint64_t middle = (low + high) / 2;
    RETORT_ASSIGN_OR_RETURN(uint64_t bytes, needed(middle));
    (bytes <= available ? low : high) = middle;
  }
  if (low == 0) {
    RETORT_ASSIGN_OR_RETURN(uint64_t least, needed(1));
    RETORT_RETURN_IF_ERROR(checkAvailable(
        least,
        sequences == 1 ? "a session needs"
                       : std::to_string(sequences) + " sequences need",
        ""));
    return 1;
  }
  return static_cast<uint32_t>(low);
}

Result<uint32_t> chunkFor(const abi::Index &index, uint32_t asked) {
  uint32_t most = index.model()->max_chunk();
  if (asked > most)
    return Status::error(Code::InvalidArgument,
                         "prefill chunk: expected at most " +
                             std::to_string(most) + ", found " +
                             std::to_string(asked));
  return asked ? asked : most;
}

uint64_t physicalMemory() {
  return std::min(readMemInfo("MemTotal"), groupLimit());
}

uint64_t availableMemory() {
  uint64_t available = readMemInfo("MemAvailable");
  if (available == 0) // no /proc: let the allocation decide
    return UINT64_MAX;
  uint64_t limit = groupLimit();
  if (limit == UINT64_MAX)
    return available;
  uint64_t used = readNumber("/sys/fs/cgroup/memory.current", 0);
  return std::min(available, limit > used ? limit - used : 0);
}

std::string formatBytes(uint64_t bytes) {
  const char *units[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  unsigned unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text,
                unit == 0 || value >= 100 ? "%.0f %s"
                : value >= 10             ? "%.1f %s"
                                          : "%.2f %s",
                value, units[unit]);
  return text;
}

Result<Pages> Pages::allocate(uint64_t bytes) {
  Pages pages;
  pages.length = roundUp(std::max<uint64_t>(bytes, 1), abi::kPageSize);
  // Not reserved: a cache is as large as its context, but mostly untouched.
  void *p = ::mmap(nullptr, pages.length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return Status::error(Code::OutOfMemory, "cannot reserve " +
                                                formatBytes(bytes) + ": " +
                                                std::strerror(errno));
  pages.base = static_cast<std::byte *>(p);
  // A hint: rows of activations and caches are far apart, one page each.
  constexpr uint64_t kHugePage = 2 << 20;
  if (pages.length >= 2 * kHugePage)
    ::madvise(p, pages.length, MADV_HUGEPAGE);
  return pages;
}

Pages::Pages(Pages &&other) noexcept
    : base(std::exchange(other.base, nullptr)),
      length(std::exchange(other.length, 0)) {}

Pages &Pages::operator=(Pages &&other) noexcept {
  std::swap(base, other.base);
  std::swap(length, other.length);
  return *this;
}

Pages::~Pages() {
  if (base)
    ::munmap(base, length);
}

} // namespace retort
