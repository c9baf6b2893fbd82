//===- Session.cpp - A context that tokens are fed to -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Session.h"

#include "runtime/loader/Semantics.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace retort {

namespace {

Status invalidArgument(std::string message) {
  return Status::error(Code::InvalidArgument, std::move(message));
}

} // namespace

Session::~Session() = default;

Result<std::unique_ptr<Session>>
Session::create(std::shared_ptr<const Model> model,
                const SessionOptions &options) {
  std::unique_ptr<Session> session(new Session(options));
  RETORT_ASSIGN_OR_RETURN(session->chunk,
                          chunkFor(model->index(), options.prefillChunk));
  if (options.draft && !hasDraft(model->program()))
    return Status::error(Code::Unsupported,
                         "the model has no multi-token-prediction layer to "
                         "draft with");
  RETORT_ASSIGN_OR_RETURN(
      session->executor,
      Executor::create(model, {options.threads, options.pin, options.ledger,
                               options.observer}));
  RETORT_ASSIGN_OR_RETURN(session->limit,
                          contextFor(model->index(), options.context,
                                     session->executor->threads(), 1));
  RETORT_ASSIGN_OR_RETURN(session->sequence,
                          Sequence::create(*model, session->limit));
  return session;
}

Status Session::runSteps(std::span<const PhaseStep> steps) {
  Status ran = executor->run(steps);
  if (ran.code() != Code::Cancelled)
    return ran;
  return Status::error(Code::Cancelled, "cancelled after " +
                                            std::to_string(position()) +
                                            " tokens of context");
}

Status Session::runHead(int64_t row, int64_t count) {
  Lane lane = laneAt(position() + row);
  PhaseStep head{abi::PhaseKind::Head, count, row, {&lane, 1}};
  return runSteps({&head, 1});
}

Status Session::runBody(std::span<const int32_t> tokens, int64_t headRow,
                        int64_t headCount) {
  if (undrafted > 0)
    RETORT_RETURN_IF_ERROR(runDraftBody(tokens.front()));
  executor->setTokens(tokens);
  Lane body = laneAt(position()), head = laneAt(position() + headRow);
  PhaseStep steps[] = {
      {abi::PhaseKind::Body, std::ssize(tokens), 0, {&body, 1}},
      {abi::PhaseKind::Head, headCount, headRow, {&head, 1}}};
  return runSteps(std::span(steps).first(headCount > 0 ? 2 : 1));
}

Status Session::runDraftBody(int32_t next) {
  int64_t n = static_cast<int64_t>(undrafted);
  std::span<const int32_t> seen = tokens().last(n - 1);
  std::vector<int32_t> following(seen.begin(), seen.end());
  following.push_back(next);
  executor->setTokens(following);
  Lane lane = laneAt(position() - n);
  PhaseStep body{abi::PhaseKind::DraftBody, n, 0, {&lane, 1}};
  RETORT_RETURN_IF_ERROR(runSteps({&body, 1}));
  undrafted = 0;
  return Status::ok();
}

void Session::keepLogits(int64_t row) {
  const abi::Program &program = model().program();
  float *rows = executor->rows(program.logits_buffer());
  if (row > 0)
    std::memmove(rows, rows + row * program.logits_stride(),
                 model().info().vocab_size() * sizeof(float));
}

void Session::append(std::span<const int32_t> tokens) {
  sequence->append(tokens);
  if (options.draft)
    undrafted += tokens.size();
}

