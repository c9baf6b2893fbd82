//===- Ledger.cpp - Time, bytes and flops per launch ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Ledger.h"

#include "runtime/loader/Semantics.h"

#include <limits>

namespace retort {
namespace {

using U128 = unsigned __int128;

/// Counts come from a file and are only reported: an absurd one may saturate.
uint64_t affine(uint64_t fixed, uint64_t perToken, uint64_t tokens,
                uint64_t perPair, uint64_t pairs) {
  U128 sum = U128(fixed) + U128(perToken) * tokens;
  U128 rest = U128(perPair) * pairs;
  constexpr U128 most = std::numeric_limits<uint64_t>::max();
  return sum > most || rest > most - sum ? uint64_t(most)
                                         : uint64_t(sum + rest);
}

void addTo(LedgerEntry &sum, const LedgerEntry &entry) {
  sum.runs += entry.runs;
  sum.nanoseconds += entry.nanoseconds;
  sum.bytes += entry.bytes;
  sum.flops += entry.flops;
}

std::string phaseName(const abi::Phase &phase) {
  std::string name = phaseKindName(phase.kind()) + " ";
  name += std::to_string(phase.min_tokens());
  if (phase.max_tokens() != phase.min_tokens())
    name += "-" + std::to_string(phase.max_tokens());
  return name;
}

} // namespace

uint64_t attentionPairs(uint64_t tokens, uint64_t position) {
  return tokens * position + tokens * (tokens + 1) / 2;
}

LaunchWork launchWork(const abi::Launch &launch, uint64_t tokens,
                      uint64_t position) {
  uint64_t pairs = attentionPairs(tokens, position);
  return {affine(launch.weight_bytes(), launch.bytes_per_token(), tokens,
                 launch.bytes_per_pair(), pairs),
          affine(0, launch.flops_per_token(), tokens, launch.flops_per_pair(),
                 pairs)};
}

const abi::Phase *findPhase(const abi::Program &program, abi::PhaseKind kind,
                            uint64_t tokens) {
  for (const abi::Phase *phase : *program.phases())
    if (phase->kind() == kind && phase->min_tokens() <= tokens &&
        tokens <= phase->max_tokens())
      return phase;
  return nullptr;
}

LaunchWork phaseWork(const abi::Program &program, abi::PhaseKind kind,
                     uint64_t tokens, uint64_t position) {
  LaunchWork sum;
  if (const abi::Phase *phase = findPhase(program, kind, tokens))
    for (const abi::Launch *launch : *phase->launches()) {
      LaunchWork work = launchWork(*launch, tokens, position);
      sum.bytes += work.bytes;
      sum.flops += work.flops;
    }
  return sum;
}

LaunchWork stepWork(const abi::Program &program, uint64_t tokens,
                    uint64_t position) {
  LaunchWork body = phaseWork(program, abi::PhaseKind::Body, tokens, position);
  LaunchWork head = phaseWork(program, abi::PhaseKind::Head, 1, position);
  return {body.bytes + head.bytes, body.flops + head.flops};
}

void Ledger::record(const abi::Program &program, uint32_t phase,
                    uint32_t launch, LaunchWork work, uint64_t nanoseconds) {
  if (rows.empty()) {
    rows.resize(program.phases()->size());
    for (uint32_t i = 0; i < rows.size(); ++i)
      rows[i].resize(program.phases()->Get(i)->launches()->size());
  }
  addTo(rows[phase][launch],
        {phase, launch, 1, nanoseconds, work.bytes, work.flops});
}

std::vector<LedgerEntry> Ledger::entries() const {
  std::vector<LedgerEntry> out;
  for (uint32_t i = 0; i < rows.size(); ++i)
    for (uint32_t j = 0; j < rows[i].size(); ++j)
      if (rows[i][j].runs != 0) {
        out.push_back(rows[i][j]);
        out.back().phase = i;
        out.back().launch = j;
      }
  return out;
}

static bool readsIntegers(const abi::Program &program,
                          const abi::Launch &launch) {
  for (const abi::Arg *arg : *launch.args())
    if (arg->kind() == abi::ArgKind::Weight && program.weights()
                                                   ->Get(arg->index())
                                                   ->encoding()
                                                   ->string_view()
                                                   .starts_with("int"))
      return true;
  return false;
}

std::vector<LedgerLine> summarize(const Ledger &ledger,
                                  const abi::Program &program) {
  std::vector<LedgerLine> lines;
  size_t phaseBegin = 0;
  for (const LedgerEntry &entry : ledger.entries()) {
    const abi::Phase &phase = *program.phases()->Get(entry.phase);
    std::string label = phase.launches()->Get(entry.launch)->label()->str();
    if (!lines.empty() && lines.back().sum.phase != entry.phase)
      phaseBegin = lines.size();
    size_t i = phaseBegin;
    while (i < lines.size() && lines[i].label != label)
      ++i;
    if (i == lines.size())
      lines.push_back(
          {label,
           phaseName(phase),
           readsIntegers(program, *phase.launches()->Get(entry.launch)),
           {entry.phase, entry.launch}});
    addTo(lines[i].sum, entry);
  }
  return lines;
}

} // namespace retort
