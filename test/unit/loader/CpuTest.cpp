//===- CpuTest.cpp - Features that are found and granted ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Cpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

using namespace retort;
using testing::HasSubstr;

#if defined(__x86_64__)

namespace {

constexpr uint64_t kAvx512State = 0xe7, kTileState = 0x60000;
constexpr int kSupported = 0x1021, kRequest = 0x1023;

/// A machine with AVX2, AVX-512 VNNI and AMX, of which the system saves and
/// grants all.
struct FakeMachine {
  uint64_t xcr0 = kAvx512State | kTileState;
  bool osSaves = true;
  int supportedError = 0, requestError = 0;
  uint64_t supported = uint64_t(1) << 18;
  std::vector<uint64_t> requests;

  X86Machine machine() {
    X86Machine m;
    m.cpuid = [this](uint32_t leaf, uint32_t subleaf) {
      X86Machine::Registers regs;
      if (leaf == 1)
        regs.ecx = 1u << 12 | (osSaves ? 1u << 27 : 0);
      if (leaf == 7 && subleaf == 0) {
        regs.ebx = 1u << 5 | 1u << 16;
        regs.ecx = 1u << 11;
        regs.edx = 1u << 22 | 1u << 24 | 1u << 25;
      }
      return regs;
    };
    m.xcr0 = [this] { return xcr0; };
    m.archPrctl = [this](int code, uint64_t *argument) {
      if (code == kSupported) {
        *argument = supported;
        return supportedError;
      }
      EXPECT_EQ(code, kRequest);
      requests.push_back(*argument);
      return requestError;
    };
    return m;
  }
};

TEST(CpuDetection, FindsWhatIsSavedAndGranted) {
  FakeMachine fake;
  Cpu cpu = detectCpu(fake.machine());
  for (const char *feature : {"fma", "avx2", "avx512f", "avx512vnni",
                              "amx-tile", "amx-int8", "amx-bf16"})
    EXPECT_TRUE(cpu.has(feature)) << feature;
  EXPECT_FALSE(cpu.has("avx512bw"));
  EXPECT_TRUE(cpu.withheld.empty());
  // To look is not to ask.
  EXPECT_TRUE(fake.requests.empty());
}

TEST(CpuDetection, TilesThatTheSystemDoesNotSave) {
  FakeMachine fake;
  fake.xcr0 = kAvx512State;
  Cpu cpu = detectCpu(fake.machine());
  EXPECT_TRUE(cpu.has("avx512vnni"));
  EXPECT_FALSE(cpu.has("amx-tile"));
  EXPECT_THAT(cpu.withheld["amx-tile"], HasSubstr("doesn't save"));
}

TEST(CpuDetection, HalfOfTheTileStateIsNone) {
  FakeMachine fake;
  fake.xcr0 = kAvx512State | 0x20000;
  EXPECT_FALSE(detectCpu(fake.machine()).has("amx-tile"));
}

TEST(CpuDetection, SystemWithoutXsave) {
  FakeMachine fake;
  fake.osSaves = false;
  Cpu cpu = detectCpu(fake.machine());
  for (const char *feature : {"avx2", "avx512f", "amx-tile"})
    EXPECT_FALSE(cpu.has(feature)) << feature;
}

TEST(CpuDetection, KernelThatKnowsNoTiles) {
  FakeMachine fake;
  fake.supportedError = EINVAL;
  Cpu cpu = detectCpu(fake.machine());
  EXPECT_FALSE(cpu.has("amx-int8"));
  EXPECT_THAT(cpu.withheld["amx-int8"], HasSubstr("Linux since 5.16"));
}

TEST(CpuDetection, KernelThatKeepsTiles) {
  FakeMachine fake;
  fake.supported = 0;
  Cpu cpu = detectCpu(fake.machine());
  EXPECT_FALSE(cpu.has("amx-int8"));
  EXPECT_THAT(cpu.withheld["amx-int8"], HasSubstr("doesn't offer"));
}

TEST(FeatureRequest, AsksForTilesAlone) {
  FakeMachine fake;
  EXPECT_TRUE(requestFeatures({"avx512vnni"}, fake.machine()).isOk());
  EXPECT_TRUE(fake.requests.empty());
  EXPECT_TRUE(requestFeatures({"amx-tile"}, fake.machine()).isOk());
  EXPECT_EQ(fake.requests, std::vector<uint64_t>{18});
}

TEST(FeatureRequest, Refused) {
  FakeMachine fake;
  fake.requestError = EPERM;
  Status refused = requestFeatures({"amx-tile"}, fake.machine());
  EXPECT_EQ(refused.code(), Code::Incompatible);
  EXPECT_THAT(refused.message(),
              HasSubstr("the kernel refuses the use of AMX's tiles: Operation "
                        "not permitted"));
}

} // namespace

#endif
