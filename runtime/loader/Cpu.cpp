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

#include <cerrno>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace retort {
namespace {

#if defined(__x86_64__)

enum Register { Eax, Ebx, Ecx, Edx };
/// Register state that the system must save for a feature to be usable, as bits
/// of XCR0.
enum State : uint64_t { None = 0, Avx = 0x6, Avx512 = 0xe6, Amx = 0x60000 };
/// The kernel's, from arch/x86/include/uapi/asm/prctl.h.
constexpr int kArchGetXcompSupp = 0x1021, kArchReqXcompPerm = 0x1023;
/// Number of the state that holds tiles.
constexpr unsigned kTileData = 18;

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
    {"amx-bf16", 7, 0, Edx, 22, Amx},
    {"avx512fp16", 7, 0, Edx, 23, Avx512},
    {"amx-tile", 7, 0, Edx, 24, Amx},
    {"amx-int8", 7, 0, Edx, 25, Amx},
    {"avxvnni", 7, 1, Eax, 4, Avx},
    {"avx512bf16", 7, 1, Eax, 5, Avx512},
    {"avxifma", 7, 1, Eax, 23, Avx},
    {"avxvnniint8", 7, 1, Edx, 4, Avx},
    {"sahf", kExtended, 0, Ecx, 0, None},
    {"lzcnt", kExtended, 0, Ecx, 5, None},
};

uint32_t valueOf(const X86Machine::Registers &regs, Register reg) {
  return reg == Eax   ? regs.eax
         : reg == Ebx ? regs.ebx
         : reg == Ecx ? regs.ecx
                      : regs.edx;
}

/// Why the kernel would not grant tiles; empty if it would.
std::string whyNoTiles(const X86Machine &machine) {
  uint64_t supported = 0;
  int error = machine.archPrctl(kArchGetXcompSupp, &supported);
  if (error)
    return std::string("the kernel doesn't offer AMX's registers, as Linux "
                       "since 5.16 does: ") +
           std::strerror(error);
  return supported >> kTileData & 1
             ? ""
             : "the kernel doesn't offer AMX's registers";
}

Cpu detect() { return detectCpu(X86Machine::host()); }

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
  for (const auto *feature : *target.features()) {
    std::string name(bare(feature->string_view()));
    if (cpu.has(name))
      continue;
    missing += (missing.empty() ? "" : ", ") + name;
    if (auto why = cpu.withheld.find(name); why != cpu.withheld.end())
      missing += " (" + why->second + ")";
  }
  return missing.empty() ? "" : "this machine lacks " + missing;
}

} // namespace

#if defined(__x86_64__)

X86Machine X86Machine::host() {
  X86Machine machine;
  machine.cpuid = [](uint32_t leaf, uint32_t subleaf) {
    Registers regs;
    if (!__get_cpuid_count(leaf, subleaf, &regs.eax, &regs.ebx, &regs.ecx,
                           &regs.edx))
      return Registers();
    return regs;
  };
  machine.xcr0 = [] {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t(high) << 32 | low;
  };
  machine.archPrctl = [](int code, uint64_t *argument) {
    long result = code == kArchReqXcompPerm
                      ? ::syscall(SYS_arch_prctl, code, *argument)
                      : ::syscall(SYS_arch_prctl, code, argument);
    return result == 0 ? 0 : errno;
  };
  return machine;
}

Cpu detectCpu(const X86Machine &machine) {
  Cpu cpu{"x86_64", {"64bit"}};
  // Whether the system has made XCR0 readable.
  uint64_t saved =
      machine.cpuid(1, 0).ecx >> 27 & 1 ? machine.xcr0() : uint64_t(0);
  std::optional<std::string> noTiles;
  for (const Bit &bit : kBits) {
    // CPUID answers a subleaf beyond its last with data of another one.
    if (bit.leaf == 7 && bit.subleaf > machine.cpuid(7, 0).eax)
      continue;
    auto regs = machine.cpuid(bit.leaf, bit.subleaf);
    if (!(valueOf(regs, bit.reg) >> bit.bit & 1))
      continue;
    if ((saved & bit.state) != bit.state) {
      cpu.withheld[bit.name] = "the system doesn't save its registers";
      continue;
    }
    if (bit.state == Amx) {
      if (!noTiles)
        noTiles = whyNoTiles(machine);
      if (!noTiles->empty()) {
        cpu.withheld[bit.name] = *noTiles;
        continue;
      }
    }
    cpu.features.insert(bit.name);
  }
  return cpu;
}

Status requestFeatures(const std::set<std::string> &features,
                       const X86Machine &machine) {
  if (!features.contains("amx-tile"))
    return Status::ok();
  uint64_t state = kTileData;
  int error = machine.archPrctl(kArchReqXcompPerm, &state);
  if (error)
    return Status::error(
        Code::Incompatible,
        std::string("the kernel refuses the use of AMX's tiles: ") +
            std::strerror(error));
  return Status::ok();
}

Status requestFeatures(const abi::Target &target) {
  std::set<std::string> features;
  for (const auto *feature : *target.features())
    features.insert(std::string(bare(feature->string_view())));
  return requestFeatures(features);
}

#else

Status requestFeatures(const abi::Target &) { return Status::ok(); }

#endif

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
