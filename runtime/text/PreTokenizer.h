//===- PreTokenizer.h - Text to pieces --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The `pre_tokenizer` of a tokenizer: cuts text into the pieces that BPE
/// works on. The steps run one after the other, each on every piece of the one
/// before. The last is always ByteLevel, whose mapping of bytes to characters
/// Bpe performs.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_PRETOKENIZER_H
#define RETORT_RUNTIME_TEXT_PRETOKENIZER_H

#include "runtime/text/JsonReader.h"
#include "runtime/text/Regex.h"

#include <deque>
#include <optional>

namespace retort::text {

/// What becomes of the matches of a Split, between which the rest is cut.
enum class SplitBehavior {
  Removed,            ///< dropped
  Isolated,           ///< a piece of their own
  MergedWithPrevious, ///< joined to the rest before
  MergedWithNext,     ///< joined to the rest behind
  Contiguous,         ///< a run of adjacent matches is one piece
};

class PreTokenizer {
public:
  /// Reads the value of `pre_tokenizer`; `where` is its path, for messages.
  static Result<PreTokenizer> create(const Json &json, std::string where);

  /// The pieces of a text, as views of it or of `storage`.
  struct Pieces {
    std::vector<std::string_view> views;
    std::deque<std::string> storage;
    std::vector<std::string_view> scratch;
    std::vector<Span> matches;
  };
  /// Splits valid UTF-8 and replaces the contents of `pieces`.
  Status split(std::string_view text, Pieces &pieces) const;

private:
  struct Step {
    enum Kind { Split, Digits, ByteLevel } kind = Split;
    std::optional<Regex> regex;
    SplitBehavior behavior = SplitBehavior::Isolated;
    bool invert = false;
    bool addPrefixSpace = false;
  };

  Status addSteps(const Json &json, const std::string &where, int depth);
  Status addSplit(const FieldReader &fields);
  static Status apply(const Step &step, std::string_view text, Pieces &pieces);

  std::vector<Step> steps;
};

/// The pieces of `text` when it is cut at `matches`; empty ones are left out.
void cut(std::string_view text, const std::vector<Span> &matches,
         SplitBehavior behavior, bool invert,
         std::vector<std::string_view> &pieces);

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_PRETOKENIZER_H
