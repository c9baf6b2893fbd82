//===- SemanticsTest.cpp - Indices that break the rules ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Semantics.h"
#include "runtime/loader/Artifact.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

/// A named way to break the index, and a part of the message it must cause.
struct Case {
  const char *name;
  std::function<void(retort::abi::IndexT &)> edit;
  const char *message;
};

using Index = retort::abi::IndexT;

const Case kCases[] = {
    // Model.
    {"NoVocabulary", [](Index &i) { i.model->vocab_size = 0; },
     "vocab_size: expected 1"},
    {"HugeVocabulary", [](Index &i) { i.model->vocab_size = ~0u; },
     "vocab_size"},
    {"NoHidden", [](Index &i) { i.model->hidden_size = 0; }, "hidden_size"},
    {"NoContext", [](Index &i) { i.model->max_context = 0; }, "max_context"},
    {"HugeContext", [](Index &i) { i.model->max_context = ~0u; },
     "max_context"},
    {"NoChunk", [](Index &i) { i.model->max_chunk = 0; }, "max_chunk"},
    {"HugeChunk", [](Index &i) { i.model->max_chunk = ~0u; }, "max_chunk"},
    {"BeginTokenOutside", [](Index &i) { i.model->bos_id = kVocab; },
     "bos_id 260"},
    {"BeginTokenNegative", [](Index &i) { i.model->bos_id = -2; }, "bos_id -2"},
    {"EndTokenOutside", [](Index &i) { i.model->eos_ids = {1, -1}; },
     "end token -1"},
    {"ControlCharacterInName", [](Index &i) { i.model->name = "a\x1b[2J"; },
     "model: name"},
    // Weights that are said to be absent.
    {"SectionWithoutWeights",
     [](Index &i) { i.program->without_weights = true; },
     "expected no section in an artifact without weights"},
    // Targets.
    {"NoTargets", [](Index &i) { i.targets.clear(); }, "targets: expected"},
    {"TargetOfWeights", [](Index &i) { i.targets[0]->section = 1; },
     "section 1 is not a code section"},
    {"TargetOutside", [](Index &i) { i.targets[0]->section = 77; },
     "section 77 is not a code section"},
    {"TargetTwice",
     [](Index &i) {
       i.targets.push_back(
           std::make_unique<retort::abi::TargetT>(*i.targets[0]));
     },
     "appears twice"},
    {"TargetUnnamed", [](Index &i) { i.targets[0]->name = ""; }, "target 0"},
    // Weights.
    {"WeightTwice",
     [](Index &i) {
       i.program->weights[1]->name = i.program->weights[0]->name;
     },
     "appears twice"},
    {"WeightWithoutEncoding",
     [](Index &i) { i.program->weights[1]->encoding = ""; }, "encoding"},
    {"WeightOverlapping", [](Index &i) { i.program->weights[1]->offset = 0; },
     "expected offset"},
    {"WeightUnaligned", [](Index &i) { i.program->weights[1]->offset += 4; },
     "expected offset"},
    {"WeightStoredSize",
     [](Index &i) { i.program->weights[1]->stored_size += 64; }, "stored_size"},
    {"WeightTooLong",
     [](Index &i) {
       i.program->weights[1]->size += 64;
       i.program->weights[1]->stored_size += 64;
     },
     "go past the weights section"},
    {"WeightHuge", [](Index &i) { i.program->weights[1]->size = ~0ull - 1; },
     "stored_size"},
    {"WeightShapeOverflows",
     [](Index &i) {
       i.program->weights[1]->rows = 1ull << 40;
       i.program->weights[1]->cols = 1ull << 40;
     },
     "too large"},
    {"WeightErrorNotANumber",
     [](Index &i) { i.program->weights[1]->relative_error = NAN; },
     "relative_error"},
    // Buffers.
    {"BufferTwice", [](Index &i) { i.program->buffers[1]->name = "tokens"; },
     "appears twice"},
    {"BufferKind",
     [](Index &i) { i.program->buffers[1]->kind = retort::abi::BufferKind(2); },
     "kind 2"},
    {"BufferOverflows",
     [](Index &i) { i.program->buffers[3]->bytes_per_position = ~0ull; },
     "exceed"},
    {"BufferSumOverflows",
     [](Index &i) {
       i.program->buffers[1]->fixed_bytes = 1ull << 46;
       i.program->buffers[3]->fixed_bytes = 1ull << 46;
     },
     "exceed"},
    {"TokensBufferMissing", [](Index &i) { i.program->tokens_buffer = 4; },
     "tokens_buffer: buffer 4 of 4"},
    {"TokensBufferSmall",
     [](Index &i) { i.program->buffers[0]->bytes_per_token = 3; },
     "tokens_buffer"},
    {"HiddenBufferIsACache", [](Index &i) { i.program->hidden_buffer = 3; },
     "is a cache"},
    {"HiddenBufferSmall",
     [](Index &i) { i.program->buffers[1]->bytes_per_token = 4; },
     "hidden_buffer"},
    {"LogitsBufferSmall",
     [](Index &i) { i.program->buffers[2]->fixed_bytes -= 4; },
     "logits_buffer"},
    {"LogitsStrideSmall",
     [](Index &i) { i.program->logits_stride = kVocab - 1; }, "logits_stride"},
    {"LogitsStrideHuge", [](Index &i) { i.program->logits_stride = ~0ull; },
     "logits_stride"},
    // Kernels and launches.
    {"KernelUnnamed", [](Index &i) { i.program->kernels[0]->symbol = ""; },
     "kernel 0"},
    {"KernelScratchHuge",
     [](Index &i) { i.program->kernels[0]->scratch_bytes = 1ull << 50; },
     "scratch_bytes"},
    {"KernelArgsHuge", [](Index &i) { i.program->kernels[0]->num_args = ~0u; },
     "num_args"},
    {"LaunchOfMissingKernel",
     [](Index &i) { i.program->phases[0]->launches[0]->kernel = 4; },
     "kernel 4 of 4"},
    {"LaunchWithTooFewArgs",
     [](Index &i) { i.program->phases[0]->launches[0]->args.pop_back(); },
     "expected 3 arguments"},
    {"ArgOfMissingBuffer",
     [](Index &i) {
       i.program->phases[0]->launches[0]->args[0] =
           retort::abi::Arg(retort::abi::ArgKind::Buffer, 4);
     },
     "index 4 of kind 0"},
    {"ArgOfMissingWeight",
     [](Index &i) {
       i.program->phases[0]->launches[0]->args[0] =
           retort::abi::Arg(retort::abi::ArgKind::Weight, 2);
     },
     "index 2 of kind 1"},
    {"ArgOfUnknownKind",
     [](Index &i) {
       i.program->phases[0]->launches[0]->args[0] =
           retort::abi::Arg(retort::abi::ArgKind(2), 0);
     },
     "of kind 2"},
    {"LaunchWithoutTiles",
     [](Index &i) { i.program->phases[0]->launches[0]->tiles = 0; }, "tiles"},
    {"LaunchOfMissingLayer",
     [](Index &i) { i.program->phases[0]->launches[1]->layer = 1; }, "layer 1"},
    {"LaunchOfNegativeLayer",
     [](Index &i) { i.program->phases[0]->launches[1]->layer = -2; },
     "layer -2"},
    {"LaunchUnlabelled",
     [](Index &i) { i.program->phases[0]->launches[1]->label = ""; }, "label"},
    {"SeveralTokensPrepared",
     [](Index &i) { i.program->kernels[2]->prepares = true; },
     "prepares its scratch, which was expected in phases of one token alone"},
    {"PositionReadByAHead",
     [](Index &i) { i.program->phases[2]->launches[0]->reads_position = true; },
     "a launch of a head phase can't read the position"},
    {"PositionReadWithoutRows",
     [](Index &i) {
       i.program->phases[0]->launches[1]->args[0] =
           retort::abi::Arg(retort::abi::ArgKind::Buffer, 2);
     },
     "buffer 'logits' was expected to have rows by token alone"},
    {"PositionReadWithMoreThanRows",
     [](Index &i) { i.program->buffers[1]->fixed_bytes = 64; },
     "buffer 'hidden' was expected to have rows by token alone"},
    // Phases.
    {"PhaseKind",
     [](Index &i) { i.program->phases[0]->kind = retort::abi::PhaseKind(4); },
     "kind 4"},
    {"DraftWithoutHead",
     [](Index &i) {
       i.program->phases.push_back(
           std::make_unique<retort::abi::PhaseT>(*i.program->phases[0]));
       i.program->phases.push_back(
           std::make_unique<retort::abi::PhaseT>(*i.program->phases[1]));
       for (size_t p : {4, 5})
         i.program->phases[p]->kind = retort::abi::PhaseKind::DraftBody;
     },
     "draft head phases"},
    {"DraftWithoutBody",
     [](Index &i) {
       i.program->phases.push_back(
           std::make_unique<retort::abi::PhaseT>(*i.program->phases[2]));
       i.program->phases[4]->kind = retort::abi::PhaseKind::DraftHead;
     },
     "draft body phases: expected them to serve up to max_chunk 8 tokens"},
    {"DraftHeadForMoreTokens",
     [](Index &i) {
       for (size_t p : {0, 1, 2, 3})
         i.program->phases.push_back(
             std::make_unique<retort::abi::PhaseT>(*i.program->phases[p]));
       for (size_t p : {4, 5})
         i.program->phases[p]->kind = retort::abi::PhaseKind::DraftBody;
       for (size_t p : {6, 7})
         i.program->phases[p]->kind = retort::abi::PhaseKind::DraftHead;
     },
     "draft head phases: expected them to serve 1 token, found 3"},
    {"DraftLogitsTooSmall",
     [](Index &i) {
       for (size_t p : {0, 1, 2})
         i.program->phases.push_back(
             std::make_unique<retort::abi::PhaseT>(*i.program->phases[p]));
       for (size_t p : {4, 5})
         i.program->phases[p]->kind = retort::abi::PhaseKind::DraftBody;
       i.program->phases[6]->kind = retort::abi::PhaseKind::DraftHead;
       i.program->draft_hidden_buffer = 1;
       i.program->draft_logits_buffer = 0;
     },
     "draft_logits_buffer"},
    {"PhasesWithAGap", [](Index &i) { i.program->phases[1]->min_tokens = 3; },
     "begins at 2 tokens"},
    {"PhasesOverlapping",
     [](Index &i) { i.program->phases[1]->min_tokens = 1; },
     "body phases: expected one that begins at 2 "},
    {"PhaseTwice",
     [](Index &i) {
       i.program->phases[1]->min_tokens = 1;
       i.program->phases[1]->max_tokens = 1;
     },
     "two serve the same"},
    {"PhaseEmptyRange", [](Index &i) { i.program->phases[1]->max_tokens = 1; },
     "begins at 2"},
    {"PhaseBeyondMaxChunk",
     [](Index &i) { i.program->phases[1]->max_tokens = 9; }, "max_tokens"},
    {"PhasesShortOfMaxChunk",
     [](Index &i) { i.program->phases[1]->max_tokens = 7; }, "max_chunk"},
    {"NoHeadPhase", [](Index &i) { i.program->phases.resize(2); },
     "head phases: expected at least one"},
    {"NoPhases", [](Index &i) { i.program->phases.clear(); }, "body phases"},
    // Self test.
    {"SelfTestWithoutTokens", [](Index &i) { i.self_test->tokens.clear(); },
     "self test: tokens"},
    {"SelfTestTokenOutside", [](Index &i) { i.self_test->tokens[1] = kVocab; },
     "self test: token 260"},
    {"SelfTestTooLong",
     [](Index &i) { i.self_test->tokens.resize(kMaxContext + 1); },
     "self test: tokens"},
    {"SelfTestLogitsShort",
     [](Index &i) { i.self_test->last_logits.pop_back(); }, "last_logits"},
    {"SelfTestLogitsInfinite",
     [](Index &i) { i.self_test->last_logits[3] = INFINITY; }, "not finite"},
    {"SelfTestToleranceZero", [](Index &i) { i.self_test->tolerance = 0; },
     "expected a tolerance from 0 to 1"},
    {"SelfTestToleranceNan", [](Index &i) { i.self_test->tolerance = NAN; },
     "expected a tolerance from 0 to 1"},
};