/// Feeds one chunk. `first` is the index of its first token in the feed.
Status Session::feedChunk(std::span<const int32_t> tokens, uint64_t first,
                          bool last, const LogitsSink &sink) {
  const abi::Program &program = model().program();
  int64_t n = static_cast<int64_t>(tokens.size());
  RETORT_RETURN_IF_ERROR(runBody(tokens, n - 1, last && !sink ? 1 : 0));
  if (!sink) {
    append(tokens);
    return Status::ok();
  }
  for (int64_t row = 0; row < n;) {
    int64_t count = std::min<int64_t>(n - row, executor->headTokens());
    RETORT_RETURN_IF_ERROR(runHead(row, count));
    RETORT_RETURN_IF_ERROR(sink(first + row, count,
                                executor->rows(program.logits_buffer()),
                                program.logits_stride()));
    row += count;
    // logits() is the first row, wherever the last token's came out.
    if (row == n)
      keepLogits(count - 1);
  }
  append(tokens);
  return Status::ok();
}

Status Session::feed(std::span<const int32_t> tokens, const LogitsSink &sink) {
  RETORT_RETURN_IF_ERROR(sequence->check(tokens));
  hasLogits = false;
  for (size_t done = 0; done < tokens.size();) {
    auto part =
        tokens.subspan(done, std::min<size_t>(chunk, tokens.size() - done));
    done += part.size();
    Status fed =
        feedChunk(part, done - part.size(), done == tokens.size(), sink);
    if (!fed.isOk()) {
      if (fed.code() == Code::Cancelled)
        clearCancel();
      return fed;
    }
  }
  hasLogits = true;
  return Status::ok();
}

Status Session::speculate(std::span<const int32_t> tokens,
                          const SpeculationJudge &judge) {
  RETORT_RETURN_IF_ERROR(sequence->check(tokens));
  size_t most =
      std::min<size_t>({kMaxSpeculation, chunk, executor->headTokens()});
  if (tokens.size() > most)
    return invalidArgument("expected at most " + std::to_string(most) +
                           " tokens to speculate with, found " +
                           std::to_string(tokens.size()));
  const abi::Program &program = model().program();
  int64_t n = static_cast<int64_t>(tokens.size());
  hasLogits = false;
  RETORT_RETURN_IF_ERROR(runBody(tokens, 0, n));
  const float *rows = executor->rows(program.logits_buffer());
  int64_t row = 0;
  while (true) {
    append(tokens.subspan(row, 1));
    RETORT_ASSIGN_OR_RETURN(bool wanted,
                            judge(row, {rows + row * program.logits_stride(),
                                        model().info().vocab_size()}));
    if (!wanted || row + 1 == n)
      break;
    ++row;
  }
  keepLogits(row);
  hasLogits = true;
  return Status::ok();
}

Result<std::span<const float>> Session::draft(int32_t next) {
  if (!options.draft)
    return invalidArgument("expected a session with drafts");
  if (next < 0 || next >= int64_t(model().info().vocab_size()))
    return invalidArgument("id " + std::to_string(next) +
                           " is not in the vocabulary of " +
                           std::to_string(model().info().vocab_size()));
  if (undrafted == 0)
    return std::span<const float>();
  int64_t row = static_cast<int64_t>(undrafted) - 1;
  RETORT_RETURN_IF_ERROR(runDraftBody(next));
  Lane lane = laneAt(position() - 1);
  PhaseStep head{abi::PhaseKind::DraftHead, 1, row, {&lane, 1}};
  RETORT_RETURN_IF_ERROR(runSteps({&head, 1}));
  const abi::Program &program = model().program();
  return std::span<const float>(executor->rows(program.draft_logits_buffer()),
                                model().info().vocab_size());
}

std::span<const float> Session::logits() const {
  if (!hasLogits)
    return {};
  return {executor->rows(model().program().logits_buffer()),
          model().info().vocab_size()};
}

Status Session::rewind(uint32_t to) {
  uint32_t from = position();
  RETORT_RETURN_IF_ERROR(sequence->rewind(to));
  if (to < from) {
    undrafted -= std::min<uint64_t>(undrafted, from - to);
    hasLogits = false;
  }
  return Status::ok();
}

Status Session::repeatContext(uint32_t to) {
  RETORT_RETURN_IF_ERROR(sequence->repeat(to));
  undrafted = 0;
  return Status::ok();
}

} // namespace retort
