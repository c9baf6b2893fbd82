//===- TokenizerTables.cpp - A tokenizer as artifacts hold it -------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TokenizerTables.h"

#include "runtime/abi/tokenizer_generated.h"
#include "runtime/text/Unicode.h"

namespace retort::text {
namespace {

constexpr uint32_t kNoToken = UINT32_MAX;

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

Result<Vocabulary> readVocabulary(const abi::TokenizerTables &tables) {
  const auto &lengths = *tables.token_lengths();
  std::string_view bytes = tables.token_bytes()->string_view();
  if (lengths.size() > kMaxTokenId)
    return invalid("token_lengths: expected at most " +
                   std::to_string(kMaxTokenId) + " ids, found " +
                   std::to_string(lengths.size()));
  if (size_t bad = findInvalidUtf8(bytes); bad != std::string_view::npos)
    return invalid("token_bytes: byte offset " + std::to_string(bad) +
                   ": expected valid UTF-8");
  Vocabulary vocabulary;
  vocabulary.reserve(lengths.size(), bytes.size());
  size_t offset = 0;
  for (uint32_t id = 0; id < lengths.size(); ++id) {
    uint32_t length = lengths[id];
    if (length == kNoToken)
      continue;
    if (length > bytes.size() - offset)
      return invalid("token_lengths: token " + std::to_string(id) + " of " +
                     std::to_string(length) + " bytes at byte offset " +
                     std::to_string(offset) + " goes past the end of " +
                     std::to_string(bytes.size()) + " bytes");
    std::string_view token = bytes.substr(offset, length);
    // All bytes together are UTF-8, so each token is if none begins within a
    // character.
    if (!token.empty() && (static_cast<uint8_t>(token[0]) & 0xC0) == 0x80)
      return invalid("token_lengths: token " + std::to_string(id) +
                     " at byte offset " + std::to_string(offset) +
                     ": expected valid UTF-8");
    RETORT_RETURN_IF_ERROR(vocabulary.add(token, id));
    offset += length;
  }
  if (offset != bytes.size())
    return invalid("token_bytes: expected " + std::to_string(offset) +
                   " bytes, the sum of all lengths, found " +
                   std::to_string(bytes.size()));
  RETORT_RETURN_IF_ERROR(vocabulary.finish());
  return vocabulary;
}

Result<std::vector<Merge>> readMerges(const abi::TokenizerTables &tables,
                                      const Vocabulary &vocabulary) {
  const auto &stored = *tables.merges();
  if (stored.size() > kMaxMerges)
    return invalid("merges: expected at most " + std::to_string(kMaxMerges) +
                   ", found " + std::to_string(stored.size()));
  std::vector<Merge> merges;
  merges.reserve(stored.size());
  for (const abi::TokenMerge *merge : stored) {
    for (uint32_t id : {merge->left(), merge->right(), merge->result()})
      if (!vocabulary.contains(id))
        return invalid("merges[" + std::to_string(merges.size()) + "]: id " +
                       std::to_string(id) + " is not in the vocabulary");
    merges.push_back({static_cast<int32_t>(merge->left()),
                      static_cast<int32_t>(merge->right()),
                      static_cast<int32_t>(merge->result())});
  }
  return merges;
}

} // namespace

Result<std::string> writeTokenizerTables(const TokenizerDocument &document) {
  if (document.merges.size() > kMaxMerges)
    return Status::error(Code::Unsupported,
                         "model.merges: expected at most " +
                             std::to_string(kMaxMerges) + ", found " +
                             std::to_string(document.merges.size()));
  const Vocabulary &vocabulary = document.vocabulary;
  std::vector<uint32_t> lengths;
  std::string bytes;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    auto id = static_cast<int32_t>(i);
    if (!vocabulary.contains(id)) {
      lengths.push_back(kNoToken);
      continue;
    }
    std::string_view token = vocabulary.token(id);
    lengths.push_back(static_cast<uint32_t>(token.size()));
    bytes += token;
  }
  std::vector<abi::TokenMerge> merges;
  merges.reserve(document.merges.size());
  for (const Merge &merge : document.merges)
    merges.emplace_back(static_cast<uint32_t>(merge.left),
                        static_cast<uint32_t>(merge.right),
                        static_cast<uint32_t>(merge.result));
  flatbuffers::FlatBufferBuilder builder;
  auto text = builder.CreateString(document.root.dump());
  auto storedLengths = builder.CreateVector(lengths);
  auto storedBytes = builder.CreateString(bytes);
  auto storedMerges = builder.CreateVectorOfStructs(merges);
  abi::FinishTokenizerTablesBuffer(
      builder, abi::CreateTokenizerTables(builder, text, storedLengths,
                                          storedBytes, storedMerges));
  return std::string(reinterpret_cast<const char *>(builder.GetBufferPointer()),
                     builder.GetSize());
}

Result<std::string> compileTokenizer(std::string_view json) {
  RETORT_ASSIGN_OR_RETURN(TokenizerDocument document, parseTokenizerJson(json));
  return writeTokenizerTables(document);
}

Result<TokenizerDocument> readTokenizerTables(std::string_view bytes) {
  const auto *begin = reinterpret_cast<const uint8_t *>(bytes.data());
  flatbuffers::Verifier verifier(begin, bytes.size());
  if (!abi::VerifyTokenizerTablesBuffer(verifier))
    return invalid("not a well-formed flatbuffer of the tokenizer schema");
  const abi::TokenizerTables &tables = *abi::GetTokenizerTables(begin);
  auto root = parseJson(tables.document()->string_view());
  if (!root)
    return root.takeStatus().withContext("document");
  TokenizerDocument document;
  document.root = std::move(*root);
  RETORT_ASSIGN_OR_RETURN(document.vocabulary, readVocabulary(tables));
  RETORT_ASSIGN_OR_RETURN(document.merges,
                          readMerges(tables, document.vocabulary));
  return document;
}

} // namespace retort::text
