//===- ArtifactWriter.cpp - Writing artifacts -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ArtifactWriter.h"

#include "runtime/abi/Format.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <set>
#include <xxhash.h>
#include <zstd.h>

namespace retort {
namespace {

/// Texts are a few MB: this level takes well under a second and is within a
/// few percent of the strongest.
constexpr int kZstdLevel = 9;
/// Files are copied in pieces of this many bytes.
constexpr size_t kCopyBytes = size_t(4) << 20;

uint64_t roundToPage(uint64_t bytes) { return roundUp(bytes, abi::kPageSize); }

std::span<const std::byte> asBytes(const void *data, size_t size) {
  return {static_cast<const std::byte *>(data), size};
}

Result<std::vector<std::byte>> compress(const TextSection &section) {
  std::vector<std::byte> out(ZSTD_compressBound(section.text.size()));
  size_t size = ZSTD_compress(out.data(), out.size(), section.text.data(),
                              section.text.size(), kZstdLevel);
  if (ZSTD_isError(size))
    return Status::error(Code::Internal,
                         "section '" + section.name +
                             "': cannot compress: " + ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

std::unique_ptr<abi::WeightT> describeWeight(const WeightSpec &spec,
                                             const PackedWeight &packed) {
  auto weight = std::make_unique<abi::WeightT>();
  weight->name = spec.name;
  weight->encoding = spec.form == WeightForm::Matrix ? spec.encoding.str()
                                                     : PackedEncoding{}.str();
  weight->rows = static_cast<uint64_t>(spec.rows);
  weight->cols = static_cast<uint64_t>(spec.cols);
  weight->offset = packed.offset;
  weight->size = packed.size;
  weight->stored_size = packed.storedSize;
  weight->hash = packed.hash;
  weight->relative_error = packed.relativeError;
  std::set<std::string_view> seen;
  for (const RowRun &run : spec.rowRuns)
    if (seen.insert(run.tensor).second)
      weight->sources.push_back(run.tensor);
  return weight;
}

void describeWeights(ArtifactContents &contents,
                     std::span<const PackedWeight> packed) {
  auto &weights = contents.index.program->weights;
  weights.clear();
  for (size_t i = 0; i < packed.size(); ++i)
    weights.push_back(describeWeight(contents.weights[i], packed[i]));
}

/// Copies a mapped file to `offset`, without keeping it resident.
Status copyFile(const MappedFile &from, OutputFile &to, uint64_t offset) {
  std::span<const std::byte> bytes = from.bytes();
  for (size_t at = 0; at < bytes.size(); at += kCopyBytes) {
    size_t size = std::min(kCopyBytes, bytes.size() - at);
    RETORT_RETURN_IF_ERROR(to.writeAt(offset + at, bytes.subspan(at, size)));
    from.dropResident(at, size);
  }
  return Status::ok();
}

/// Zeros up to the next page boundary, so that the file ends there.
Status padToPage(OutputFile &file, uint64_t offset) {
  static const std::byte zeros[abi::kPageSize] = {};
  return file.writeAt(offset, asBytes(zeros, roundToPage(offset) - offset));
}

/// The runtime in front of a standalone model. Returns where the artifact
/// begins.
Result<uint64_t> writeRuntime(const std::string &path, OutputFile &file) {
  RETORT_ASSIGN_OR_RETURN(MappedFile runtime, MappedFile::open(path));
  constexpr std::string_view kElfMagic = "\x7f"
                                         "ELF";
  if (!runtime.text().starts_with(kElfMagic))
    return Status::error(Code::InvalidData,
                         path + ": expected an ELF executable");
  uint64_t size = runtime.bytes().size();
  RETORT_RETURN_IF_ERROR(copyFile(runtime, file, 0));
  RETORT_RETURN_IF_ERROR(padToPage(file, size));
  return roundToPage(size);
}

Status writeFooter(OutputFile &file, uint64_t artifactOffset,
                   uint64_t artifactSize) {
  abi::StandaloneFooter footer{artifactOffset, artifactSize, {}};
  std::memcpy(footer.magic, abi::kFooterMagic, sizeof(footer.magic));
  return file.writeAt(artifactOffset + artifactSize,
                      asBytes(&footer, sizeof(footer)));
}

/// Writes an artifact at `base` of a file, section after section.
class Writer {
public:
  Writer(ArtifactContents &contents, OutputFile &file, uint64_t base)
      : contents(contents), index(contents.index), file(file), base(base) {}

  Result<ArtifactSizes> write(const checkpoint::Checkpoint &checkpoint,
                              const PackOptions &options) {
    RETORT_RETURN_IF_ERROR(checkContents());
    index.sections.clear();
    for (const CodeSection &code : contents.codes) {
      sizes.code += code.bytes.size();
      RETORT_RETURN_IF_ERROR(writeSection(code.name, abi::SectionKind::Code,
                                          code.bytes, code.bytes.size()));
    }
    for (const TextSection &text : contents.texts) {
      RETORT_ASSIGN_OR_RETURN(std::vector<std::byte> stored, compress(text));
      sizes.texts += stored.size();
      RETORT_RETURN_IF_ERROR(
          writeSection(text.name, text.kind, stored, text.text.size()));
    }
    RETORT_RETURN_IF_ERROR(writeWeights(checkpoint, options));
    indexOffset = end;
    return writeIndex();
  }

  /// Writes the index and the header that points to it; may be called again
  /// when the index has grown.
  Result<ArtifactSizes> writeIndex();

private:
  Status checkContents() {
    std::set<std::string_view> names{"weights"};
    auto check = [&](const std::string &name) {
      if (!names.insert(name).second)
        return Status::error(Code::InvalidArgument,
                             "two sections are named '" + name + "'");
      return Status::ok();
    };
    for (const CodeSection &code : contents.codes)
      RETORT_RETURN_IF_ERROR(check(code.name));
    for (const TextSection &text : contents.texts)
      RETORT_RETURN_IF_ERROR(check(text.name));
    std::set<std::string_view> weights;
    for (const WeightSpec &spec : contents.weights)
      if (!weights.insert(spec.name).second)
        return Status::error(Code::InvalidArgument,
                             "two weights are named '" + spec.name + "'");
    if (!index.model || !index.program)
      return Status::error(Code::InvalidArgument,
                           "an artifact needs a model and a program");
    for (const auto &target : index.targets)
      if (!target || target->section >= contents.codes.size())
        return Status::error(Code::InvalidArgument,
                             "a target names a code section that is not there");
    return Status::ok();
  }

  abi::SectionT &addSection(const std::string &name, abi::SectionKind kind,
                            uint64_t size, uint64_t rawSize) {
    auto section = std::make_unique<abi::SectionT>();
    section->name = name;
    section->kind = kind;
    section->offset = end;
    section->size = size;
    section->raw_size = rawSize;
    end = roundToPage(end + size);
    index.sections.push_back(std::move(section));
    return *index.sections.back();
  }

  Status writeSection(const std::string &name, abi::SectionKind kind,
                      std::span<const std::byte> bytes, uint64_t rawSize) {
    abi::SectionT &section = addSection(name, kind, bytes.size(), rawSize);
    section.hash = XXH3_64bits(bytes.data(), bytes.size());
    RETORT_RETURN_IF_ERROR(file.writeAt(base + section.offset, bytes));
    return padToPage(file, base + section.offset + bytes.size());
  }

  Status writeWeights(const checkpoint::Checkpoint &checkpoint,
                      const PackOptions &options) {
    RETORT_ASSIGN_OR_RETURN(sizes.weights,
                            weightsSectionBytes(contents.weights));
    index.program->without_weights = contents.withoutWeights;
    if (contents.withoutWeights) {
      describeWeights(contents, placeWeights(contents.weights));
      return Status::ok();
    }
    abi::SectionT &section = addSection("weights", abi::SectionKind::Weights,
                                        sizes.weights, sizes.weights);
    RETORT_ASSIGN_OR_RETURN(std::vector<PackedWeight> packed,
                            packWeights(contents.weights, checkpoint, file,
                                        base + section.offset, options));
    describeWeights(contents, packed);
    return padToPage(file, base + section.offset + section.size);
  }

  ArtifactContents &contents;
  abi::IndexT &index;
  OutputFile &file;
  uint64_t base;
  uint64_t end = abi::kPageSize; ///< of what is laid out, from `base`
  uint64_t indexOffset = 0;
  ArtifactSizes sizes;
};

Result<ArtifactSizes> Writer::writeIndex() {
  flatbuffers::FlatBufferBuilder builder;
  abi::FinishIndexBuffer(builder, abi::Index::Pack(builder, &index));
  auto bytes = asBytes(builder.GetBufferPointer(), builder.GetSize());

  abi::FileHeader header{};
  std::memcpy(header.magic, abi::kMagic, sizeof(header.magic));
  header.version = abi::kFormatVersion;
  header.headerSize = abi::kPageSize;
  header.indexOffset = indexOffset;
  header.indexSize = bytes.size();
  header.indexHash = XXH3_64bits(bytes.data(), bytes.size());
  header.fileSize = roundToPage(indexOffset + bytes.size());
  header.headerHash =
      XXH3_64bits(&header, offsetof(abi::FileHeader, headerHash));

  RETORT_RETURN_IF_ERROR(file.writeAt(base + header.indexOffset, bytes));
  RETORT_RETURN_IF_ERROR(
      padToPage(file, base + header.indexOffset + bytes.size()));
  RETORT_RETURN_IF_ERROR(file.writeAt(base, asBytes(&header, sizeof(header))));
  RETORT_RETURN_IF_ERROR(padToPage(file, base + sizeof(header)));
  sizes.file = header.fileSize;
  return sizes;
}

/// Checks the header of an artifact that fills its file.
Status checkArtifact(const MappedFile &artifact, const std::string &path) {
  abi::FileHeader header;
  std::span<const std::byte> bytes = artifact.bytes();
  auto invalid = [&](const std::string &what) {
    return Status::error(Code::InvalidData, path + ": " + what);
  };
  if (bytes.size() < sizeof(header))
    return invalid("expected an artifact, found " +
                   std::to_string(bytes.size()) + " bytes");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, abi::kMagic, sizeof(header.magic)) != 0)
    return invalid("expected an artifact's signature");
  if (header.headerHash !=
      XXH3_64bits(&header, offsetof(abi::FileHeader, headerHash)))
    return invalid("the header's hash does not match");
  if (header.fileSize != bytes.size())
    return invalid("expected " + std::to_string(header.fileSize) +
                   " bytes, found " + std::to_string(bytes.size()));
  return Status::ok();
}

} // namespace

Result<ArtifactSizes> writeArtifact(ArtifactContents &contents,
                                    const checkpoint::Checkpoint &checkpoint,
                                    const std::string &path,
                                    const PackOptions &options) {
  try {
    RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
    bool isStandalone = !contents.standaloneRuntime.empty();
    uint64_t base = 0;
    if (isStandalone) {
      RETORT_ASSIGN_OR_RETURN(base,
                              writeRuntime(contents.standaloneRuntime, file));
    }
    Writer writer(contents, file, base);
    RETORT_ASSIGN_OR_RETURN(ArtifactSizes sizes,
                            writer.write(checkpoint, options));
    if (isStandalone)
      RETORT_RETURN_IF_ERROR(writeFooter(file, base, sizes.file));
    if (contents.examine) {
      RETORT_ASSIGN_OR_RETURN(
          bool changed, contents.examine(file.temporaryPath(), contents.index));
      if (changed) {
        RETORT_ASSIGN_OR_RETURN(sizes, writer.writeIndex());
        if (isStandalone)
          RETORT_RETURN_IF_ERROR(writeFooter(file, base, sizes.file));
      }
    }
    if (isStandalone)
      sizes.file += base + sizeof(abi::StandaloneFooter);
    if (options.cancel && options.cancel->load())
      return Status::error(Code::Cancelled, "writing was cancelled");
    RETORT_RETURN_IF_ERROR(file.commit(isStandalone));
    return sizes;
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory,
                         path + ": no memory to write the artifact");
  }
}

