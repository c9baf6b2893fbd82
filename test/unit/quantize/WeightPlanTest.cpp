//===- WeightPlanTest.cpp - An encoding for each matrix ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/WeightPlan.h"

#include "compiler/quantize/Passes.h"
#include "dialects/Encoding/Encoding.h"
#include "dialects/Model/Model.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string document(const std::string &weights) {
  return R"({"format": "retort-weight-plan", "version": 1, "weights": [)" +
         weights + "]}";
}

std::string entry(const std::string &tensor, const std::string &encoding) {
  return R"({"tensor": ")" + tensor + R"(", "encoding": ")" + encoding + "\"}";
}

void expectBad(const std::string &text, std::vector<std::string> parts) {
  Result<WeightPlan> plan = parseWeightPlan(text);
  ASSERT_FALSE(plan.isOk()) << text;
  EXPECT_EQ(plan.status().code(), Code::InvalidData) << text;
  for (const std::string &part : parts)
    EXPECT_THAT(plan.status().message(), HasSubstr(part)) << text;
}

TEST(WeightPlan, ReadsEncodings) {
  auto plan =
      parseWeightPlan(document(entry("a", "int4<64, zero_points>") + "," +
                               entry("b", "keep") + "," + entry("c", "bf16")));
  ASSERT_TRUE(plan.isOk()) << plan.status().message();
  ASSERT_EQ(plan->weights.size(), 3u);
  EXPECT_EQ(plan->weights[0].encoding,
            (PackedEncoding{EncodingKind::Int4, 64, true}));
  EXPECT_EQ(plan->weights[1].encoding, std::nullopt);
  EXPECT_EQ(plan->weights[2].encoding,
            (PackedEncoding{EncodingKind::BF16, 0, false}));
  EXPECT_FALSE(plan->isExact());
}

TEST(WeightPlan, WhatIsWrittenIsReadBack) {
  WeightPlan plan;
  plan.note = "a \"note\"\nof two lines";
  plan.weights = {{"tensor \"a\"\\", PackedEncoding{EncodingKind::Int8, 32}},
                  {"b", std::nullopt}};
  auto read = parseWeightPlan(formatWeightPlan(plan));
  ASSERT_TRUE(read.isOk()) << read.status().message();
  EXPECT_EQ(read->weights, plan.weights);
  EXPECT_EQ(read->note, plan.note);
}

TEST(WeightPlan, KeepAndF32AreExact) {
  auto plan =
      parseWeightPlan(document(entry("a", "f32") + "," + entry("b", "keep")));
  ASSERT_TRUE(plan.isOk());
  EXPECT_TRUE(plan->isExact());
}

TEST(WeightPlanErrors, NotJson) {
  expectBad("", {});
  expectBad("{", {});
  expectBad(document(entry("a", "keep")) + "x", {});
  expectBad(document(entry("a", "keep")).substr(0, 60), {});
  expectBad(std::string(100000, '['), {});
}

TEST(WeightPlanErrors, OtherRoot) {
  expectBad("[]", {"expected an object"});
  expectBad("7", {"expected an object", "7"});
}

TEST(WeightPlanErrors, FormatAndVersion) {
  expectBad(R"({"version": 1, "weights": []})",
            {"format", "retort-weight-plan", "none"});
  expectBad(R"({"format": "gguf", "version": 1, "weights": []})",
            {"format", "gguf"});
  expectBad(R"({"format": "retort-weight-plan", "version": 2, "weights": []})",
            {"version", "expected 1", "2"});
  expectBad(
      R"({"format": "retort-weight-plan", "version": "1", "weights": []})",
      {"version"});
}

TEST(WeightPlanErrors, Weights) {
  expectBad(R"({"format": "retort-weight-plan", "version": 1})",
            {"weights", "an array", "none"});
  expectBad(R"({"format": "retort-weight-plan", "version": 1, "weights": {}})",
            {"weights", "an array"});
}

TEST(WeightPlanErrors, UnknownFields) {
  expectBad(R"({"format": "retort-weight-plan", "version": 1, "weights": [],
                "budget": 3})",
            {"budget"});
  expectBad(document(R"({"tensor": "a", "encoding": "keep", "bits": 4})"),
            {"weight 0", "bits"});
  expectBad(R"({"format": "retort-weight-plan", "version": 1, "weights": [],
                "note": 3})",
            {"note", "a string"});
}