class SemanticsTest : public testing::TestWithParam<Case> {};

TEST_P(SemanticsTest, IsAnErrorThatSaysSo) {
  ArtifactBuilder builder;
  AlignedBytes bytes(builder.build(GetParam().edit));
  auto artifact = Artifact::openMemory(bytes.span());
  ASSERT_FALSE(artifact.isOk());
  EXPECT_EQ(artifact.status().code(), Code::InvalidData);
  EXPECT_THAT(artifact.status().message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Index, SemanticsTest, testing::ValuesIn(kCases),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

TEST(SemanticsTest, ArtifactWithoutSelfTestOpens) {
  ArtifactBuilder builder;
  builder.index.self_test.reset();
  AlignedBytes bytes(builder.build());
  auto artifact = Artifact::openMemory(bytes.span());
  EXPECT_TRUE(artifact.isOk()) << artifact.status().message();
}

TEST(SemanticsTest, BufferBytesRoundUpTokensAndPositions) {
  flatbuffers::FlatBufferBuilder fbb;
  fbb.Finish(retort::abi::CreateBuffer(
      fbb, fbb.CreateString("b"), retort::abi::BufferKind::Cache, 5, 10, 100));
  const auto *buffer =
      flatbuffers::GetRoot<retort::abi::Buffer>(fbb.GetBufferPointer());
  EXPECT_EQ(bufferBytes(*buffer, 9, 65), 5u + 10 * 16 + 100 * 128);
}

} // namespace
