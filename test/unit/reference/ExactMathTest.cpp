//===- ExactMathTest.cpp - The same functions everywhere ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/reference/ExactMath.h"

#include <gtest/gtest.h>

namespace retort::reference {
namespace {

// Against the C library with 64 bits of mantissa.
TEST(ExactMathTest, SinesAndCosinesAreThoseOfTheAngle) {
  for (double angle :
       {0.0, 1e-300, 1e-9, 0.1, 0.785398163397448, 1.0, 1.5707963267948966,
        3.141592653589793, 100.0, 4095.37, 131071.0, 163839.25, 1009999.5}) {
    for (double sign : {1.0, -1.0}) {
      long double exact = sign * angle;
      auto [sine, cosine] = sinCos(sign * angle);
      EXPECT_NEAR(sine, static_cast<double>(std::sin(exact)), 4e-16) << angle;
      EXPECT_NEAR(cosine, static_cast<double>(std::cos(exact)), 4e-16) << angle;
    }
  }
  for (int i = 0; i < 200000; ++i) {
    double angle = i * 0.777;
    auto [sine, cosine] = sinCos(angle);
    ASSERT_NEAR(sine, static_cast<double>(std::sin((long double)angle)), 4e-16)
        << angle;
    ASSERT_NEAR(sine * sine + cosine * cosine, 1, 1e-15) << angle;
  }
  EXPECT_TRUE(std::isnan(sinCos(NAN).first));
}

TEST(ExactMathTest, SigmoidsAreThoseOfBothSides) {
  for (double x : {0.0, 1e-12, 0.5, 1.0, 20.0, 36.5, 300.0})
    for (double value : {x, -x}) {
      long double exact = 1 / (1 + std::exp(-(long double)value));
      EXPECT_NEAR(sigmoid(value) / static_cast<double>(exact), 1, 1e-15)
          << value;
    }
  EXPECT_EQ(sigmoid(1e9), 1);
  EXPECT_LT(sigmoid(-1e9), 1e-300);
  EXPECT_TRUE(std::isnan(sigmoid(NAN)));
}

TEST(ExactMathTest, SmallExponentialsDoNotWrapAround) {
  EXPECT_EQ(expOfNegative(0), 1);
  EXPECT_LT(expOfNegative(-INFINITY), 1e-300);
  EXPECT_GT(expOfNegative(-1e300), 0);
}

} // namespace
} // namespace retort::reference
