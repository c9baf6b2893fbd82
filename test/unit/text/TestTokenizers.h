//===- TestTokenizers.h - Small tokenizers for tests ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A byte-level tokenizer small enough to read, as JSON that tests change.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_TEXT_TESTTOKENIZERS_H
#define RETORT_TEST_UNIT_TEXT_TESTTOKENIZERS_H

#include "runtime/text/Tokenizer.h"

#include <gtest/gtest.h>

namespace retort::text {

/// All 256 byte characters have the ids of their bytes; "ab" is 256, "abc"
/// 257, "Ġa" (a space and an a) 258; "<s>" 260 is special, "<t>" 261 is not.
inline Json smallTokenizer() {
  Json vocab = Json::object();
  for (unsigned b = 0; b < 256; ++b) {
    std::string character;
    appendUtf8(character, byteToCharacter(static_cast<uint8_t>(b)));
    vocab[character] = b;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  vocab["\u0120a"] = 258;
  auto added = [](int id, const char *content, bool special) {
    return Json{{"id", id},
                {"content", content},
                {"special", special},
                {"normalized", false},
                {"lstrip", false},
                {"rstrip", false},
                {"single_word", false}};
  };
  Json byteLevel = {{"type", "ByteLevel"},
                    {"add_prefix_space", false},
                    {"trim_offsets", true},
                    {"use_regex", false}};
  return Json{{"version", "1.0"},
              {"added_tokens", Json::array({added(260, "<s>", true),
                                            added(261, "<t>", false)})},
              {"normalizer", nullptr},
              {"pre_tokenizer", byteLevel},
              {"post_processor", nullptr},
              {"decoder", byteLevel},
              {"model",
               {{"type", "BPE"},
                {"vocab", vocab},
                {"merges", Json::array({"a b", "ab c", "\u0120 a"})}}}};
}

inline Tokenizer load(const Json &json) {
  auto tokenizer = Tokenizer::create(json.dump());
  if (!tokenizer)
    throw std::runtime_error(tokenizer.status().message());
  return std::move(*tokenizer);
}

inline std::vector<int32_t> encode(const Json &json, std::string_view text,
                                   bool addSpecial = false) {
  auto ids = load(json).encode(text, addSpecial);
  if (!ids)
    throw std::runtime_error(ids.status().message());
  return *ids;
}

} // namespace retort::text

#endif // RETORT_TEST_UNIT_TEXT_TESTTOKENIZERS_H
