//===- WeightChoiceTest.cpp - What --weights asks for -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/WeightChoice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using testing::HasSubstr;

namespace {

WeightChoice parse(std::string_view text) {
  Result<WeightChoice> choice = parseWeightChoice(text);
  EXPECT_TRUE(choice.isOk()) << choice.status().message();
  return choice.isOk() ? *choice : WeightChoice();
}

constexpr WeightClass kInner[] = {WeightClass::Attention, WeightClass::Experts,
                                  WeightClass::Dense};
constexpr WeightClass kOuter[] = {WeightClass::Embedding, WeightClass::Head};

TEST(WeightChoice, OneEncodingIsForAll) {
  for (auto [text, kind] :
       {std::pair<const char *, EncodingKind>("f32", EncodingKind::F32),
        {"f16", EncodingKind::F16},
        {"bf16", EncodingKind::BF16},
        {"int8", EncodingKind::Int8}}) {
    WeightChoice choice = parse(text);
    for (WeightClass c : kInner)
      EXPECT_EQ(choice.wishFor(c).kind, kind) << text;
    for (WeightClass c : kOuter)
      EXPECT_EQ(choice.wishFor(c).kind, kind) << text;
  }
}

TEST(WeightChoice, KeepAsksForNothing) {
  EXPECT_EQ(parse("keep").wishFor(WeightClass::Dense).kind, std::nullopt);
  EXPECT_FALSE(parse("keep").usesIntegers());
}

TEST(WeightChoice, Int4AloneKeepsTheOuterMatricesAtEightBits) {
  WeightChoice choice = parse("int4");
  for (WeightClass c : kInner)
    EXPECT_EQ(choice.wishFor(c).kind, EncodingKind::Int4);
  for (WeightClass c : kOuter)
    EXPECT_EQ(choice.wishFor(c).kind, EncodingKind::Int8);
  EXPECT_TRUE(choice.usesIntegers());
}

TEST(WeightChoice, EveryClassCanDiffer) {
  WeightChoice choice = parse(
      "bf16,head=int4,attention=int8,experts=keep,dense=f16,embedding=f32");
  EXPECT_EQ(choice.wishFor(WeightClass::Attention).kind, EncodingKind::Int8);
  EXPECT_EQ(choice.wishFor(WeightClass::Experts).kind, std::nullopt);
  EXPECT_EQ(choice.wishFor(WeightClass::Dense).kind, EncodingKind::F16);
  EXPECT_EQ(choice.wishFor(WeightClass::Embedding).kind, EncodingKind::F32);
  EXPECT_EQ(choice.wishFor(WeightClass::Head).kind, EncodingKind::Int4);
  EXPECT_TRUE(choice.usesIntegers());
}

TEST(WeightChoice, UnnamedClassesFollowTheFirst) {
  WeightChoice choice = parse("int4,attention=bf16");
  EXPECT_EQ(choice.wishFor(WeightClass::Experts).kind, EncodingKind::Int4);
  EXPECT_EQ(choice.wishFor(WeightClass::Head).kind, EncodingKind::Int8);
}

/// A text that is refused, and the words that say why.
struct Refused {
  const char *name, *text, *message;
};

class WeightChoiceErrors : public testing::TestWithParam<Refused> {};

TEST_P(WeightChoiceErrors, AreNamed) {
  Result<WeightChoice> choice = parseWeightChoice(GetParam().text);
  ASSERT_FALSE(choice.isOk());
  EXPECT_EQ(choice.status().code(), Code::InvalidArgument);
  EXPECT_THAT(choice.status().message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, WeightChoiceErrors,
    testing::Values(
        Refused{"Empty", "", "expected one of keep, f32"},
        Refused{"UnknownEncoding", "int7",
                "int8, int6, int5, int4, nf4, int3, int2, found 'int7'"},
        Refused{"UnknownClass", "int4,router=f32",
                "expected one of attention, experts, dense, embedding, head, "
                "found 'router'"},
        Refused{"UnknownEncodingOfAClass", "int4,head=q8", "found 'q8'"},
        Refused{"ClassFirst", "attention=int8",
                "an encoding in front of the classes"},
        Refused{"TwoEncodings", "int4,int8",
                "CLASS=ENCODING behind the first encoding, found 'int8'"},
        Refused{"ClassTwice", "int4,head=int8,head=bf16", "every class once"},
        Refused{"EmptyItem", "int4,", "found ''"},
        Refused{"NoEncoding", "int4,head=", "found ''"},
        Refused{"Blank", "int4, head=int8", "found ' head'"}),
    [](const auto &info) { return std::string(info.param.name); });

} // namespace
