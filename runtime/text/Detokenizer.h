//===- Detokenizer.h - Ids to text, as they come ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Decoding one token at a time. A character's bytes may be spread over
/// several tokens; they are held back until it is complete.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_DETOKENIZER_H
#define RETORT_RUNTIME_TEXT_DETOKENIZER_H

#include "runtime/text/Tokenizer.h"

namespace retort::text {

/// The concatenation of what push() and finish() return is what
/// Tokenizer::decode() makes of all ids, and each part is valid UTF-8.
class Detokenizer {
public:
  /// `tokenizer` must outlive the object.
  Detokenizer(const Tokenizer &tokenizer, bool skipSpecial)
      : tokenizer(&tokenizer), skipSpecial(skipSpecial) {}

  /// The text that has become complete with `id`; often empty.
  std::string push(int32_t id);
  /// What is left: U+FFFD if a character was begun, else nothing. Afterwards
  /// the object is as new.
  std::string finish();

private:
  const Tokenizer *tokenizer;
  bool skipSpecial;
  std::string pending; ///< the start of a character, at most 3 bytes
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_DETOKENIZER_H
