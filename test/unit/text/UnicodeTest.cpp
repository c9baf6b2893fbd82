//===- UnicodeTest.cpp - UTF-8 and normal forms ---------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Unicode.h"

#include <gtest/gtest.h>

using namespace retort;
using namespace retort::text;

TEST(Unicode, FindsTheFirstInvalidByte) {
  EXPECT_EQ(findInvalidUtf8("a\u00e9\u4e2d\U0001F600"), std::string_view::npos);
  EXPECT_EQ(findInvalidUtf8("ab\xff"), 2u);
  EXPECT_EQ(findInvalidUtf8("a\xc0\x80"), 1u);         // overlong
  EXPECT_EQ(findInvalidUtf8("\xed\xa0\x80"), 0u);      // a surrogate
  EXPECT_EQ(findInvalidUtf8("x\xf4\x90\x80\x80"), 1u); // beyond U+10FFFF
  EXPECT_EQ(findInvalidUtf8("xy\xe4\xb8"), 2u);        // cut short
}

TEST(Unicode, NamesTheOffsetOfAnInvalidByte) {
  Status status = validateUtf8("abc\xfe", "text");
  EXPECT_EQ(status.message(),
            "text: byte offset 3: expected valid UTF-8, found byte 0xfe");
}

TEST(Unicode, ReplacesMaximalSubparts) {
  EXPECT_EQ(toValidUtf8("a\xe4\xb8z"), "a\uFFFDz");
  EXPECT_EQ(toValidUtf8("\xf0\x9f\x98"), "\uFFFD");
  EXPECT_EQ(toValidUtf8("\xc0\x80"), "\uFFFD\uFFFD");
  EXPECT_EQ(toValidUtf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");
}

TEST(Unicode, Normalizes) {
  EXPECT_EQ(*normalize("e\u0301", NormalForm::NFC), "\u00e9");
  EXPECT_EQ(*normalize("\u00e9", NormalForm::NFD), "e\u0301");
  EXPECT_EQ(*normalize("\ufb01", NormalForm::NFC), "\ufb01");
  EXPECT_EQ(*normalize("\ufb01", NormalForm::NFKC), "fi");
  EXPECT_EQ(*normalize("\u1112\u1161\u11ab", NormalForm::NFC), "\ud55c");
  EXPECT_EQ(*normalize("\u212b", NormalForm::NFKD), "A\u030a");
}

TEST(Unicode, OrdersCombiningMarksInLinearTime) {
  // Above (230) and below (220) in turn, the worst case for sorting by swaps.
  std::string text = "a", below, above;
  for (int i = 0; i < 200'000; ++i) {
    text += "\u0301\u0323";
    below += "\u0323";
    above += "\u0301";
  }
  EXPECT_EQ(*normalize(text, NormalForm::NFD), "a" + below + above);
}

TEST(Unicode, MapsBytesToCharactersAndBack) {
  for (unsigned b = 0; b < 256; ++b)
    EXPECT_EQ(characterToByte(byteToCharacter(static_cast<uint8_t>(b))),
              static_cast<int>(b));
  EXPECT_EQ(byteToCharacter(' '), U'\u0120');
  EXPECT_EQ(characterToByte(U'\u4e2d'), -1);
}
