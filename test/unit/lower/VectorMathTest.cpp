//===- VectorMathTest.cpp - Accuracy of elementary functions --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/lower/VectorMath.h"

#include "compiler/codegen/Codegen.h"
#include "compiler/lower/Passes.h"
#include "test/unit/lower/KernelHarness.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/TargetSelect.h"
#include "gtest/gtest.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace retort {
namespace {

/// A just-in-time compiled loop that applies a function to vectors: reads
/// `n_tokens` elements of buffer 0, writes buffer 1.
class VectorFunction {
public:
  using Emit = function_ref<Value(KernelBuilder &, Value)>;

  VectorFunction(const Target &target, bool f64, Emit emit) {
    DialectRegistry registry;
    registerCodegenDialects(registry);
    MLIRContext mlir(registry, MLIRContext::Threading::DISABLED);
    mlir.loadAllAvailableDialects();
    OpBuilder b(&mlir);
    Location loc = b.getUnknownLoc();
    OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
    b.setInsertionPointToStart(module->getBody());
    Type element = f64 ? Type(b.getF64Type()) : Type(b.getF32Type());
    auto buffer = MemRefType::get({int64_t(1) << 40}, element);
    auto scratch = MemRefType::get({64}, b.getI8Type());
    Type index = b.getIndexType();
    auto func = func::FuncOp::create(
        b, loc, "k",
        b.getFunctionType({buffer, buffer, scratch, index, index, index, index},
                          {}));
    b.setInsertionPointToStart(func.addEntryBlock());
    KernelBuilder k(b, func, kernel::TokenClass::Many, target);
    int64_t lanes = f64 ? k.lanes() / 2 : k.lanes();
    k.forLoop(k.index(0), k.numTokens(), lanes, [&](Index i) {
      k.store(emit(k, k.loadVector(k.buffer(0), i, lanes)), k.buffer(1), i);
    });
    func::ReturnOp::create(b, loc);

    PassManager pm(&mlir);
    buildLowerToLLVMPipeline(pm, target);
    EXPECT_TRUE(succeeded(pm.run(*module)));
    auto context = std::make_unique<llvm::LLVMContext>();
    auto llvmModule = translateModuleToLLVMIR(*module, *context);
    EXPECT_TRUE(llvmModule);
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    jit = llvm::cantFail(llvm::orc::LLJITBuilder().create());
    llvmModule->setDataLayout(jit->getDataLayout());
    for (llvm::Function &f : *llvmModule) {
      f.addFnAttr("target-cpu", target.cpu);
      f.addFnAttr("target-features", target.features);
    }
    llvm::cantFail(jit->addIRModule(llvm::orc::ThreadSafeModule(
        std::move(llvmModule), std::move(context))));
    function = llvm::cantFail(jit->lookup("k")).toPtr<retort_kernel_fn>();
  }

  /// The number of elements is a multiple of 16.
  template <typename T> std::vector<T> operator()(std::vector<T> in) {
    std::vector<T> out(in.size());
    void *args[] = {in.data(), out.data()};
    retort_kernel_scalars scalars{static_cast<int64_t>(in.size()), 0, 0};
    test::AlignedBytes scratch(64);
    function(args, &scalars, scratch.data(), 0);
    return out;
  }

private:
  std::unique_ptr<llvm::orc::LLJIT> jit;
  retort_kernel_fn function = nullptr;
};

/// Distance in units of the last place of the exact result.
double ulps(float got, double exact) {
  float near = std::abs(static_cast<float>(exact));
  double unit = static_cast<double>(
                    std::nextafter(near, std::numeric_limits<float>::max())) -
                near;
  return std::abs(got - exact) / unit;
}

std::vector<float> sweep(float from, float to, size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i)
    x[i] =
        from + (to - from) * static_cast<float>(i) / static_cast<float>(n - 1);
  return x;
}

class VectorMathTest : public ::testing::Test {
protected:
  void SetUp() override {
    target = hostTarget();
    if (!target)
      GTEST_SKIP() << "no CPU target of the table runs on this machine";
  }
  const Target *target = nullptr;
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_F(VectorMathTest, ExpIsWithinTwoUlps) {
  VectorFunction exp(*target, false, emitExp);
  for (auto [from, to] : {std::pair(-87.0f, 88.0f), {-1.0f, 1.0f}}) {
    std::vector<float> x = sweep(from, to, 1 << 20), y = exp(x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, ulps(y[i], std::exp(double(x[i]))));
    EXPECT_LE(worst, 2.0) << from << " to " << to;
    EXPECT_GT(worst, 0.0);
  }
}

TEST_F(VectorMathTest, ExpOfExtremesIsClamped) {
  VectorFunction exp(*target, false, emitExp);
  std::vector<float> x(16, 0.0f);
  x[1] = -kInfinity, x[2] = -1e30f, x[3] = -88.5f, x[4] = 89.0f;
  x[5] = kInfinity, x[6] = -0.0f, x[7] = 1e-30f;
  std::vector<float> y = exp(x);
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 0.0f);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_EQ(y[3], 0.0f);
  EXPECT_TRUE(std::isfinite(y[4]) && y[4] > 2e38f) << y[4];
  EXPECT_EQ(y[5], y[4]);
  EXPECT_EQ(y[6], 1.0f);
  EXPECT_EQ(y[7], 1.0f);
}

TEST_F(VectorMathTest, Exp2IsWithinOneUlp) {
  VectorFunction exp2(*target, false, emitExp2);
  std::vector<float> x = sweep(-126.0f, 127.0f, 1 << 20), y = exp2(x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, ulps(y[i], std::exp2(double(x[i]))));
  EXPECT_LE(worst, 1.0);
}

TEST_F(VectorMathTest, Exp2OfWholeNumbersIsExact) {
  VectorFunction exp2(*target, false, emitExp2);
  std::vector<float> x(256);
  for (int i = 0; i < 256; ++i)
    x[i] = static_cast<float>(i - 128);
  std::vector<float> y = exp2(x);
  for (int i = 2; i < 256; ++i)
    ASSERT_EQ(y[i], i - 128 <= 127 ? std::exp2(x[i]) : y[255]) << x[i];
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(exp2(std::vector<float>(16, -kInfinity))[3], 0.0f);
}

TEST_F(VectorMathTest, SineAndCosineOfTurns) {
  VectorFunction sine(*target, true, [](KernelBuilder &k, Value x) {
    return emitSinCosOfTurns(k, x).sin;
  });
  VectorFunction cosine(*target, true, [](KernelBuilder &k, Value x) {
    return emitSinCosOfTurns(k, x).cos;
  });
  std::vector<double> x;
  for (int i = -40000; i < 40000; ++i)
    x.push_back(i * 0.000137);
  // Whole turns are exact in f64, so that they change nothing.
  for (int i = 0; i < 4096; ++i)
    x.push_back((1 << 20) + i / 4096.0);
  std::vector<double> s = sine(x), c = cosine(x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double angle = 2 * M_PI * (x[i] - std::round(x[i]));
    worst = std::max({worst, std::abs(s[i] - std::sin(angle)),
                      std::abs(c[i] - std::cos(angle))});
  }
  EXPECT_LT(worst, 2e-14);
}

} // namespace
} // namespace retort
