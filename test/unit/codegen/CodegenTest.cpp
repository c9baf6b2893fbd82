//===- CodegenTest.cpp - Shared objects of kernels ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"
#include "compiler/codegen/Link.h"
#include "compiler/codegen/LoadedCode.h"
#include "compiler/lower/Tiling.h"

#include "mlir/Parser/Parser.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Object/ELFObjectFile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

constexpr const char *kTwoEntries = R"(
kernel.entry @first tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<64x100xf32, #encoding.packed<int4, 32>>):
  %y = kernel.linear %x, %w epilogue swiglu : (tensor<?x128xf32>, tensor<64x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
}
kernel.entry @second tokens(many) {
^bb0(%t: tensor<?xi32>, %w: tensor<64x100xf32, #encoding.packed<f16>>):
  %y = kernel.embed %t, %w : (tensor<?xi32>, tensor<64x100xf32, #encoding.packed<f16>>) -> tensor<?x128xf32>
}
)";

class Codegen : public testing::Test {
protected:
  Codegen() : context(makeRegistry(), mlir::MLIRContext::Threading::DISABLED) {}
  static mlir::DialectRegistry makeRegistry() {
    mlir::DialectRegistry registry;
    registerCodegenDialects(registry);
    return registry;
  }
  mlir::OwningOpRef<mlir::ModuleOp> parse(const char *text) {
    return mlir::parseSourceString<mlir::ModuleOp>(
        text, mlir::ParserConfig(&context));
  }
  mlir::MLIRContext context;
};

/// Names of the object's dynamic symbols: defined ones, then undefined ones.
std::pair<std::vector<std::string>, std::vector<std::string>>
dynamicSymbols(const std::vector<char> &bytes) {
  std::pair<std::vector<std::string>, std::vector<std::string>> names;
  llvm::MemoryBufferRef buffer(llvm::StringRef(bytes.data(), bytes.size()),
                               "code");
  auto object = llvm::object::ObjectFile::createELFObjectFile(buffer);
  if (!object) {
    llvm::consumeError(object.takeError());
    return names;
  }
  auto *elf = llvm::cast<llvm::object::ELFObjectFileBase>(object->get());
  for (const llvm::object::ELFSymbolRef symbol :
       elf->getDynamicSymbolIterators()) {
    std::string name = llvm::cantFail(symbol.getName()).str();
    bool undefined = llvm::cantFail(symbol.getFlags()) &
                     llvm::object::SymbolRef::SF_Undefined;
    if (!name.empty())
      (undefined ? names.second : names.first).push_back(name);
  }
  std::sort(names.first.begin(), names.first.end());
  return names;
}

TEST_F(Codegen, ExportsTheKernelsAndImportsNothingOnEveryTarget) {
  auto module = parse(kTwoEntries);
  ASSERT_TRUE(module);
  for (const Target &target : allTargets()) {
    SCOPED_TRACE(target.name.str());
    auto object = compileToSharedObject(*module, target, 2);
    ASSERT_TRUE(object) << object.status().message();
    auto [defined, undefined] = dynamicSymbols(*object);
    EXPECT_THAT(defined, ElementsAre("first", "second"));
    EXPECT_THAT(undefined, ElementsAre());
  }
}

TEST_F(Codegen, BytesDoNotDependOnThreads) {
  auto module = parse(kTwoEntries);
  const Target &target = allTargets().front();
  auto one = compileToSharedObject(*module, target, 1);
  auto three = compileToSharedObject(*module, target, 3);
  ASSERT_TRUE(one && three);
  EXPECT_EQ(*one, *three);
}

TEST_F(Codegen, NamesTheKernelThatCannotBeLowered) {
  auto module = parse(R"(
kernel.entry @no_launch tokens(one) {
  %c = kernel.load_cache 0 : !kernel.cache<keys, 1 x 32>
})");
  ASSERT_TRUE(module);
  auto object = compileToSharedObject(*module, allTargets().front(), 1);
  ASSERT_FALSE(object);
  EXPECT_EQ(object.status().code(), Code::Unsupported);
  EXPECT_THAT(object.status().message(), HasSubstr("kernel 'no_launch'"));
  EXPECT_THAT(object.status().message(),
              HasSubstr("expected a launch that can be lowered"));
}

TEST_F(Codegen, DumpsEveryStage) {
  auto module = parse(kTwoEntries);
  const Target &target = *findTarget("x86-64-v3");
  auto dump = [&](TextForm form) {
    auto text = dumpCode(*module, target, form);
    return text ? *text : text.status().message();
  };
  EXPECT_THAT(dump(TextForm::Vector), HasSubstr("func.func @first"));
  EXPECT_THAT(dump(TextForm::LLVMDialect), HasSubstr("llvm.func @second"));
  EXPECT_THAT(dump(TextForm::LLVMIR), HasSubstr("define void @first"));
  EXPECT_THAT(dump(TextForm::Assembly), HasSubstr("vfmadd"));
}

TEST(Link, RefusesWhatIsNoObject) {
  auto linked = linkSharedObject({std::string("no object")});
  ASSERT_FALSE(linked);
  EXPECT_THAT(linked.status().message(), HasSubstr("cannot link the kernels"));
  // The linker is usable afterwards.
  EXPECT_FALSE(linkSharedObject({std::string("neither")}));
}

TEST(LoadedCode, RefusesWhatIsNoSharedObject) {
  std::vector<char> bytes(100, 'x');
  auto loaded = LoadedCode::load(bytes);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.status().code(), Code::InvalidData);
}

TEST(Targets, AreFoundByName) {
  for (const Target &target : allTargets())
    EXPECT_EQ(findTarget(target.name), &target);
  EXPECT_EQ(findTarget("x86-64"), nullptr);
  EXPECT_EQ(findTarget(""), nullptr);
}

TEST(Targets, RegisterTilesFit) {
  for (const Target &t : allTargets()) {
    EXPECT_LE(t.microVectors * t.microTokens +
                  std::min(t.microVectors, t.microTokens) + 1,
              t.registers);
    EXPECT_EQ(kStripRows % (t.microVectors * t.lanes), 0);
    EXPECT_EQ(kLinearTokenBlock % t.microTokens, 0);
    EXPECT_EQ(kLinearIntTokenBlock % t.dotTokens, 0);
  }
}

} // namespace
