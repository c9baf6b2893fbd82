//===- Sha256Test.cpp - SHA-256 against published digests -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/Sha256.h"

#include <gtest/gtest.h>

#include <string_view>

namespace retort {
namespace {

std::string hexOf(std::string_view text) {
  return formatHex(sha256(std::as_bytes(std::span(text))));
}

// FIPS 180-4's examples, and the empty message.
TEST(Sha256Test, GivesThePublishedDigests) {
  EXPECT_EQ(hexOf(""), "e3b0c44298fc1c149afbf4c8996fb924"
                       "27ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hexOf("abc"), "ba7816bf8f01cfea414140de5dae2223"
                          "b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hexOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039"
            "a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hexOf(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67"
            "f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesMakeNoDifference) {
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += static_cast<char>(i * 7);
  auto bytes = std::as_bytes(std::span(text));
  for (size_t size = 0; size <= text.size(); ++size) {
    Sha256 hash;
    for (size_t at = 0; at < size; at += 13)
      hash.add(bytes.subspan(at, std::min<size_t>(13, size - at)));
    ASSERT_EQ(hash.finish(), sha256(bytes.first(size))) << size;
  }
}

TEST(Sha256Test, EveryByteCounts) {
  std::string text(200, 'x');
  std::string digest = hexOf(text);
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = 'y';
    EXPECT_NE(hexOf(text), digest) << i;
    text[i] = 'x';
  }
  EXPECT_NE(hexOf(text + 'x'), digest);
}

} // namespace
} // namespace retort
