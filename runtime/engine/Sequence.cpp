//===- Sequence.cpp - Tokens and their caches -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Sequence.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Semantics.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <atomic>
#include <cstring>
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
    made.perPosition.push_back(buffer->bytes_per_position());
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

Status Sequence::repeat(uint32_t to) {
  uint64_t have = position();
  if (have == 0 || have % abi::kPositionPadding || to < have || to > limit)
    return invalidArgument(
        "cannot repeat a context of " + std::to_string(have) +
        " tokens up to " + std::to_string(to) + ": expected a multiple of " +
        std::to_string(abi::kPositionPadding) + " tokens and from as many to " +
        std::to_string(limit));
  for (size_t i = 0; i < caches.size(); ++i) {
    std::byte *data = caches[i].data();
    if (!data)
      continue;
    // Whole padded pieces: positions of a block share lines.
    uint64_t end = roundUp<uint64_t>(to, abi::kPositionPadding);
    for (uint64_t at = have; at < end; at += have)
      std::memcpy(data + at * perPosition[i], data,
                  std::min(have, end - at) * perPosition[i]);
  }
  for (size_t i = 0; history.size() < to; ++i)
    history.push_back(history[i]);
  return Status::ok();
}

} // namespace retort
