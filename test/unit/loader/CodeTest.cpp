//===- CodeTest.cpp - Targets and code sections -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/CodeModule.h"
#include "runtime/loader/Cpu.h"
#include "runtime/loader/Elf.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstring>
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

void addTarget(ArtifactBuilder &builder, const char *name, const char *triple,
               std::vector<std::string> features) {
  auto target = std::make_unique<retort::abi::TargetT>();
  target->name = name;
  target->triple = triple;
  target->features = std::move(features);
  builder.index.targets.push_back(std::move(target));
}

/// An artifact for x86-64-v3, v4 with VNNI, and aarch64.
struct ThreeTargets {
  ThreeTargets() : bytes(make()) {
    auto opened = Artifact::openMemory(bytes.span());
    EXPECT_TRUE(opened.isOk()) << opened.status().message();
    artifact = *opened;
  }
  static Bytes make() {
    ArtifactBuilder builder;
    builder.index.targets.clear();
    addTarget(builder, "x86-64-v3", "x86_64-linux-gnu", {"avx2", "fma"});
    addTarget(builder, "x86-64-v4", "x86_64-linux-gnu",
              {"avx2", "fma", "avx512f", "+avx512vnni"});
    addTarget(builder, "aarch64", "aarch64-linux-gnu", {"neon", "dotprod"});
    return builder.build();
  }
  std::string choose(const Cpu &cpu, std::string_view wanted = {}) {
    auto chosen = chooseTarget(artifact->index(), cpu, wanted);
    if (!chosen.isOk())
      return chosen.status().message();
    return artifact->index().targets()->Get(*chosen)->name()->str();
  }
  AlignedBytes bytes;
  std::shared_ptr<const Artifact> artifact;
};

const Cpu kV3{"x86_64", {"avx2", "fma"}};
const Cpu kV4{"x86_64", {"avx2", "fma", "avx512f", "avx512vnni"}};

TEST(TargetTest, TakesTheMostCapable) {
  ThreeTargets three;
  EXPECT_EQ(three.choose(kV4), "x86-64-v4");
  EXPECT_EQ(three.choose(kV3), "x86-64-v3");
  EXPECT_EQ(three.choose({"aarch64", {"neon", "dotprod"}}), "aarch64");
}

TEST(TargetTest, TakesTheNamedOne) {
  ThreeTargets three;
  EXPECT_EQ(three.choose(kV4, "x86-64-v3"), "x86-64-v3");
}

TEST(TargetTest, NamedOneMustFit) {
  ThreeTargets three;
  EXPECT_EQ(three.choose(kV3, "x86-64-v4"),
            "compiled for another CPU: x86-64-v4: this machine lacks avx512f, "
            "avx512vnni");
}

TEST(TargetTest, NamedOneMustExist) {
  ThreeTargets three;
  EXPECT_THAT(three.choose(kV3, "riscv"), HasSubstr("found 'riscv'"));
}

TEST(TargetTest, SaysWhatThisMachineLacks) {
  ThreeTargets three;
  auto chosen = chooseTarget(three.artifact->index(), Cpu{"x86_64", {"avx2"}});
  EXPECT_EQ(chosen.status().code(), Code::Incompatible);
  EXPECT_THAT(chosen.status().message(),
              HasSubstr("x86-64-v3: this machine lacks fma; x86-64-v4"));
  EXPECT_THAT(chosen.status().message(),
              HasSubstr("aarch64: needs aarch64, this machine is x86_64"));
}

TEST(TargetTest, SaysWhyTheSystemWithholdsAFeature) {
  ThreeTargets three;
  Cpu cpu{"x86_64", {"avx2", "fma", "avx512f"}};
  cpu.withheld["avx512vnni"] = "the system doesn't save its registers";
  EXPECT_EQ(three.choose(cpu, "x86-64-v4"),
            "compiled for another CPU: x86-64-v4: this machine lacks "
            "avx512vnni (the system doesn't save its registers)");
}

TEST(TargetTest, HostHasItsBaseline) {
#if defined(__x86_64__)
  EXPECT_EQ(hostCpu().arch, "x86_64");
  EXPECT_TRUE(hostCpu().has("sse2"));
#ifdef __AVX2__
  EXPECT_TRUE(hostCpu().has("avx2"));
#endif
#else
  EXPECT_EQ(hostCpu().arch, "aarch64");
  EXPECT_TRUE(hostCpu().has("neon"));
#endif
  EXPECT_FALSE(hostCpu().has("no-such-feature"));
}

