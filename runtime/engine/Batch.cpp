//===- Batch.cpp - Sequences decoded together -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Batch.h"

#include <algorithm>
#include <string>

namespace retort {

struct Batch::Slot {
  Sequence sequence;
  /// [vocab_size] once there have been any, valid if hasLogits.
  std::vector<float> logits;
  bool hasLogits = false;

  void keepLogits(const float *row, size_t vocab) {
    logits.assign(row, row + vocab);
    hasLogits = true;
  }
};

namespace {

Status invalidArgument(std::string message) {
  return Status::error(Code::InvalidArgument, std::move(message));
}

std::string nameOf(uint32_t sequence) {
  return "sequence " + std::to_string(sequence);
}

} // namespace

Batch::Batch() = default;
Batch::~Batch() = default;

Result<std::unique_ptr<Batch>> Batch::create(std::shared_ptr<const Model> model,
                                             const BatchOptions &options) {
  if (options.sequences < 1 || options.sequences > kMaxSequences)
    return invalidArgument("sequences: expected 1 to " +
                           std::to_string(kMaxSequences) + ", found " +
                           std::to_string(options.sequences));
  std::unique_ptr<Batch> batch(new Batch);
  RETORT_ASSIGN_OR_RETURN(batch->chunk,
                          chunkFor(model->index(), options.prefillChunk));
  RETORT_ASSIGN_OR_RETURN(
      batch->executor,
      Executor::create(model,
                       {options.threads, options.pin, options.ledger, {}}));
  if (options.sequences > 1 && batch->lanes() == 1)
    return Status::error(Code::Unsupported,
                         "the artifact does not say which of its launches read "
                         "positions, as decoding sequences together needs; "
                         "compile the model anew");
  RETORT_ASSIGN_OR_RETURN(batch->limit,
                          contextFor(model->index(), options.context,
                                     batch->threads(), options.sequences));
  for (uint32_t i = 0; i < options.sequences; ++i) {
    RETORT_ASSIGN_OR_RETURN(Sequence sequence,
                            Sequence::create(*model, batch->limit));
    batch->slots.push_back({std::move(sequence), {}, false});
  }
  return batch;
}

Status Batch::check(uint32_t sequence) const {
  if (sequence < sequences())
    return Status::ok();
  return invalidArgument(nameOf(sequence) + ": expected one of " +
                         std::to_string(sequences()) + ", counted from 0");
}

Status Batch::feed(uint32_t sequence, std::span<const int32_t> tokens) {
  RETORT_RETURN_IF_ERROR(check(sequence));
  Slot &slot = slots[sequence];
  Status fits = slot.sequence.check(tokens);
  if (!fits.isOk())
    return std::move(fits).withContext(nameOf(sequence));
  slot.hasLogits = false;
  while (!tokens.empty()) {
    auto part = tokens.first(std::min<size_t>(chunk, tokens.size()));
    tokens = tokens.subspan(part.size());
    executor->setTokens(part);
    int64_t n = std::ssize(part), position = slot.sequence.position();
    Lane body{&slot.sequence, position}, head{&slot.sequence, position + n - 1};
    PhaseStep steps[] = {{abi::PhaseKind::Body, n, 0, {&body, 1}},
                         {abi::PhaseKind::Head, 1, n - 1, {&head, 1}}};
    Status ran = executor->run(std::span(steps).first(tokens.empty() ? 2 : 1));
    if (!ran.isOk())
      return std::move(ran).withContext(
          nameOf(sequence) + ", after " +
          std::to_string(slot.sequence.position()) + " tokens of context");
    slot.sequence.append(part);
  }
  slot.keepLogits(executor->rows(model().program().logits_buffer()),
                  model().info().vocab_size());
  return Status::ok();
}

Status Batch::checkStep(std::span<const BatchToken> tokens) const {
  if (tokens.empty())
    return invalidArgument("expected a token for at least one sequence, found "
                           "none");
  std::vector<bool> named(slots.size());
  for (const BatchToken &token : tokens) {
    RETORT_RETURN_IF_ERROR(check(token.sequence));
    if (named[token.sequence])
      return invalidArgument(nameOf(token.sequence) +
                             ": expected one token in a step, found two");
    named[token.sequence] = true;
    Status fits = slots[token.sequence].sequence.check({&token.id, 1});
    if (!fits.isOk())
      return std::move(fits).withContext(nameOf(token.sequence));
  }
  return Status::ok();
}

Status Batch::stepLanes(std::span<const BatchToken> tokens) {
  std::vector<int32_t> ids;
  std::vector<Lane> lanes;
  for (const BatchToken &token : tokens) {
    Slot &slot = slots[token.sequence];
    slot.hasLogits = false;
    ids.push_back(token.id);
    lanes.push_back({&slot.sequence, slot.sequence.position()});
  }
  executor->setTokens(ids);
  PhaseStep steps[] = {{abi::PhaseKind::Body, std::ssize(ids), 0, lanes},
                       {abi::PhaseKind::Head, std::ssize(ids), 0, lanes}};
  RETORT_RETURN_IF_ERROR(executor->run(steps));
  const abi::Program &program = model().program();
  const float *row = executor->rows(program.logits_buffer());
  for (const BatchToken &token : tokens) {
    Slot &slot = slots[token.sequence];
    slot.sequence.append({&token.id, 1});
    slot.keepLogits(row, model().info().vocab_size());
    row += program.logits_stride();
  }
  return Status::ok();
}

Status Batch::step(std::span<const BatchToken> tokens) {
  RETORT_RETURN_IF_ERROR(checkStep(tokens));
  for (size_t done = 0; done < tokens.size();) {
    size_t n = std::min<size_t>(lanes(), tokens.size() - done);
    Status ran = stepLanes(tokens.subspan(done, n));
    if (!ran.isOk())
      return std::move(ran).withContext("after " + std::to_string(done) +
                                        " of " + std::to_string(tokens.size()) +
                                        " sequences");
    done += n;
  }
  return Status::ok();
}

Status Batch::rewind(uint32_t sequence, uint32_t position) {
  RETORT_RETURN_IF_ERROR(check(sequence));
  Slot &slot = slots[sequence];
  if (position == slot.sequence.position())
    return Status::ok();
  Status rewound = slot.sequence.rewind(position);
  if (!rewound.isOk())
    return std::move(rewound).withContext(nameOf(sequence));
  slot.hasLogits = false;
  return Status::ok();
}

uint32_t Batch::sequences() const {
  return static_cast<uint32_t>(slots.size());
}

std::span<const float> Batch::logits(uint32_t sequence) const {
  const Slot &slot = slots[sequence];
  return slot.hasLogits ? std::span<const float>(slot.logits)
                        : std::span<const float>();
}

std::span<const int32_t> Batch::tokens(uint32_t sequence) const {
  return slots[sequence].sequence.tokens();
}

uint32_t Batch::position(uint32_t sequence) const {
  return slots[sequence].sequence.position();
}

} // namespace retort
