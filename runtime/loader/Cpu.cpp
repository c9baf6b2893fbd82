//===- Cpu.cpp - What this processor can execute ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Cpu.h"

#include <cstdint>
#include <optional>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace retort {
namespace {

#if defined(__x86_64__)

enum Register { Eax, Ebx, Ecx, Edx };
/// Register state that the system must save for a feature to be usable.
enum State : uint64_t { None = 0, Avx = 0x6, Avx512 = 0xe6 };

/// One bit of CPUID, from the vendors' manuals.
struct Bit {
  const char *name;
  uint32_t leaf, subleaf;
  Register reg;
  unsigned bit;
  State state;
};

constexpr uint32_t kExtended = 0x80000001;
constexpr Bit kBits[] = {
    {"cmov", 1, 0, Edx, 15, None},
    {"cx8", 1, 0, Edx, 8, None},
    {"fxsr", 1, 0, Edx, 24, None},
    {"mmx", 1, 0, Edx, 23, None},
    {"sse", 1, 0, Edx, 25, None},
    {"sse2", 1, 0, Edx, 26, None},
    {"x87", 1, 0, Edx, 0, None},
    {"sse3", 1, 0, Ecx, 0, None},
    {"pclmul", 1, 0, Ecx, 1, None},
    {"ssse3", 1, 0, Ecx, 9, None},
    {"fma", 1, 0, Ecx, 12, Avx},
    {"cx16", 1, 0, Ecx, 13, None},
    {"sse4.1", 1, 0, Ecx, 19, None},
    {"sse4.2", 1, 0, Ecx, 20, None},
    {"crc32", 1, 0, Ecx, 20, None},
    {"movbe", 1, 0, Ecx, 22, None},
    {"popcnt", 1, 0, Ecx, 23, None},
    {"aes", 1, 0, Ecx, 25, None},
    {"xsave", 1, 0, Ecx, 26, None},
    {"avx", 1, 0, Ecx, 28, Avx},
    {"f16c", 1, 0, Ecx, 29, Avx},
    {"bmi", 7, 0, Ebx, 3, None},
    {"avx2", 7, 0, Ebx, 5, Avx},
    {"bmi2", 7, 0, Ebx, 8, None},
    {"avx512f", 7, 0, Ebx, 16, Avx512},
    {"avx512dq", 7, 0, Ebx, 17, Avx512},
    {"avx512ifma", 7, 0, Ebx, 21, Avx512},
    {"avx512cd", 7, 0, Ebx, 28, Avx512},
    {"avx512bw", 7, 0, Ebx, 30, Avx512},
    {"avx512vl", 7, 0, Ebx, 31, Avx512},
    {"avx512vbmi", 7, 0, Ecx, 1, Avx512},
    {"avx512vbmi2", 7, 0, Ecx, 6, Avx512},
    {"gfni", 7, 0, Ecx, 8, None},
    {"vaes", 7, 0, Ecx, 9, Avx},
    {"avx512vnni", 7, 0, Ecx, 11, Avx512},
    {"avx512bitalg", 7, 0, Ecx, 12, Avx512},
    {"avx512vpopcntdq", 7, 0, Ecx, 14, Avx512},
    {"avx512fp16", 7, 0, Edx, 23, Avx512},
    {"avxvnni", 7, 1, Eax, 4, Avx},
    {"avx512bf16", 7, 1, Eax, 5, Avx512},
    {"avxifma", 7, 1, Eax, 23, Avx},
    {"avxvnniint8", 7, 1, Edx, 4, Avx},
    {"sahf", kExtended, 0, Ecx, 0, None},
    {"lzcnt", kExtended, 0, Ecx, 5, None},
};

Cpu detect() {
  Cpu cpu{"x86_64", {"64bit"}};
  unsigned regs[4];
  uint64_t saved = 0;
  if (__get_cpuid(1, &regs[Eax], &regs[Ebx], &regs[Ecx], &regs[Edx]) &&
      (regs[Ecx] >> 27 & 1)) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    saved = uint64_t(high) << 32 | low;
  }
  for (const Bit &bit : kBits) {
    // CPUID answers a leaf beyond its last with data of another one.
    if (bit.leaf == 7 && bit.subleaf > 0) {
      if (!__get_cpuid_count(7, 0, &regs[Eax], &regs[Ebx], &regs[Ecx],
                             &regs[Edx]) ||
          regs[Eax] < bit.subleaf)
        continue;
    }
    if (!__get_cpuid_count(bit.leaf, bit.subleaf, &regs[Eax], &regs[Ebx],
                           &regs[Ecx], &regs[Edx]))
      continue;
    if ((regs[bit.reg] >> bit.bit & 1) && (saved & bit.state) == bit.state)
      cpu.features.insert(bit.name);
  }
  return cpu;
}

