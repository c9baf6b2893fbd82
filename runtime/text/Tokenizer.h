//===- Tokenizer.h - tokenizer.json, interpreted ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Text to token ids and back, as the `tokenizer.json` of a checkpoint says.
/// The file's own components are interpreted; there is no list of known
/// models. What is understood:
///
/// | part            | types                                                |
/// |-----------------|------------------------------------------------------|
/// | `normalizer`    | null, NFC, NFD, NFKC, NFKD, Sequence                 |
/// | `pre_tokenizer` | Sequence, Split, Digits, and ByteLevel as last step  |
/// | `model`         | BPE, without dropout and affixes                     |
/// | `post_processor`| null, ByteLevel, TemplateProcessing, Sequence        |
/// | `decoder`       | ByteLevel, Fuse, Sequence of these                   |
///
/// Anything else is an error naming it. `truncation` and `padding` belong to
/// training and are not applied.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TOKENIZER_H
#define RETORT_RUNTIME_TEXT_TOKENIZER_H

#include "runtime/text/AddedTokens.h"
#include "runtime/text/PreTokenizer.h"
#include "runtime/text/TokenizerDocument.h"
#include "runtime/text/Unicode.h"

#include <span>
#include <unordered_map>

namespace retort::text {

/// Immutable once built, so that any number of threads can use it.
class Tokenizer {
public:
  /// Reads the bytes of a `tokenizer.json`. They are not needed afterwards.
  static Result<Tokenizer> create(std::string_view json);
  static Result<Tokenizer> create(TokenizerDocument document);

  /// The ids of `text`. Added tokens are found in it. `addSpecial` applies the
  /// post-processor, which may put special tokens around the text. Text that
  /// is not valid UTF-8 is an error naming the byte offset.
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      bool addSpecial) const;

  /// The text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids that are
  /// no tokens yield nothing: the output layer of a model may be larger than
  /// its vocabulary. `skipSpecial` leaves special tokens out.
  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const;

  /// Appends the bytes that one token stands for. They need not be UTF-8.
  void appendBytes(int32_t id, bool skipSpecial, std::string &bytes) const;

  /// The id of a token's content, or -1.
  int32_t tokenToId(std::string_view content) const;
  /// A token's content as the file spells it; nullopt for other ids.
  std::optional<std::string_view> idToToken(int32_t id) const;
  /// One more than the largest id.
  size_t vocabSize() const { return idLimit; }
  /// True for added tokens that are marked special.
  bool isSpecial(int32_t id) const;

private:
  friend class TokenizerLoader;
  Tokenizer() = default;

  /// A part of a TemplateProcessing: fixed ids, or the ids made so far.
  struct TemplatePart {
    bool isSequence = false;
    std::vector<int32_t> ids;
  };

  Result<std::string> normalizeText(std::string_view text) const;
  Status encodeSegment(std::string_view text, PreTokenizer::Pieces &pieces,
                       std::vector<int32_t> &ids) const;

  std::vector<NormalForm> normalizers;
  PreTokenizer preTokenizer;
  std::optional<Bpe> bpe;
  std::vector<std::vector<TemplatePart>> templates;
  std::vector<AddedToken> added;
  std::unordered_map<int32_t, size_t> addedById; ///< index in `added`
  std::unordered_map<std::string, int32_t> addedByContent;
  AddedTokenMatcher rawMatcher, normalizedMatcher;
  size_t idLimit = 0;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_TOKENIZER_H
