//===- ArtifactBuilder.cpp - Artifacts for the runtime's tests --*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/loader/ArtifactBuilder.h"

#include "runtime/loader/Cpu.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/File.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

namespace retort::test {
namespace {

void must(bool condition, const char *what) {
  if (condition)
    return;
  std::fprintf(stderr, "test set-up failed: %s\n", what);
  std::abort();
}

/// Small integers over 64, so that sums are exact in any order of test code.
std::vector<float> testMatrix(uint64_t seed) {
  std::vector<float> values(kVocab * kHidden);
  for (float &value : values) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    value = float(int64_t(seed >> 33) % 129 - 64) / 64;
  }
  return values;
}

constexpr uint64_t kTableSeed = 1, kMatrixSeed = 2;

std::span<const std::byte> asBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Bytes toBytes(std::span<const std::byte> bytes) {
  return Bytes(bytes.begin(), bytes.end());
}

uint64_t hashOf(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::unique_ptr<abi::BufferT> makeBuffer(const char *name, abi::BufferKind kind,
                                         uint64_t perToken,
                                         uint64_t perPosition) {
  auto buffer = std::make_unique<abi::BufferT>();
  buffer->name = name;
  buffer->kind = kind;
  buffer->bytes_per_token = perToken;
  buffer->bytes_per_position = perPosition;
  return buffer;
}

enum BufferIndex {
  Tokens,
  HiddenStates,
  Logits,
  Cache,
  DraftHidden,
  DraftLogits,
  DraftCache
};
enum WeightIndex { Table, Matrix };

std::unique_ptr<abi::LaunchT> makeLaunch(uint32_t kernel, const char *label,
                                         std::vector<abi::Arg> args,
                                         uint32_t tiles, uint32_t perTile,
                                         int32_t layer) {
  auto launch = std::make_unique<abi::LaunchT>();
  launch->kernel = kernel;
  launch->label = label;
  launch->args = std::move(args);
  launch->tiles = tiles;
  launch->tokens_per_tile = perTile;
  launch->layer = layer;
  return launch;
}

std::unique_ptr<abi::PhaseT> makeBody(uint32_t low, uint32_t high) {
  using abi::Arg;
  constexpr auto B = abi::ArgKind::Buffer, W = abi::ArgKind::Weight;
  auto phase = std::make_unique<abi::PhaseT>();
  phase->kind = abi::PhaseKind::Body;
  phase->min_tokens = low;
  phase->max_tokens = high;
  phase->launches.push_back(makeLaunch(
      0, "embedding", {Arg(B, Tokens), Arg(B, HiddenStates), Arg(W, Table)}, 1,
      3, -1));
  phase->launches.push_back(makeLaunch(
      1, "store", {Arg(B, HiddenStates), Arg(B, Cache)}, kHidden, 0, 0));
  phase->launches.push_back(
      makeLaunch(2, "mix", {Arg(B, HiddenStates), Arg(B, Cache)}, 1, 1, 0));
  phase->launches[1]->reads_position = true;
  phase->launches[2]->reads_position = true;
  phase->launches[0]->bytes_per_token = 4 * kHidden;
  phase->launches[1]->bytes_per_token = 4 * kHidden;
  phase->launches[2]->bytes_per_pair = 4 * kHidden;
  phase->launches[2]->flops_per_pair = 2 * kHidden;
  return phase;
}

std::unique_ptr<abi::PhaseT> makeHead(uint32_t low, uint32_t high) {
  using abi::Arg;
  constexpr auto B = abi::ArgKind::Buffer, W = abi::ArgKind::Weight;
  auto phase = std::make_unique<abi::PhaseT>();
  phase->kind = abi::PhaseKind::Head;
  phase->min_tokens = low;
  phase->max_tokens = high;
  phase->launches.push_back(makeLaunch(
      3, "logits", {Arg(B, HiddenStates), Arg(B, Logits), Arg(W, Matrix)},
      ceilDiv(kVocab, 32u), 0, -1));
  phase->launches[0]->weight_bytes = 4ull * kVocab * kHidden;
  phase->launches[0]->flops_per_token = 2ull * kVocab * kHidden;
  return phase;
}

std::unique_ptr<abi::PhaseT> makeDraftBody(uint32_t low, uint32_t high) {
  using abi::Arg;
  constexpr auto B = abi::ArgKind::Buffer, W = abi::ArgKind::Weight;
  auto phase = std::make_unique<abi::PhaseT>();
  phase->kind = abi::PhaseKind::DraftBody;
  phase->min_tokens = low;
  phase->max_tokens = high;
  phase->launches.push_back(makeLaunch(4, "draft",
                                       {Arg(B, Tokens), Arg(B, HiddenStates),
                                        Arg(B, DraftHidden), Arg(W, Table)},
                                       1, 1, 1));
  phase->launches.push_back(makeLaunch(
      1, "store", {Arg(B, DraftHidden), Arg(B, DraftCache)}, kHidden, 0, 1));
  phase->launches.push_back(
      makeLaunch(2, "mix", {Arg(B, DraftHidden), Arg(B, DraftCache)}, 1, 1, 1));
  phase->launches[1]->reads_position = true;
  phase->launches[2]->reads_position = true;
  return phase;
}

std::unique_ptr<abi::PhaseT> makeDraftHead() {
  auto phase = makeHead(1, 1);
  phase->kind = abi::PhaseKind::DraftHead;
  phase->launches[0]->args[0] = abi::Arg(abi::ArgKind::Buffer, DraftHidden);
  phase->launches[0]->args[1] = abi::Arg(abi::ArgKind::Buffer, DraftLogits);
  return phase;
}

std::unique_ptr<abi::SectionT> makeSection(const std::string &name,
                                           abi::SectionKind kind) {
  auto section = std::make_unique<abi::SectionT>();
  section->name = name;
  section->kind = kind;
  return section;
}

void appendUtf8(std::string &out, uint32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else {
    out += char(0xc0 | c >> 6);
    out += char(0x80 | (c & 0x3f));
  }
}

} // namespace

ArtifactBuilder::ArtifactBuilder() {
  index.producer = "retort test";
  index.model = std::make_unique<abi::ModelT>();
  abi::ModelT &model = *index.model;
  model.family = "test";
  model.name = "tiny";
  model.vocab_size = kVocab;
  model.hidden_size = kHidden;
  model.num_layers = 1;
  model.num_heads = 1;
  model.num_kv_heads = 1;
  model.head_dim = kHidden;
  model.max_context = kMaxContext;
  model.max_chunk = kMaxChunk;
  model.eos_ids = {kEndToken};
  model.parameters = 2 * kVocab * kHidden;

  auto target = std::make_unique<abi::TargetT>();
  target->name = "host";
  target->triple = hostCpu().arch + "-unknown-linux-gnu";
  index.targets.push_back(std::move(target));

  index.program = std::make_unique<abi::ProgramT>();
  abi::ProgramT &program = *index.program;
  constexpr auto A = abi::BufferKind::Activation, C = abi::BufferKind::Cache;
  program.buffers.push_back(makeBuffer("tokens", A, 4, 0));
  program.buffers.push_back(makeBuffer("hidden", A, 4 * kHidden, 0));
  program.buffers.push_back(makeBuffer("logits", A, 0, 0));
  program.buffers[Logits]->fixed_bytes = 4 * kVocabStride * kHeadTokens;
  program.buffers.push_back(makeBuffer("cache", C, 0, 4 * kHidden));
  program.tokens_buffer = Tokens;
  program.hidden_buffer = HiddenStates;
  program.logits_buffer = Logits;
  program.logits_stride = kVocabStride;
  struct {
    const char *symbol;
    uint32_t args, scratch;
  } kernels[] = {{"test_embed", 3, 0},
                 {"test_store", 2, 0},
                 {"test_mix", 2, 4 * kHidden},
                 {"test_head", 3, 0}};
  for (auto &k : kernels) {
    auto kernel = std::make_unique<abi::KernelT>();
    kernel->symbol = k.symbol;
    kernel->num_args = k.args;
    kernel->scratch_bytes = k.scratch;
    program.kernels.push_back(std::move(kernel));
  }
  program.phases.push_back(makeBody(1, 1));
  program.phases.push_back(makeBody(2, kMaxChunk));
  program.phases.push_back(makeHead(1, 1));
  program.phases.push_back(makeHead(2, kHeadTokens));

  auto code = readFile(RETORT_TEST_KERNELS, 1 << 20);
  must(code.isOk(), "the test kernels can't be read");
  index.sections.push_back(makeSection("code/host", abi::SectionKind::Code));
  sections.push_back(toBytes(asBytes(*code)));

  index.sections.push_back(makeSection("weights", abi::SectionKind::Weights));
  sections.emplace_back();
  uint64_t seeds[] = {kTableSeed, kMatrixSeed};
  const char *names[] = {"embed.weight", "head.weight"};
  for (int i = 0; i < 2; ++i) {
    std::vector<float> values = testMatrix(seeds[i]);
    auto weight = std::make_unique<abi::WeightT>();
    weight->name = names[i];
    weight->encoding = "f32";
    weight->rows = kVocab;
    weight->cols = kHidden;
    weight->offset = sections[1].size();
    weight->size = values.size() * sizeof(float);
    weight->stored_size = roundUp(weight->size, abi::kWeightAlignment);
    weight->sources = {names[i]};
    auto bytes = std::as_bytes(std::span(values));
    sections[1].insert(sections[1].end(), bytes.begin(), bytes.end());
    sections[1].resize(weight->offset + weight->stored_size);
    program.weights.push_back(std::move(weight));
  }

  index.self_test = std::make_unique<abi::SelfTestT>();
  index.self_test->tokens = {72, 101, 108, 108, 111, 44, 32, 119, 111, 114};
  index.self_test->last_logits = expectedLogits(index.self_test->tokens);
  index.self_test->reference = "test";
}

void ArtifactBuilder::addDraft() {
  constexpr auto A = abi::BufferKind::Activation, C = abi::BufferKind::Cache;
  abi::ProgramT &program = *index.program;
  program.buffers.push_back(makeBuffer("draft_hidden", A, 4 * kHidden, 0));
  program.buffers.push_back(makeBuffer("draft_logits", A, 0, 0));
  program.buffers[DraftLogits]->fixed_bytes = 4 * kVocabStride;
  program.buffers.push_back(makeBuffer("draft_cache", C, 0, 4 * kHidden));
  program.draft_hidden_buffer = DraftHidden;
  program.draft_logits_buffer = DraftLogits;
  auto kernel = std::make_unique<abi::KernelT>();
  kernel->symbol = "test_draft";
  kernel->num_args = 4;
  program.kernels.push_back(std::move(kernel));
  program.phases.push_back(makeDraftBody(1, 2));
  program.phases.push_back(makeDraftBody(3, kMaxChunk));
  program.phases.push_back(makeDraftHead());
}

void ArtifactBuilder::addText(const std::string &name, std::string_view text,
                              abi::SectionKind kind) {
  index.sections.push_back(makeSection(name, kind));
  index.sections.back()->raw_size = text.size();
  Bytes packed(ZSTD_compressBound(text.size()));
  packed.resize(
      ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  sections.push_back(std::move(packed));
}

void ArtifactBuilder::addTokenizer() {
  addText("text/tokenizer.json", testTokenizerJson());
  addText(
      "text/tokenizer_config.json",
      R"({"eos_token": "<|end|>", "bos_token": null, "chat_template":)"
      R"( "{% for m in messages %}<|role|>{{ m['role'] }}:{{ m['content'] }})"
      R"(<|end|>{% endfor %}{% if add_generation_prompt %}<|role|>assistant:{% endif %}"})");
}