TEST(WeightPlanErrors, Entries) {
  expectBad(document("3"), {"weight 0", "an object", "3"});
  expectBad(document(entry("a", "keep") + R"(,{"tensor": "b"})"),
            {"weight 1", "encoding", "none"});
  expectBad(document(R"({"encoding": "keep"})"), {"weight 0", "tensor"});
  expectBad(document(R"({"tensor": 3, "encoding": "keep"})"),
            {"weight 0", "tensor", "a string", "3"});
}

TEST(WeightPlanErrors, EncodingsThatDoNotExist) {
  for (const char *encoding :
       {"", "int9<32>", "int4", "int4<48>", "int4<0>", "int4<-32>",
        "int4<32,zero_points>", "INT4<32>", "fp8<32>"})
    expectBad(document(entry("a.weight", encoding)),
              {"tensor 'a.weight'", "expected an encoding",
               std::string("found '") + encoding + "'"});
}

TEST(WeightPlanErrors, TensorTwice) {
  expectBad(document(entry("a", "keep") + "," + entry("a", "keep")),
            {"tensor 'a'", "one entry"});
}

/// A tied embedding of bf16 and a matrix that the checkpoint has quantized.
class ApplyPlan : public testing::Test {
protected:
  void SetUp() override {
    context.loadDialect<encoding::EncodingDialect, model::ModelDialect,
                        mlir::func::FuncDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>(R"(
      model.weight @table : tensor<64x32xbf16>
      model.weight @norm : tensor<32xbf16>
      model.weight @q : tensor<32x32xbf16> {
          model.kept_encoding = #encoding.packed<int4, 32, zero_points, f16_scales>}
      func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
        %x = model.embedding %tokens, @table : (tensor<?xi32>) -> tensor<?x32xf32>
        %y = model.linear %x, @q : (tensor<?x32xf32>) -> tensor<?x32xf32>
        %logits = model.linear %y, @table : (tensor<?x32xf32>) -> tensor<?x64xf32>
        return %logits : tensor<?x64xf32>
      })",
                                                     &context);
    ASSERT_TRUE(module);
  }

  Status apply(const std::string &weights) {
    auto plan = parseWeightPlan(document(weights));
    return plan ? applyWeightPlan(*module, *plan) : plan.takeStatus();
  }

  std::optional<PackedEncoding> planned(const char *name) {
    auto attr = mlir::SymbolTable(*module)
                    .lookup(name)
                    ->getAttrOfType<encoding::PackedAttr>(kPlannedEncodingAttr);
    return attr ? std::optional(attr.getEncoding()) : std::nullopt;
  }

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

TEST_F(ApplyPlan, MarksMatrices) {
  Status status = apply(entry("table", "int8<64>") + "," + entry("q", "keep"));
  ASSERT_TRUE(status.isOk()) << status.message();
  EXPECT_EQ(planned("table"), PackedEncoding::parse("int8<64>"));
  EXPECT_EQ(planned("q"), std::nullopt);
}

TEST_F(ApplyPlan, WhatTheCheckpointHasIsKept) {
  Status status = apply(entry("table", "keep") + "," +
                        entry("q", "int4<32, zero_points, f16_scales>"));
  ASSERT_TRUE(status.isOk()) << status.message();
  EXPECT_EQ(planned("q"), std::nullopt);
}

TEST_F(ApplyPlan, UnknownTensor) {
  EXPECT_THAT(apply(entry("table", "keep") + "," + entry("q", "keep") + "," +
                    entry("r", "keep"))
                  .message(),
              AllOf(HasSubstr("tensor 'r'"), HasSubstr("expected a matrix")));
}

TEST_F(ApplyPlan, Vector) {
  EXPECT_THAT(apply(entry("norm", "keep")).message(),
              AllOf(HasSubstr("tensor 'norm'"), HasSubstr("a matrix")));
}

TEST_F(ApplyPlan, MissingTensor) {
  EXPECT_THAT(apply(entry("table", "keep")).message(),
              AllOf(HasSubstr("tensor 'q'"), HasSubstr("expected an entry")));
}

TEST_F(ApplyPlan, EncodingThatIsOnlyKept) {
  for (const char *encoding : {"int4<32, f16_scales>", "fp8"})
    EXPECT_THAT(
        apply(entry("table", encoding) + "," + entry("q", "keep")).message(),
        AllOf(HasSubstr("tensor 'table'"), HasSubstr(encoding)));
}

} // namespace
