//===- Sequence.cpp - Tokens and their caches -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Sequence.h"

#include "runtime/loader/Semantics.h"

#include <atomic>
#include <string>

namespace retort {
namespace {

Status invalidArgument(std::string message) {
  return Status::error(Code::InvalidArgument, std::move(message));
}

std::atomic<uint64_t> sequencesMade{0};

} // namespace

Result<Sequence> Sequence::create(const Model &model, uint32_t limit) {
  Sequence made;
  // Kernels may have the layout of the full context compiled in, so the caches
  // are reserved for it; positions beyond the limit are never touched.
  for (const abi::Buffer *buffer : *model.program().buffers()) {
    made.caches.emplace_back();
    if (buffer->kind() != abi::BufferKind::Cache)
      continue;
    uint64_t bytes = *bufferBytes(*buffer, model.info().max_chunk(),
                                  model.info().max_context());
    auto pages = Pages::allocate(bytes);
    if (!pages.isOk())
      return pages.takeStatus().withContext("buffer '" + buffer->name()->str() +
                                            "'");
    made.caches.back() = std::move(*pages);
  }
  made.history.reserve(limit);
  made.number = ++sequencesMade;
  made.limit = limit;
  made.vocab = model.info().vocab_size();
  return made;
}

Status Sequence::check(std::span<const int32_t> tokens) const {
  if (tokens.empty())
    return invalidArgument("expected at least one token to feed, found none");
  if (tokens.size() > limit - position())
    return invalidArgument("the context of " + std::to_string(limit) +
                           " positions holds " + std::to_string(position()) +
                           " tokens, " + std::to_string(tokens.size()) +
                           " more don't fit");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocab)
      return invalidArgument(
          "token " + std::to_string(i) + ": id " + std::to_string(tokens[i]) +
          " is not in the vocabulary of " + std::to_string(vocab));
  return Status::ok();
}

Status Sequence::rewind(uint32_t to) {
  if (to > position())
    return invalidArgument("cannot rewind to position " + std::to_string(to) +
                           ": the context holds " + std::to_string(position()) +
                           " tokens");
  history.resize(to);
  return Status::ok();
}

} // namespace retort
