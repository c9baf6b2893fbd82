//===- Tokenizer.cpp - Encoding and decoding ------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Tokenizer.h"

namespace retort::text {

Result<std::string> Tokenizer::normalizeText(std::string_view text) const {
  std::string out(text);
  for (NormalForm form : normalizers) {
    RETORT_ASSIGN_OR_RETURN(out, normalize(out, form));
  }
  return out;
}

Status Tokenizer::encodeSegment(std::string_view text,
                                PreTokenizer::Pieces &pieces,
                                std::vector<int32_t> &ids) const {
  RETORT_RETURN_IF_ERROR(preTokenizer.split(text, pieces));
  for (std::string_view piece : pieces.views)
    bpe->encode(piece, ids);
  return Status::ok();
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               bool addSpecial) const {
  RETORT_RETURN_IF_ERROR(validateUtf8(text, "text"));
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  PreTokenizer::Pieces pieces;
  std::vector<Segment> outer, inner;
  rawMatcher.split(text, outer);
  for (const Segment &segment : outer) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    std::string normalized;
    std::string_view view = segment.text;
    if (!normalizers.empty()) {
      RETORT_ASSIGN_OR_RETURN(normalized, normalizeText(view));
      view = normalized;
    }
    inner.clear();
    normalizedMatcher.split(view, inner);
    for (const Segment &part : inner) {
      if (part.id >= 0)
        ids.push_back(part.id);
      else
        RETORT_RETURN_IF_ERROR(encodeSegment(part.text, pieces, ids));
    }
  }
  if (!addSpecial)
    return ids;
  for (const std::vector<TemplatePart> &parts : templates) {
    std::vector<int32_t> wrapped;
    wrapped.reserve(ids.size() + parts.size());
    for (const TemplatePart &part : parts) {
      const std::vector<int32_t> &source = part.isSequence ? ids : part.ids;
      wrapped.insert(wrapped.end(), source.begin(), source.end());
    }
    ids = std::move(wrapped);
  }
  return ids;
}

void Tokenizer::appendBytes(int32_t id, bool skipSpecial,
                            std::string &bytes) const {
  if (skipSpecial && isSpecial(id))
    return;
  std::optional<std::string_view> token = idToToken(id);
  if (!token)
    return;
  // A token with a character outside the byte alphabet, as added tokens may
  // have, stands for its own UTF-8.
  size_t begin = bytes.size();
  for (size_t pos = 0; pos < token->size();) {
    int byte = characterToByte(decodeUtf8(*token, pos));
    if (byte < 0) {
      bytes.resize(begin);
      bytes += *token;
      return;
    }
    bytes += static_cast<char>(byte);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids,
                              bool skipSpecial) const {
  std::string bytes;
  for (int32_t id : ids)
    appendBytes(id, skipSpecial, bytes);
  return toValidUtf8(bytes);
}

int32_t Tokenizer::tokenToId(std::string_view content) const {
  if (auto it = addedByContent.find(std::string(content));
      it != addedByContent.end())
    return it->second;
  return bpe->vocabulary().find(content);
}

std::optional<std::string_view> Tokenizer::idToToken(int32_t id) const {
  if (auto it = addedById.find(id); it != addedById.end())
    return added[it->second].content;
  if (bpe->vocabulary().contains(id))
    return bpe->vocabulary().token(id);
  return std::nullopt;
}

bool Tokenizer::isSpecial(int32_t id) const {
  auto it = addedById.find(id);
  return it != addedById.end() && added[it->second].special;
}

} // namespace retort::text
