//===- AddedTokens.h - Tokens found before all else -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The `added_tokens` of a tokenizer. They are cut out of the text before it
/// is split into words: those that are not `normalized` from the raw text, the
/// others from what the normalizer made of the rest.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_ADDEDTOKENS_H
#define RETORT_RUNTIME_TEXT_ADDEDTOKENS_H

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;    ///< can be skipped in decoding
  bool normalized = false; ///< matched after normalization
  bool singleWord = false; ///< matched only between non-word characters
  bool stripLeft = false;  ///< takes the white space before it along
  bool stripRight = false; ///< takes the white space behind it along
};

/// A stretch of text between added tokens (`id` < 0), or one of them.
struct Segment {
  std::string_view text;
  int32_t id = -1;
};

/// Finds a set of added tokens in text: leftmost first, then longest.
class AddedTokenMatcher {
public:
  /// Adds a token to be found as `pattern`; the first of two tokens with the
  /// same pattern wins. An empty pattern is never found.
  void add(const AddedToken &token, std::string_view pattern);

  /// Splits valid UTF-8 into segments that cover it in order.
  void split(std::string_view text, std::vector<Segment> &segments) const;

private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;
    int32_t token = -1; ///< index in `tokens`
  };
  struct Match {
    size_t length = 0;
    int32_t token = -1;
  };
  Match longestAt(std::string_view text, size_t pos) const;

  std::vector<AddedToken> tokens;
  std::vector<Node> nodes{1};
  std::array<bool, 256> firstBytes{};
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_ADDEDTOKENS_H