Result<ArtifactSizes> predictArtifact(ArtifactContents &contents,
                                      std::vector<std::byte> &index) {
  ArtifactSizes sizes;
  RETORT_ASSIGN_OR_RETURN(sizes.weights, weightsSectionBytes(contents.weights));
  sizes.file = abi::kPageSize + roundToPage(sizes.weights);
  for (const CodeSection &code : contents.codes) {
    sizes.code += code.bytes.size();
    sizes.file += roundToPage(code.bytes.size());
  }
  for (const TextSection &text : contents.texts) {
    RETORT_ASSIGN_OR_RETURN(std::vector<std::byte> stored, compress(text));
    sizes.texts += stored.size();
    sizes.file += roundToPage(stored.size());
  }
  describeWeights(contents, placeWeights(contents.weights));
  flatbuffers::FlatBufferBuilder builder;
  abi::FinishIndexBuffer(builder, abi::Index::Pack(builder, &contents.index));
  auto bytes = asBytes(builder.GetBufferPointer(), builder.GetSize());
  index.assign(bytes.begin(), bytes.end());
  sizes.file += roundToPage(index.size());
  return sizes;
}

Status writeStandalone(const std::string &runtimePath,
                       const std::string &artifactPath,
                       const std::string &outPath) {
  RETORT_ASSIGN_OR_RETURN(MappedFile artifact, MappedFile::open(artifactPath));
  RETORT_RETURN_IF_ERROR(checkArtifact(artifact, artifactPath));
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(outPath));
  RETORT_ASSIGN_OR_RETURN(uint64_t base, writeRuntime(runtimePath, file));
  RETORT_RETURN_IF_ERROR(copyFile(artifact, file, base));
  RETORT_RETURN_IF_ERROR(writeFooter(file, base, artifact.bytes().size()));
  return file.commit(/*executable=*/true);
}

} // namespace retort