void ArtifactBuilder::setSection(size_t i, std::span<const std::byte> bytes) {
  sections[i] = toBytes(bytes);
}

abi::BufferT &ArtifactBuilder::buffer(std::string_view name) {
  for (auto &buffer : index.program->buffers)
    if (buffer->name == name)
      return *buffer;
  must(false, "no such buffer");
  std::abort();
}

Bytes ArtifactBuilder::build(const std::function<void(abi::IndexT &)> &edit) {
  Bytes file(abi::kPageSize);
  for (size_t i = 0; i < sections.size(); ++i) {
    abi::SectionT &section = *index.sections[i];
    section.offset = file.size();
    section.size = sections[i].size();
    bool plain = section.kind == abi::SectionKind::Code ||
                 section.kind == abi::SectionKind::Weights;
    if (plain)
      section.raw_size = section.size;
    section.hash =
        section.kind == abi::SectionKind::Weights ? 0 : hashOf(sections[i]);
    if (section.kind == abi::SectionKind::Weights)
      for (auto &weight : index.program->weights)
        if (weight->offset + weight->stored_size <= sections[i].size())
          weight->hash =
              hashOf(std::span(sections[i])
                         .subspan(weight->offset, weight->stored_size));
    file.insert(file.end(), sections[i].begin(), sections[i].end());
    file.resize(roundUp<size_t>(file.size(), abi::kPageSize));
  }
  if (edit)
    edit(index);
  flatbuffers::FlatBufferBuilder fbb;
  fbb.Finish(abi::Index::Pack(fbb, &index), abi::IndexIdentifier());
  std::span packed(reinterpret_cast<const std::byte *>(fbb.GetBufferPointer()),
                   fbb.GetSize());
  abi::FileHeader header{};
  std::memcpy(header.magic, abi::kMagic, sizeof header.magic);
  header.version = abi::kFormatVersion;
  header.headerSize = abi::kPageSize;
  header.indexOffset = file.size();
  header.indexSize = packed.size();
  header.indexHash = hashOf(packed);
  file.insert(file.end(), packed.begin(), packed.end());
  file.resize(roundUp<size_t>(file.size(), abi::kPageSize));
  header.fileSize = file.size();
  std::memcpy(file.data(), &header, sizeof header);
  rehashHeader(file);
  return file;
}

