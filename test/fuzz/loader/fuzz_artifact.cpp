//===- fuzz_artifact.cpp - Artifacts from hostile hands ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input is taken four times: as a whole file, as the index of a good file,
// whose header and sections are right, as the front of a part, and as a
// certificate. Hashes are not compared, as they would keep the fuzzer from
// everything behind them. What passes the checks is read the way the tools read
// it; code is not loaded.
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Ledger.h"
#include "runtime/engine/Memory.h"
#include "runtime/loader/Artifact.h"
#include "runtime/loader/Certificate.h"
#include "runtime/loader/Cpu.h"
#include "runtime/loader/Elf.h"
#include "runtime/loader/Parts.h"
#include "runtime/support/CheckedMath.h"
#include "test/unit/loader/ArtifactBuilder.h"

#include <cstring>

using namespace retort;
using namespace retort::test;

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maxSize);

namespace {

/// A good file without self test, which would fill the index with numbers.
const Bytes &goodFile() {
  static const Bytes file = [] {
    ArtifactBuilder builder;
    builder.index.self_test.reset();
    builder.addText("text/config.json", "{}");
    return builder.build();
  }();
  return file;
}

/// The index of a split artifact.
const std::vector<uint8_t> &splitIndex() {
  static const std::vector<uint8_t> bytes = [] {
    ArtifactBuilder builder;
    builder.index.weights_id = 1;
    for (uint64_t size : {retort::abi::kPartAlignment, uint64_t(64)}) {
      builder.index.parts.push_back(std::make_unique<retort::abi::PartT>());
      builder.index.parts.back()->name = "x.retort-part";
      builder.index.parts.back()->size = size;
    }
    flatbuffers::FlatBufferBuilder fbb;
    fbb.Finish(retort::abi::Index::Pack(fbb, &builder.index),
               retort::abi::IndexIdentifier());
    return std::vector<uint8_t>(fbb.GetBufferPointer(),
                                fbb.GetBufferPointer() + fbb.GetSize());
  }();
  return bytes;
}

void tryPart(std::span<const std::byte> bytes) {
  const auto *index = retort::abi::GetIndex(splitIndex().data());
  for (uint32_t i = 0; i < 2; ++i) {
    uint64_t size =
        retort::abi::kPartAlignment + index->parts()->Get(i)->size();
    (void)checkPart(*index, i, bytes, size, /*ignoreHashes=*/true).isOk();
    (void)checkPart(*index, i, bytes, bytes.size(), false).isOk();
  }
}

retort::abi::FileHeader headerOf(const Bytes &file) {
  retort::abi::FileHeader header;
  std::memcpy(&header, file.data(), sizeof header);
  return header;
}

void use(const Artifact &artifact) {
  const retort::abi::Index &index = artifact.index();
  (void)chooseTarget(index, hostCpu()).isOk();
  (void)predictMemory(index, index.model()->max_context(), 4).isOk();
  (void)stepWork(*index.program(), 1, index.model()->max_context() - 1);
  (void)artifact.verifyWeights(1).isOk();
  (void)readCertificate(artifact).isOk();
  for (uint32_t i = 0; i < index.program()->weights()->size(); ++i)
    for (std::byte b : artifact.weight(i))
      asm volatile("" ::"r"(b));
  for (const auto *section : *index.sections())
    (void)artifact.text(section->name()->string_view()).isOk();
  for (const auto *target : *index.targets())
    (void)readElf(artifact.section(target->section())).isOk();
}

void tryOpen(std::span<const std::byte> bytes) {
  OpenOptions options;
  options.ignoreHashes = true;
  options.threads = 1;
  AlignedBytes aligned(bytes);
  auto artifact = Artifact::openMemory(aligned.span(), options);
  if (artifact.isOk())
    use(**artifact);
}

void tryCertificate(std::string_view bytes) {
  auto header = headerOf(goodFile());
  const auto &index =
      *retort::abi::GetIndex(goodFile().data() + header.indexOffset);
  (void)parseCertificate(bytes, index).isOk();
  // The hash of the weights would keep the fuzzer from what is behind it.
  const auto *begin = reinterpret_cast<const uint8_t *>(bytes.data());
  flatbuffers::Verifier verifier(begin, bytes.size());
  if (!retort::abi::VerifyCertificateBuffer(verifier))
    return;
  retort::abi::CertificateT certificate;
  retort::abi::GetCertificate(begin)->UnPackTo(&certificate);
  certificate.weights = hashWeights(*index.program());
  (void)parseCertificate(encodeCertificate(certificate), index).isOk();
}

} // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size,
                                          size_t maxSize, unsigned seed) {
  auto header = headerOf(goodFile());
  if (size < 64 && header.indexSize <= maxSize) {
    std::memcpy(data, goodFile().data() + header.indexOffset, header.indexSize);
    size = header.indexSize;
  }
  return LLVMFuzzerMutate(data, size, maxSize);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto input = std::as_bytes(std::span(data, size));
  tryOpen(input);
  tryPart(input);
  tryCertificate({reinterpret_cast<const char *>(data), size});
  auto header = headerOf(goodFile());
  Bytes file(goodFile().begin(), goodFile().begin() + header.indexOffset);
  file.insert(file.end(), input.begin(), input.end());
  file.resize(roundUp<size_t>(file.size(), retort::abi::kPageSize));
  header.indexSize = size;
  header.fileSize = file.size();
  std::memcpy(file.data(), &header, sizeof header);
  tryOpen(file);
  return 0;
}
