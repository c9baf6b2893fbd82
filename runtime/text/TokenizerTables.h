//===- TokenizerTables.h - A tokenizer as artifacts hold it -----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Writing and reading the section `data/tokenizer`, whose schema is
/// runtime/abi/tokenizer.fbs.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TOKENIZERTABLES_H
#define RETORT_RUNTIME_TEXT_TOKENIZERTABLES_H

#include "runtime/text/TokenizerDocument.h"

#include <string>
#include <string_view>

namespace retort::text {

/// No tokenizer has more merges, which bounds the table of a lying file.
constexpr size_t kMaxMerges = 1 << 24;

/// The bytes of the section. Unsupported if they would not be read back: more
/// than kMaxMerges merges.
Result<std::string> writeTokenizerTables(const TokenizerDocument &document);

/// The tables of a `tokenizer.json`.
Result<std::string> compileTokenizer(std::string_view json);

/// Reads what writeTokenizerTables() wrote, or anything else: every field is
/// checked. The bytes must begin on an 8-byte boundary, as what is allocated
/// does, and are not needed afterwards.
Result<TokenizerDocument> readTokenizerTables(std::string_view bytes);

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_TOKENIZERTABLES_H