void rehashHeader(Bytes &file) {
  uint64_t hash =
      hashOf(std::span(file).first(offsetof(abi::FileHeader, headerHash)));
  std::memcpy(file.data() + offsetof(abi::FileHeader, headerHash), &hash,
              sizeof hash);
}

AlignedBytes::AlignedBytes(std::span<const std::byte> bytes)
    : data(static_cast<std::byte *>(
          ::operator new(bytes.size(), std::align_val_t(abi::kPageSize)))),
      size(bytes.size()) {
  std::memcpy(data, bytes.data(), size);
}

AlignedBytes::~AlignedBytes() {
  ::operator delete(data, std::align_val_t(abi::kPageSize));
}

TempFile::TempFile(const std::string &name, std::span<const std::byte> bytes)
    : path((std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") +
           std::string("/retort-test-") + std::to_string(::getpid()) + "-" +
           name) {
  if (bytes.empty())
    return;
  std::FILE *file = std::fopen(path.c_str(), "wb");
  must(file &&
           std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() &&
           std::fclose(file) == 0,
       "a temporary file can't be written");
}

TempFile::~TempFile() { ::unlink(path.c_str()); }

namespace {

using Row = std::array<float, kHidden>;

const std::vector<float> &table() {
  static const std::vector<float> values = testMatrix(kTableSeed);
  return values;
}

Row embedding(int32_t token) {
  Row row;
  std::copy_n(&table()[static_cast<size_t>(token) * kHidden], kHidden,
              row.begin());
  return row;
}

/// What test_store and test_mix make of the last row.
Row mixed(std::span<const Row> rows) {
  Row out;
  size_t last = rows.size() - 1;
  for (uint32_t h = 0; h < kHidden; ++h) {
    uint32_t from = (h + 1) % kHidden;
    float sum = 0;
    for (size_t q = 0; q <= last; ++q)
      sum += rows[q][from] / float(last - q + 1);
    out[h] = rows[last][h] * 0.25f + sum;
  }
  return out;
}

Row hiddenAfter(std::span<const int32_t> tokens) {
  std::vector<Row> rows;
  for (int32_t token : tokens)
    rows.push_back(embedding(token));
  return mixed(rows);
}

std::vector<float> logitsOf(const Row &row) {
  static const std::vector<float> matrix = testMatrix(kMatrixSeed);
  std::vector<float> logits(kVocab);
  for (uint32_t v = 0; v < kVocab; ++v)
    for (uint32_t h = 0; h < kHidden; ++h)
      logits[v] += row[h] * matrix[v * kHidden + h];
  return logits;
}

} // namespace

std::vector<float> expectedLogits(std::span<const int32_t> tokens) {
  return logitsOf(hiddenAfter(tokens));
}

std::vector<float> expectedDraft(std::span<const int32_t> tokens) {
  std::vector<Row> rows;
  for (size_t i = 1; i < tokens.size(); ++i) {
    Row next = embedding(tokens[i]);
    Row hidden = hiddenAfter(tokens.first(i));
    for (uint32_t h = 0; h < kHidden; ++h)
      next[h] += hidden[h] / 64;
    rows.push_back(next);
  }
  return logitsOf(mixed(rows));
}

std::string testTokenizerJson() {
  std::string vocab;
  uint32_t extra = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    // Byte-level alphabets show unprintable bytes as characters from 256 on.
    bool shown = (byte >= '!' && byte <= '~') ||
                 (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    std::string text;
    if (byte == '"' || byte == '\\')
      text += '\\';
    appendUtf8(text, shown ? byte : extra++);
    vocab += (byte ? ", \"" : "\"") + text + "\": " + std::to_string(byte);
  }
  std::string added;
  const char *special[] = {"<|role|>", "<|end|>", "<|a|>", "<|b|>"};
  for (int i = 0; i < 4; ++i)
    added += std::string(i ? "," : "") + R"({"id": )" +
             std::to_string(256 + i) + R"(, "content": ")" + special[i] +
             R"(", "single_word": false, "lstrip": false, "rstrip": false,)"
             R"( "normalized": false, "special": true})";
  return R"({"version": "1.0", "truncation": null, "padding": null,)"
         R"( "added_tokens": [)" +
         added +
         R"(], "normalizer": null,)"
         R"( "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,)"
         R"( "trim_offsets": true, "use_regex": false},)"
         R"( "post_processor": null,)"
         R"( "decoder": {"type": "ByteLevel", "add_prefix_space": true,)"
         R"( "trim_offsets": true, "use_regex": true},)"
         R"( "model": {"type": "BPE", "dropout": null, "unk_token": null,)"
         R"( "continuing_subword_prefix": null, "end_of_word_suffix": null,)"
         R"( "fuse_unk": false, "byte_fallback": false, "vocab": {)" +
         vocab + R"(}, "merges": []}})";
}

} // namespace retort::test
