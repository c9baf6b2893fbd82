//===- Target.cpp - Facts about CPU targets -------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/targets/Target.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace llvm;

namespace retort {
namespace {

const StringRef kX86V3Features[] = {"avx2", "fma",   "f16c", "bmi",
                                    "bmi2", "lzcnt", "movbe"};
const StringRef kX86V4Features[] = {
    "avx2",     "fma",      "f16c",      "bmi",      "bmi2",
    "lzcnt",    "movbe",    "avx512f",   "avx512bw", "avx512cd",
    "avx512dq", "avx512vl", "avx512vnni"};
const StringRef kX86AmxFeatures[] = {
    "avx2",     "fma",      "f16c",       "bmi",      "bmi2",
    "lzcnt",    "movbe",    "avx512f",    "avx512bw", "avx512cd",
    "avx512dq", "avx512vl", "avx512vnni", "amx-tile", "amx-int8"};
const StringRef kAArch64Features[] = {"neon", "fullfp16", "dotprod"};
const StringRef kAArch64I8mmFeatures[] = {"neon", "fullfp16", "dotprod",
                                          "i8mm"};

const Target kTargets[] = {
    {.name = "x86-64-v3",
     .triple = "x86_64-unknown-linux-gnu",
     .cpu = "x86-64-v3",
     .features = "",
     .runtimeFeatures = kX86V3Features,
     .lanes = 8,
     .registers = 16,
     .microVectors = 4,
     .microTokens = 3,
     .attentionRows = 6,
     .fmaChains = 4,
     .dot = DotStep::X86Pairs,
     .dotTokens = 2},
    {.name = "x86-64-v4",
     .triple = "x86_64-unknown-linux-gnu",
     .cpu = "x86-64-v4",
     .features = "+avx512vnni,-prefer-256-bit",
     .runtimeFeatures = kX86V4Features,
     .lanes = 16,
     .registers = 32,
     .microVectors = 2,
     .microTokens = 12,
     .attentionRows = 12,
     .fmaChains = 8,
     .dot = DotStep::X86Vnni,
     .dotTokens = 4},
    {.name = "x86-64-amx",
     .triple = "x86_64-unknown-linux-gnu",
     .cpu = "x86-64-v4",
     .features = "+avx512vnni,+amx-tile,+amx-int8,-prefer-256-bit",
     .runtimeFeatures = kX86AmxFeatures,
     .lanes = 16,
     .registers = 32,
     .microVectors = 2,
     .microTokens = 12,
     .attentionRows = 12,
     .fmaChains = 8,
     .dot = DotStep::X86Vnni,
     .dotTokens = 4,
     .matrix = MatrixStep::X86Amx},
    {.name = "aarch64",
     .triple = "aarch64-unknown-linux-gnu",
     .cpu = "generic",
     .features = "+v8.2a,+fullfp16,+dotprod",
     .runtimeFeatures = kAArch64Features,
     .lanes = 4,
     .registers = 32,
     .microVectors = 4,
     .microTokens = 6,
     .attentionRows = 6,
     .fmaChains = 8,
     .dot = DotStep::AArch64Sdot,
     .dotTokens = 2,
     .matrix = MatrixStep::AArch64Bytes},
    {.name = "aarch64-i8mm",
     .triple = "aarch64-unknown-linux-gnu",
     .cpu = "generic",
     .features = "+v8.2a,+fullfp16,+dotprod,+i8mm",
     .runtimeFeatures = kAArch64I8mmFeatures,
     .lanes = 4,
     .registers = 32,
     .microVectors = 4,
     .microTokens = 6,
     .attentionRows = 6,
     .fmaChains = 8,
     .dot = DotStep::AArch64Usdot,
     .dotTokens = 2,
     .matrix = MatrixStep::AArch64Smmla},
};

} // namespace

ArrayRef<Target> allTargets() { return kTargets; }

const Target *findTarget(StringRef name) {
  const Target *it =
      find_if(kTargets, [&](const Target &t) { return t.name == name; });
  return it == std::end(kTargets) ? nullptr : it;
}

const Target *hostTarget() {
  Triple::ArchType arch = Triple(sys::getProcessTriple()).getArch();
  StringMap<bool> host = sys::getHostCPUFeatures();
  const Target *best = nullptr;
  for (const Target &target : kTargets)
    if (Triple(target.triple).getArch() == arch &&
        all_of(target.runtimeFeatures,
               [&](StringRef f) { return host.lookup(f); }))
      best = &target;
  return best;
}

} // namespace retort