std::string loadError(ArtifactBuilder &builder, Code code) {
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
  auto module = CodeModule::load(**artifact);
  EXPECT_FALSE(module.isOk());
  EXPECT_EQ(module.status().code(), code) << module.status().message();
  return module.status().message();
}

TEST(CodeModuleTest, LoadsKernels) {
  AlignedBytes bytes(ArtifactBuilder().build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk());
  auto module = CodeModule::load(**artifact);
  ASSERT_TRUE(module.isOk()) << module.status().message();
  EXPECT_EQ(module->target(), "host");
  EXPECT_NE(module->kernel(0), module->kernel(3));
}

TEST(CodeModuleTest, TwoModulesAreLoadedApart) {
  AlignedBytes bytes(ArtifactBuilder().build());
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_TRUE(artifact.isOk());
  auto a = CodeModule::load(**artifact), b = CodeModule::load(**artifact);
  ASSERT_TRUE(a.isOk() && b.isOk());
  EXPECT_NE(a->kernel(0), b->kernel(0));
}

TEST(CodeModuleTest, MissingKernel) {
  ArtifactBuilder builder;
  builder.index.program->kernels[2]->symbol = "test_none";
  EXPECT_THAT(loadError(builder, Code::InvalidData),
              HasSubstr("kernel 'test_none' is not in its code"));
}

TEST(CodeModuleTest, AnotherCpu) {
  ArtifactBuilder builder;
  builder.index.targets[0]->features = {"warp-drive"};
  EXPECT_THAT(loadError(builder, Code::Incompatible), HasSubstr("warp-drive"));
}

TEST(CodeModuleTest, NotAnElfObject) {
  ArtifactBuilder builder;
  builder.setSection(0, std::as_bytes(std::span("garbage", 7)));
  EXPECT_THAT(loadError(builder, Code::InvalidData),
              HasSubstr("target 'host': elf object"));
}

Elf64_Ehdr &header(ArtifactBuilder &builder) {
  return *reinterpret_cast<Elf64_Ehdr *>(builder.sections[0].data());
}

TEST(CodeModuleTest, CodeForAnotherMachine) {
  ArtifactBuilder builder;
  bool x86 = header(builder).e_machine == EM_X86_64;
  header(builder).e_machine = x86 ? EM_AARCH64 : EM_X86_64;
  EXPECT_THAT(loadError(builder, Code::InvalidData),
              HasSubstr("expected code for"));
}

TEST(ElfTest, ListsFunctionsWithSizes) {
  ArtifactBuilder builder;
  auto object = readElf(builder.sections[0]);
  ASSERT_TRUE(object.isOk()) << object.status().message();
  EXPECT_EQ(object->arch, hostCpu().arch);
  EXPECT_GT(object->codeBytes, 0u);
  int found = 0;
  for (const ElfSymbol &symbol : object->symbols)
    if (symbol.name.starts_with("test_")) {
      ++found;
      EXPECT_TRUE(symbol.defined && symbol.function);
      EXPECT_GT(symbol.size, 0u);
    }
  EXPECT_EQ(found, 5);
}

TEST(ElfTest, EveryTruncationIsAnError) {
  ArtifactBuilder builder;
  auto bytes = std::span<const std::byte>(builder.sections[0]);
  for (size_t size = 0; size < bytes.size(); ++size)
    ASSERT_FALSE(readElf(Bytes(bytes.begin(), bytes.begin() + size)).isOk())
        << size;
}

TEST(ElfTest, EveryFlippedByteIsHandled) {
  ArtifactBuilder builder;
  Bytes bytes = builder.sections[0];
  for (size_t i = 0; i < bytes.size(); ++i)
    for (unsigned flip : {0x01u, 0x80u, 0xffu}) {
      bytes[i] ^= std::byte(flip);
      (void)readElf(bytes).isOk(); // the sanitizers watch
      bytes[i] ^= std::byte(flip);
    }
}

TEST(ElfTest, WrongKinds) {
  ArtifactBuilder builder;
  auto message = [&] {
    return readElf(builder.sections[0]).status().message();
  };
  header(builder).e_type = ET_EXEC;
  EXPECT_THAT(message(), HasSubstr("expected a shared object"));
  header(builder).e_type = ET_DYN;
  header(builder).e_machine = EM_RISCV;
  EXPECT_THAT(message(), HasSubstr("machine 243"));
  header(builder).e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_THAT(message(), HasSubstr("64 bits"));
}

} // namespace
