//===- Semantics.cpp - The rules of an artifact's index ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Semantics.h"

#include "runtime/abi/Format.h"
#include "runtime/loader/Parts.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>

namespace retort {
namespace {

// Bounds far above any model, so that sums of a few of them can't overflow.
constexpr uint64_t kMaxCount = 1ull << 24; // layers, heads, positions, ...
constexpr uint64_t kMaxChunk = 1ull << 16; // tokens of a phase
constexpr uint64_t kMaxBytes = 1ull << 47; // what a process can address
constexpr uint64_t kMaxScratch = 1ull << 30;
constexpr uint32_t kMaxArgs = 1024;
constexpr uint64_t kMaxTiles = 1ull << 40;

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

std::string str(uint64_t value) { return std::to_string(value); }

std::string numbered(const char *what, size_t number, std::string_view name) {
  return std::string(what) + " " + str(number) + " '" + std::string(name) + "'";
}

Status checkRange(const std::string &where, uint64_t value, uint64_t low,
                  uint64_t high) {
  if (value >= low && value <= high)
    return Status::ok();
  return invalid(where + ": expected " + str(low) + " to " + str(high) +
                 ", found " + str(value));
}

/// Names are printed, so they must not hold control characters.
Status checkName(const std::string &where, std::string_view name) {
  bool clean = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (name.empty() || !clean)
    return invalid(where + ": expected a name without control characters");
  return Status::ok();
}

Status checkModel(const abi::Model &model) {
  struct Field {
    const char *name;
    uint64_t value, low, high;
  } fields[] = {
      // Token ids are i32.
      {"vocab_size", model.vocab_size(), 1, kMaxCount},
      {"hidden_size", model.hidden_size(), 1, kMaxCount},
      {"intermediate_size", model.intermediate_size(), 0, kMaxCount},
      {"num_layers", model.num_layers(), 0, kMaxCount},
      {"num_heads", model.num_heads(), 0, kMaxCount},
      {"num_kv_heads", model.num_kv_heads(), 0, kMaxCount},
      {"head_dim", model.head_dim(), 0, kMaxCount},
      {"max_context", model.max_context(), 1, kMaxCount},
      {"max_chunk", model.max_chunk(), 1, kMaxChunk},
  };
  for (const Field &field : fields)
    RETORT_RETURN_IF_ERROR(checkRange(std::string("model: ") + field.name,
                                      field.value, field.low, field.high));
  RETORT_RETURN_IF_ERROR(
      checkName("model: family", model.family()->string_view()));
  RETORT_RETURN_IF_ERROR(checkName("model: name", model.name()->string_view()));
  int64_t vocab = model.vocab_size();
  if (model.bos_id() < -1 || model.bos_id() >= vocab)
    return invalid("model: bos_id " + std::to_string(model.bos_id()) +
                   " is not in the vocabulary of " + str(vocab));
  if (model.eos_ids())
    for (int32_t id : *model.eos_ids())
      if (id < 0 || id >= vocab)
        return invalid("model: end token " + std::to_string(id) +
                       " is not in the vocabulary of " + str(vocab));
  return Status::ok();
}

Status checkTargets(const abi::Index &index) {
  const auto &targets = *index.targets();
  if (targets.size() == 0)
    return invalid("targets: expected at least one, found none");
  std::unordered_set<std::string_view> names;
  for (uint32_t i = 0; i < targets.size(); ++i) {
    const abi::Target &target = *targets[i];
    std::string_view name = target.name()->string_view();
    std::string where = numbered("target", i, name);
    RETORT_RETURN_IF_ERROR(checkName(where, name));
    RETORT_RETURN_IF_ERROR(
        checkName(where + ": triple", target.triple()->string_view()));
    if (!names.insert(name).second)
      return invalid(where + ": the name appears twice");
    for (const auto *feature : *target.features())
      RETORT_RETURN_IF_ERROR(
          checkName(where + ": feature", feature->string_view()));
    if (target.section() >= index.sections()->size() ||
        index.sections()->Get(target.section())->kind() !=
            abi::SectionKind::Code)
      return invalid(where + ": section " + str(target.section()) +
                     " is not a code section");
  }
  return Status::ok();
}

Status checkParts(const abi::Index &index) {
  if (!index.parts() || index.parts()->size() == 0)
    return index.weights_id() == 0
               ? Status::ok()
               : invalid("weights_id: expected 0 in an artifact without parts");
  const auto &parts = *index.parts();
  RETORT_RETURN_IF_ERROR(
      checkRange("parts: number", parts.size(), 1, abi::kMaxParts));
  if (index.program()->without_weights())
    return invalid("parts: expected none in an artifact without weights");
  for (const abi::Section *section : *index.sections())
    if (section->kind() == abi::SectionKind::Weights)
      return invalid("parts: expected none beside the weights section '" +
                     section->name()->str() + "'");
  std::unordered_set<std::string_view> names;
  uint64_t total = 0;
  for (uint32_t i = 0; i < parts.size(); ++i) {
    std::string_view name = parts[i]->name()->string_view();
    std::string where = "part " + str(i + 1);
    if (!isPartName(name))
      return invalid(where +
                     ": expected the name of a file in the artifact's "
                     "folder that ends in " +
                     std::string(kPartSuffix));
    if (!names.insert(name).second)
      return invalid(where + ": the name '" + std::string(name) +
                     "' appears twice");
    uint64_t size = parts[i]->size();
    RETORT_RETURN_IF_ERROR(checkRange(where + ": size", size, 1, kMaxBytes));
    if (i + 1 < parts.size() && size % abi::kPartAlignment != 0)
      return invalid(where + ": expected a size that is a multiple of " +
                     str(abi::kPartAlignment) + ", found " + str(size));
    total += size;
    RETORT_RETURN_IF_ERROR(
        checkRange("parts: sizes together", total, 1, kMaxBytes));
  }
  return Status::ok();
}

Status checkWeights(const abi::Index &index) {
  bool without = index.program()->without_weights();
  uint64_t sectionSize = without ? kMaxBytes : partBytes(index);
  for (const abi::Section *section : *index.sections()) {
    if (section->kind() != abi::SectionKind::Weights)
      continue;
    if (without)
      return invalid("weights: expected no section in an artifact without "
                     "weights, found '" +
                     section->name()->str() + "'");
    sectionSize = section->size();
  }
  std::unordered_set<std::string_view> names;
  uint64_t offset = 0;
  const auto &weights = *index.program()->weights();
  for (uint32_t i = 0; i < weights.size(); ++i) {
    const abi::Weight &weight = *weights[i];
    std::string_view name = weight.name()->string_view();
    std::string where = numbered("weight", i, name);
    RETORT_RETURN_IF_ERROR(checkName(where, name));
    if (!names.insert(name).second)
      return invalid(where + ": the name appears twice");
    RETORT_RETURN_IF_ERROR(
        checkName(where + ": encoding", weight.encoding()->string_view()));
    if (weight.offset() != offset)
      return invalid(where + ": expected offset " + str(offset) + ", found " +
                     str(weight.offset()));
    if (weight.size() > kMaxBytes ||
        weight.stored_size() != roundUp(weight.size(), abi::kWeightAlignment))
      return invalid(where + ": expected stored_size to be size " +
                     str(weight.size()) + " rounded up to " +
                     str(abi::kWeightAlignment) + ", found " +
                     str(weight.stored_size()));
    // Neither term exceeds the section's size, which is within the file.
    if (weight.stored_size() > sectionSize - offset)
      return invalid(where + ": " + str(weight.stored_size()) +
                     " bytes at offset " + str(offset) +
                     " go past the weights section of " + str(sectionSize));
    auto elements = checkedMul(weight.rows(), weight.cols());
    if (!elements || *elements > kMaxBytes)
      return invalid(where + ": the shape " + str(weight.rows()) + " x " +
                     str(weight.cols()) + " is too large");
    if (!std::isfinite(weight.relative_error()) || weight.relative_error() < 0)
      return invalid(where + ": relative_error is not a number from 0 on");
    offset += weight.stored_size();
  }
  if (!without && offset != sectionSize)
    return invalid("weights: expected tensors of " + str(sectionSize) +
                   " bytes together, found " + str(offset));
  return Status::ok();
}

Status checkBuffers(const abi::Index &index) {
  const abi::Model &model = *index.model();
  const auto &buffers = *index.program()->buffers();
  std::unordered_set<std::string_view> names;
  uint64_t total = 0;
  for (uint32_t i = 0; i < buffers.size(); ++i) {
    const abi::Buffer &buffer = *buffers[i];
    std::string_view name = buffer.name()->string_view();
    std::string where = numbered("buffer", i, name);
    RETORT_RETURN_IF_ERROR(checkName(where, name));
    if (!names.insert(name).second)
      return invalid(where + ": the name appears twice");
    if (buffer.kind() > abi::BufferKind::MAX)
      return invalid(where + ": kind " +
                     str(static_cast<uint64_t>(buffer.kind())) +
                     " is neither 0 nor 1");
    auto bytes = bufferBytes(buffer, model.max_chunk(), model.max_context());
    if (!bytes || *bytes > kMaxBytes || (total += *bytes) > kMaxBytes)
      return invalid(where + ": the sizes of buffers up to this one exceed " +
                     str(kMaxBytes) + " bytes");
  }
  return Status::ok();
}

/// A buffer that the runtime itself reads or writes.
Status checkIoBuffer(const abi::Index &index, const char *role, uint32_t number,
                     uint64_t rowBytes, uint64_t rows) {
  const auto &buffers = *index.program()->buffers();
  std::string where = std::string("program: ") + role;
  if (number >= buffers.size())
    return invalid(where + ": buffer " + str(number) + " of " +
                   str(buffers.size()) + " does not exist");
  const abi::Buffer &buffer = *buffers[number];
  if (buffer.kind() != abi::BufferKind::Activation)
    return invalid(where + ": buffer '" + buffer.name()->str() +
                   "' is a cache, expected an activation");
  uint64_t have = *bufferBytes(buffer, index.model()->max_chunk(),
                               index.model()->max_context());
  if (have < rowBytes * rows)
    return invalid(where + ": buffer '" + buffer.name()->str() + "' has " +
                   str(have) + " bytes, expected at least " +
                   str(rowBytes * rows));
  return Status::ok();
}

Status checkKernels(const abi::Program &program) {
  for (uint32_t i = 0; i < program.kernels()->size(); ++i) {
    const abi::Kernel &kernel = *program.kernels()->Get(i);
    std::string_view symbol = kernel.symbol()->string_view();
    std::string where = numbered("kernel", i, symbol);
    RETORT_RETURN_IF_ERROR(checkName(where, symbol));
    RETORT_RETURN_IF_ERROR(checkRange(where + ": scratch_bytes",
                                      kernel.scratch_bytes(), 0, kMaxScratch));
    RETORT_RETURN_IF_ERROR(
        checkRange(where + ": num_args", kernel.num_args(), 0, kMaxArgs));
  }
  return Status::ok();
}

bool isDraft(abi::PhaseKind kind) {
  return kind == abi::PhaseKind::DraftBody || kind == abi::PhaseKind::DraftHead;
}

Status checkLaunch(const abi::Index &index, const abi::Phase &phase,
                   const abi::Launch &launch, const std::string &where) {
  const abi::Program &program = *index.program();
  RETORT_RETURN_IF_ERROR(
      checkName(where + ": label", launch.label()->string_view()));
  if (launch.kernel() >= program.kernels()->size())
    return invalid(where + ": kernel " + str(launch.kernel()) + " of " +
                   str(program.kernels()->size()) + " does not exist");
  uint32_t wanted = program.kernels()->Get(launch.kernel())->num_args();
  if (launch.args()->size() != wanted)
    return invalid(where + ": expected " + str(wanted) +
                   " arguments, as its kernel has, found " +
                   str(launch.args()->size()));
  for (uint32_t i = 0; i < launch.args()->size(); ++i) {
    const abi::Arg &arg = *launch.args()->Get(i);
    uint64_t count =
        arg.kind() == abi::ArgKind::Buffer   ? program.buffers()->size()
        : arg.kind() == abi::ArgKind::Weight ? program.weights()->size()
                                             : 0;
    if (arg.index() >= count)
      return invalid(where + ": argument " + str(i) + ": index " +
                     str(arg.index()) + " of kind " +
                     str(static_cast<uint64_t>(arg.kind())) +
                     " does not exist");
  }
  uint64_t tiles = launch.tiles();
  if (launch.tokens_per_tile() != 0)
    tiles *= ceilDiv<uint64_t>(phase.max_tokens(), launch.tokens_per_tile());
  RETORT_RETURN_IF_ERROR(checkRange(where + ": tiles", tiles, 1, kMaxTiles));
  // The draft layer is counted behind the model's.
  int64_t layers =
      static_cast<int64_t>(index.model()->num_layers()) + isDraft(phase.kind());
  if (launch.layer() < -1 || launch.layer() >= layers)
    return invalid(where + ": layer " + std::to_string(launch.layer()) +
                   " is not one of " + std::to_string(layers));
  return Status::ok();
}

Status checkPrepares(const abi::Index &index, const abi::Phase &phase,
                     const abi::Launch &launch, const std::string &where) {
  const abi::Kernel &kernel = *index.program()->kernels()->Get(launch.kernel());
  if (!kernel.prepares() || phase.max_tokens() == 1)
    return Status::ok();
  return invalid(where + ": kernel '" + kernel.symbol()->str() +
                 "' prepares its scratch, which was expected in phases of one "
                 "token alone, found one of up to " +
                 std::to_string(phase.max_tokens()));
}

/// What makes it possible to launch rows of several sequences one at a time.
Status checkPosition(const abi::Index &index, const abi::Phase &phase,
                     const abi::Launch &launch, const std::string &where) {
  if (!launch.reads_position())
    return Status::ok();
  if (phase.kind() != abi::PhaseKind::Body &&
      phase.kind() != abi::PhaseKind::DraftBody)
    return invalid(where + ": a launch of a " + phaseKindName(phase.kind()) +
                   " phase can't read the position");
  for (const abi::Arg *arg : *launch.args()) {
    if (arg->kind() != abi::ArgKind::Buffer)
      continue;
    const abi::Buffer &buffer = *index.program()->buffers()->Get(arg->index());
    if (buffer.kind() == abi::BufferKind::Activation &&
        (buffer.fixed_bytes() != 0 || buffer.bytes_per_token() == 0))
      return invalid(where + ": reads the position, so buffer '" +
                     buffer.name()->str() +
                     "' was expected to have rows by token alone");
  }
  return Status::ok();
}

/// Phases of a kind must serve every number of tokens up to the largest, once.
/// 0 if there are none.
Result<uint64_t> checkCover(const abi::Program &program, abi::PhaseKind kind) {
  std::set<std::pair<uint64_t, uint64_t>> ranges;
  std::string where = phaseKindName(kind) + " phases";
  for (const abi::Phase *phase : *program.phases())
    if (phase->kind() == kind &&
        !ranges.insert({phase->min_tokens(), phase->max_tokens()}).second)
      return invalid(where + ": two serve the same numbers of tokens");
  uint64_t next = 1;
  for (auto [low, high] : ranges) {
    if (low != next || high < low)
      return invalid(where + ": expected one that begins at " + str(next) +
                     " tokens, found one for " + str(low) + " to " + str(high));
    next = high + 1;
  }
  return next - 1;
}

/// Draft phases: both kinds or neither.
Status checkDraft(const abi::Index &index) {
  const abi::Program &program = *index.program();
  RETORT_ASSIGN_OR_RETURN(uint64_t body,
                          checkCover(program, abi::PhaseKind::DraftBody));
  RETORT_ASSIGN_OR_RETURN(uint64_t head,
                          checkCover(program, abi::PhaseKind::DraftHead));
  if (body == 0 && head == 0)
    return Status::ok();
  uint64_t maxChunk = index.model()->max_chunk();
  if (body != maxChunk)
    return invalid(
        "draft body phases: expected them to serve up to max_chunk " +
        str(maxChunk) + " tokens, found " + str(body));
  if (head != 1)
    return invalid("draft head phases: expected them to serve 1 token, found " +
                   str(head));
  RETORT_RETURN_IF_ERROR(
      checkIoBuffer(index, "draft_hidden_buffer", program.draft_hidden_buffer(),
                    sizeof(float) * index.model()->hidden_size(), maxChunk));
  return checkIoBuffer(index, "draft_logits_buffer",
                       program.draft_logits_buffer(),
                       sizeof(float) * program.logits_stride(), 1);
}

Status checkPhases(const abi::Index &index) {
  const abi::Program &program = *index.program();
  uint64_t maxChunk = index.model()->max_chunk();
  for (uint32_t i = 0; i < program.phases()->size(); ++i) {
    const abi::Phase &phase = *program.phases()->Get(i);
    std::string where = "phase " + str(i);
    if (phase.kind() > abi::PhaseKind::MAX)
      return invalid(where + ": kind " +
                     str(static_cast<uint64_t>(phase.kind())) +
                     " is none of 0 to " +
                     str(static_cast<uint64_t>(abi::PhaseKind::MAX)));
    RETORT_RETURN_IF_ERROR(
        checkRange(where + ": max_tokens", phase.max_tokens(), 1, maxChunk));
    for (uint32_t j = 0; j < phase.launches()->size(); ++j) {
      const abi::Launch &launch = *phase.launches()->Get(j);
      std::string what =
          where + ": " + numbered("launch", j, launch.label()->string_view());
      RETORT_RETURN_IF_ERROR(checkLaunch(index, phase, launch, what));
      RETORT_RETURN_IF_ERROR(checkPosition(index, phase, launch, what));
      RETORT_RETURN_IF_ERROR(checkPrepares(index, phase, launch, what));
    }
  }
  RETORT_ASSIGN_OR_RETURN(uint64_t body,
                          checkCover(program, abi::PhaseKind::Body));
  RETORT_ASSIGN_OR_RETURN(uint64_t head,
                          checkCover(program, abi::PhaseKind::Head));
  if (body != maxChunk)
    return invalid("body phases: expected them to serve up to max_chunk " +
                   str(maxChunk) + " tokens, found " + str(body));
  if (head == 0)
    return invalid("head phases: expected at least one, found none");
  uint64_t vocab = index.model()->vocab_size();
  RETORT_RETURN_IF_ERROR(checkRange(
      "program: logits_stride", program.logits_stride(), vocab, 2 * kMaxCount));
  RETORT_RETURN_IF_ERROR(checkIoBuffer(index, "tokens_buffer",
                                       program.tokens_buffer(), sizeof(int32_t),
                                       maxChunk));
  RETORT_RETURN_IF_ERROR(
      checkIoBuffer(index, "hidden_buffer", program.hidden_buffer(),
                    sizeof(float) * index.model()->hidden_size(), maxChunk));
  RETORT_RETURN_IF_ERROR(
      checkIoBuffer(index, "logits_buffer", program.logits_buffer(),
                    sizeof(float) * program.logits_stride(), head));
  return checkDraft(index);
}

Status checkSelfTest(const abi::Index &index) {
  const abi::SelfTest *test = index.self_test();
  if (!test)
    return Status::ok();
  RETORT_RETURN_IF_ERROR(checkRange("self test: tokens", test->tokens()->size(),
                                    1, index.model()->max_context()));
  int64_t vocab = index.model()->vocab_size();
  for (int32_t id : *test->tokens())
    if (id < 0 || id >= vocab)
      return invalid("self test: token " + std::to_string(id) +
                     " is not in the vocabulary of " + str(vocab));
  RETORT_RETURN_IF_ERROR(checkRange("self test: last_logits",
                                    test->last_logits()->size(), vocab, vocab));
  // NaN included.
  if (!(test->tolerance() > 0 && test->tolerance() <= 1))
    return invalid("self test: expected a tolerance from 0 to 1, found " +
                   std::to_string(test->tolerance()));
  for (float logit : *test->last_logits())
    if (!std::isfinite(logit))
      return invalid("self test: last_logits holds a value that is not finite");
  return Status::ok();
}

} // namespace

std::optional<uint64_t> bufferBytes(const abi::Buffer &buffer, uint64_t tokens,
                                    uint64_t positions) {
  auto perToken =
      checkedMul(buffer.bytes_per_token(), roundUp(tokens, abi::kTokenPadding));
  auto perPosition = checkedMul(buffer.bytes_per_position(),
                                roundUp(positions, abi::kPositionPadding));
  if (!perToken || !perPosition)
    return std::nullopt;
  auto sum = checkedAdd(*perToken, *perPosition);
  return sum ? checkedAdd(*sum, buffer.fixed_bytes()) : std::nullopt;
}

std::string phaseKindName(abi::PhaseKind kind) {
  switch (kind) {
  case abi::PhaseKind::Body:
    return "body";
  case abi::PhaseKind::Head:
    return "head";
  case abi::PhaseKind::DraftBody:
    return "draft body";
  case abi::PhaseKind::DraftHead:
    return "draft head";
  }
  return "unknown";
}

bool hasDraft(const abi::Program &program) {
  for (const abi::Phase *phase : *program.phases())
    if (phase->kind() == abi::PhaseKind::DraftBody)
      return true;
  return false;
}

Status checkSemantics(const abi::Index &index) {
  RETORT_RETURN_IF_ERROR(checkModel(*index.model()));
  RETORT_RETURN_IF_ERROR(checkTargets(index));
  RETORT_RETURN_IF_ERROR(checkParts(index));
  RETORT_RETURN_IF_ERROR(checkWeights(index));
  RETORT_RETURN_IF_ERROR(checkBuffers(index));
  RETORT_RETURN_IF_ERROR(checkKernels(*index.program()));
  RETORT_RETURN_IF_ERROR(checkPhases(index));
  return checkSelfTest(index);
}

} // namespace retort
