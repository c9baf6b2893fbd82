//===- TokenizerDocument.h - tokenizer.json in parts ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What a `tokenizer.json` says, not interpreted yet: its vocabulary and
/// merges, which are most of it, as tables, and the rest as JSON. It comes from
/// the file or, quicker, from the tables that the compiler made
/// of it (TokenizerTables.h).
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TOKENIZERDOCUMENT_H
#define RETORT_RUNTIME_TEXT_TOKENIZERDOCUMENT_H

#include "runtime/text/Bpe.h"
#include "runtime/text/JsonReader.h"

namespace retort::text {

struct TokenizerDocument {
  Json root; ///< `model.vocab` and `model.merges` are empty
  Vocabulary vocabulary;
  std::vector<Merge> merges; ///< by rank
};

/// Reads the bytes of a `tokenizer.json`. They are not needed afterwards. Fails
/// when two tokens share an id or two ids a token, and when a merge's tokens or
/// result are not in the vocabulary.
Result<TokenizerDocument> parseTokenizerJson(std::string_view json);

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_TOKENIZERDOCUMENT_H