#elif defined(__aarch64__)

/// Bits of the auxiliary vector, from the kernel's elf_hwcaps.rst.
struct Bit {
  const char *name;
  unsigned long vector;
  unsigned bit;
};
constexpr Bit kBits[] = {
    {"fp-armv8", AT_HWCAP, 0},  {"neon", AT_HWCAP, 1},
    {"aes", AT_HWCAP, 3},       {"sha2", AT_HWCAP, 6},
    {"crc", AT_HWCAP, 7},       {"lse", AT_HWCAP, 8},
    {"fullfp16", AT_HWCAP, 10}, {"rdm", AT_HWCAP, 12},
    {"dotprod", AT_HWCAP, 20},  {"sve", AT_HWCAP, 22},
    {"fp16fml", AT_HWCAP, 23},  {"sve2", AT_HWCAP2, 1},
    {"i8mm", AT_HWCAP2, 13},    {"bf16", AT_HWCAP2, 14},
};

Cpu detect() {
  Cpu cpu{"aarch64", {}};
  for (const Bit &bit : kBits)
    if (getauxval(bit.vector) >> bit.bit & 1)
      cpu.features.insert(bit.name);
  return cpu;
}

#else
#error "no CPU detection for this architecture"
#endif

std::string archOf(std::string_view triple) {
  std::string arch(triple.substr(0, triple.find('-')));
  return arch == "arm64" ? "aarch64" : arch;
}

/// Features as LLVM writes them in attribute strings carry a plus.
std::string_view bare(std::string_view feature) {
  return feature.starts_with('+') ? feature.substr(1) : feature;
}

/// What keeps a target from running; empty if nothing does.
std::string lacking(const abi::Target &target, const Cpu &cpu) {
  std::string arch = archOf(target.triple()->string_view());
  if (arch != cpu.arch)
    return "needs " + arch + ", this machine is " + cpu.arch;
  std::string missing;
  for (const auto *feature : *target.features())
    if (!cpu.has(bare(feature->string_view())))
      missing += (missing.empty() ? "" : ", ") +
                 std::string(bare(feature->string_view()));
  return missing.empty() ? "" : "this machine lacks " + missing;
}

} // namespace

const Cpu &hostCpu() {
  static const Cpu cpu = detect();
  return cpu;
}

Result<uint32_t> chooseTarget(const abi::Index &index, const Cpu &cpu,
                              std::string_view wanted) {
  const auto &targets = *index.targets();
  std::optional<uint32_t> best;
  std::string reasons, names;
  bool known = wanted.empty();
  for (uint32_t i = 0; i < targets.size(); ++i) {
    const abi::Target &target = *targets[i];
    std::string name = target.name()->str();
    names += (names.empty() ? "" : ", ") + name;
    if (!wanted.empty() && name != wanted)
      continue;
    known = true;
    if (std::string missing = lacking(target, cpu); !missing.empty()) {
      reasons += (reasons.empty() ? "" : "; ") + name + ": " + missing;
      continue;
    }
    if (!best || target.features()->size() > targets[*best]->features()->size())
      best = i;
  }
  if (!known)
    return Status::error(Code::InvalidArgument,
                         "expected a target that the model was compiled for (" +
                             names + "), found '" + std::string(wanted) + "'");
  if (!best)
    return Status::error(Code::Incompatible,
                         "compiled for another CPU: " + reasons);
  return *best;
}

} // namespace retort
