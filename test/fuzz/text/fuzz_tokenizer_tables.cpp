//===- fuzz_tokenizer_tables.cpp - Any bytes as data/tokenizer ------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/abi/tokenizer_generated.h"
#include "runtime/text/Detokenizer.h"
#include "runtime/text/TokenizerTables.h"
#include "test/unit/text/TestTokenizers.h"

#include <cstdint>

using namespace retort;
using namespace retort::text;

namespace {

/// Encodes and decodes with whatever tokenizer the bytes make.
void use(const std::string &bytes) {
  auto document = readTokenizerTables(bytes);
  if (!document)
    return;
  auto tokenizer = Tokenizer::create(std::move(*document));
  if (!tokenizer)
    return;
  auto ids = tokenizer->encode("abc ab<s> 12 \u4e2d", true);
  if (!ids)
    return;
  Detokenizer stream(*tokenizer, false);
  std::string streamed;
  for (int32_t id : *ids)
    streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != tokenizer->decode(*ids, false))
    __builtin_trap();
}

} // namespace

/// With a first byte below 128 the rest are the tables. Else it changes the
/// tables of a small tokenizer, four bytes a change: which field, where, and
/// what is added, so that the checks behind the verifier are reached.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  if (data[0] < 128) {
    use(std::string(reinterpret_cast<const char *>(data) + 1, size - 1));
    return 0;
  }
  static const std::string whole = *compileTokenizer(smallTokenizer().dump());
  retort::abi::TokenizerTablesT content;
  retort::abi::GetTokenizerTables(whole.data())->UnPackTo(&content);
  for (size_t i = 1; i + 4 <= size; i += 4) {
    size_t where = data[i + 1] | size_t(data[i + 2]) << 8;
    uint32_t by = data[i + 3];
    retort::abi::TokenMerge &merge =
        content.merges[where % content.merges.size()];
    switch (data[i] % 6) {
    case 0:
      content.token_lengths[where % content.token_lengths.size()] += by - 128;
      break;
    case 1:
      content.token_bytes[where % content.token_bytes.size()] =
          static_cast<char>(by);
      break;
    case 2:
      content.document[where % content.document.size()] = static_cast<char>(by);
      break;
    default:
      uint32_t ids[] = {merge.left(), merge.right(), merge.result()};
      ids[data[i] % 6 - 3] += by - 128;
      merge = retort::abi::TokenMerge(ids[0], ids[1], ids[2]);
      break;
    }
  }
  flatbuffers::FlatBufferBuilder builder;
  retort::abi::FinishTokenizerTablesBuffer(
      builder, retort::abi::CreateTokenizerTables(builder, &content));
  use({reinterpret_cast<const char *>(builder.GetBufferPointer()),
       builder.GetSize()});
  return 0;
}
