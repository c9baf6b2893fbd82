//===- ArtifactWriter.cpp - Writing artifacts -------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/ArtifactWriter.h"

#include "compiler/pack/PackInputs.h"
#include "runtime/abi/Format.h"
#include "runtime/loader/Certificate.h"
#include "runtime/loader/Parts.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
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
Status copyFile(const MappedFile &from, WritableFile &to, uint64_t offset) {
  std::span<const std::byte> bytes = from.bytes();
  for (size_t at = 0; at < bytes.size(); at += kCopyBytes) {
    size_t size = std::min(kCopyBytes, bytes.size() - at);
    RETORT_RETURN_IF_ERROR(to.writeAt(offset + at, bytes.subspan(at, size)));
    from.dropResident(at, size);
  }
  return Status::ok();
}

/// Zeros up to the next page boundary, so that the file ends there.
Status padToPage(WritableFile &file, uint64_t offset) {
  static const std::byte zeros[abi::kPageSize] = {};
  return file.writeAt(offset, asBytes(zeros, roundToPage(offset) - offset));
}

/// The runtime that goes in front of a standalone model.
Result<MappedFile> openRuntime(const std::string &path) {
  RETORT_ASSIGN_OR_RETURN(MappedFile runtime, MappedFile::open(path));
  constexpr std::string_view kElfMagic = "\x7f"
                                         "ELF";
  if (!runtime.text().starts_with(kElfMagic))
    return Status::error(Code::InvalidData,
                         path + ": expected an ELF executable");
  return runtime;
}

Status writeRuntime(const MappedFile &runtime, WritableFile &file) {
  RETORT_RETURN_IF_ERROR(copyFile(runtime, file, 0));
  return padToPage(file, runtime.bytes().size());
}

Status writeFooter(WritableFile &file, uint64_t artifactOffset,
                   uint64_t artifactSize) {
  abi::StandaloneFooter footer{artifactOffset, artifactSize, {}};
  std::memcpy(footer.magic, abi::kFooterMagic, sizeof(footer.magic));
  return file.writeAt(artifactOffset + artifactSize,
                      asBytes(&footer, sizeof(footer)));
}

/// A file's name without folder and ".retort".
std::string stemOf(const std::string &path) {
  constexpr std::string_view kSuffix = ".retort";
  std::string stem = path.substr(path.rfind('/') + 1);
  if (stem.size() > kSuffix.size() && stem.ends_with(kSuffix))
    stem.resize(stem.size() - kSuffix.size());
  return stem;
}

/// How weights are cut into parts of at most `partBytes` with their headers.
Result<std::vector<WeightPiece>>
cutParts(const std::string &path, uint64_t weightBytes, uint64_t partBytes) {
  constexpr uint64_t kUnit = abi::kPartAlignment;
  uint64_t least =
      kUnit +
      std::max(kUnit, roundUp(ceilDiv(weightBytes, abi::kMaxParts), kUnit));
  if (partBytes < least)
    return Status::error(Code::InvalidArgument,
                         "--split: expected at least " + std::to_string(least) +
                             " bytes, for at most " +
                             std::to_string(abi::kMaxParts) + " parts, found " +
                             std::to_string(partBytes));
  uint64_t most = partBytes / kUnit * kUnit - kUnit;
  uint64_t count = ceilDiv(weightBytes, most);
  std::string stem = stemOf(path);
  std::vector<WeightPiece> pieces;
  for (uint64_t i = 0; i < count; ++i) {
    char number[48];
    std::snprintf(number, sizeof number, "-%05llu-of-%05llu",
                  static_cast<unsigned long long>(i + 1),
                  static_cast<unsigned long long>(count));
    std::string name = stem + number + std::string(kPartSuffix);
    if (!isPartName(name))
      return Status::error(Code::InvalidArgument,
                           path + ": parts can't have this name with a number "
                                  "behind it");
    pieces.push_back({name, kUnit, std::min(most, weightBytes - i * most)});
  }
  return pieces;
}

/// Writes an artifact at `base` of a file, section after section.
class Writer {
public:
  Writer(ArtifactContents &contents, uint64_t base)
      : contents(contents), index(contents.index), base(base) {}

  /// Gives everything its place.
  Result<OutputPlan> layOut(const checkpoint::Checkpoint &checkpoint,
                            const std::string &path);
  /// Follows the plan.
  Result<ArtifactSizes> write(const checkpoint::Checkpoint &checkpoint,
                              const PackOptions &options,
                              PartialOutput &output);
  /// Writes the index and the header that points to it; may be called again
  /// when the index has grown.
  Result<ArtifactSizes> writeIndex(WritableFile &file);

  /// Writes the certificate behind what is laid out, where an index may lie
  /// that has to be written again.
  Status writeCertificate(WritableFile &file);

  uint64_t artifactBytes = 0; ///< of the file, without what is in front

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

  Status writeParts(PartialOutput &output);

  ArtifactContents &contents;
  abi::IndexT &index;
  uint64_t base;
  std::vector<std::vector<std::byte>> storedTexts; ///< compressed
  std::vector<WeightPiece> pieces;
  uint64_t end = abi::kPageSize; ///< of what is laid out, from `base`
  ArtifactSizes sizes;
};

Result<OutputPlan> Writer::layOut(const checkpoint::Checkpoint &checkpoint,
                                  const std::string &path) {
  RETORT_RETURN_IF_ERROR(checkContents());
  index.sections.clear();
  index.parts.clear();
  index.weights_id = 0;
  for (const CodeSection &code : contents.codes) {
    sizes.code += code.bytes.size();
    addSection(code.name, abi::SectionKind::Code, code.bytes.size(),
               code.bytes.size())
        .hash = XXH3_64bits(code.bytes.data(), code.bytes.size());
  }
  for (const TextSection &text : contents.texts) {
    RETORT_ASSIGN_OR_RETURN(std::vector<std::byte> stored, compress(text));
    sizes.texts += stored.size();
    addSection(text.name, text.kind, stored.size(), text.text.size()).hash =
        XXH3_64bits(stored.data(), stored.size());
    storedTexts.push_back(std::move(stored));
  }
  RETORT_ASSIGN_OR_RETURN(sizes.weights, weightsSectionBytes(contents.weights));
  index.program->without_weights = contents.withoutWeights;
  OutputPlan plan;
  if (contents.withoutWeights)
    return plan;
  plan.placed = placeWeights(contents.weights);
  RETORT_ASSIGN_OR_RETURN(plan.inputs,
                          packInputs(contents.weights, checkpoint));
  plan.inputs.push_back({"Retort's version", index.producer});
  for (const auto &property : index.properties) {
    std::string flag = "--" + property->key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    plan.inputs.push_back({std::move(flag), property->value});
  }
  plan.inputs.push_back({"--split", std::to_string(contents.partBytes)});
  if (contents.partBytes != 0) {
    RETORT_ASSIGN_OR_RETURN(plan.pieces,
                            cutParts(path, sizes.weights, contents.partBytes));
    sizes.parts = plan.pieces.size();
  } else {
    uint64_t offset = addSection("weights", abi::SectionKind::Weights,
                                 sizes.weights, sizes.weights)
                          .offset;
    plan.pieces = {{"", base + offset, sizes.weights}};
    plan.inputs.push_back(
        {"the code or the texts", std::to_string(base + offset)});
  }
  pieces = plan.pieces;
  return plan;
}

Result<ArtifactSizes> Writer::write(const checkpoint::Checkpoint &checkpoint,
                                    const PackOptions &options,
                                    PartialOutput &output) {
  WritableFile &file = output.main();
  for (size_t i = 0; i < contents.codes.size() + storedTexts.size(); ++i) {
    const std::vector<std::byte> &bytes =
        i < contents.codes.size() ? contents.codes[i].bytes
                                  : storedTexts[i - contents.codes.size()];
    uint64_t offset = base + index.sections[i]->offset;
    RETORT_RETURN_IF_ERROR(file.writeAt(offset, bytes));
    RETORT_RETURN_IF_ERROR(padToPage(file, offset + bytes.size()));
  }
  if (contents.withoutWeights) {
    describeWeights(contents, placeWeights(contents.weights));
    return writeIndex(file);
  }
  RETORT_ASSIGN_OR_RETURN(
      std::vector<PackedWeight> packed,
      packWeights(contents.weights, checkpoint, output, options));
  describeWeights(contents, packed);
  if (contents.partBytes != 0)
    RETORT_RETURN_IF_ERROR(writeParts(output));
  else
    RETORT_RETURN_IF_ERROR(
        padToPage(file, pieces[0].fileOffset + sizes.weights));
  return writeIndex(file);
}

Status Writer::writeParts(PartialOutput &output) {
  index.weights_id = hashWeights(*index.program);
  for (size_t i = 0; i < pieces.size(); ++i) {
    auto part = std::make_unique<abi::PartT>();
    part->name = pieces[i].part;
    part->size = pieces[i].size;
    index.parts.push_back(std::move(part));
    abi::PartHeader header{};
    std::memcpy(header.magic, abi::kPartMagic, sizeof(header.magic));
    header.version = abi::kPartVersion;
    header.headerSize = abi::kPartAlignment;
    header.weightsId = index.weights_id;
    header.number = static_cast<uint32_t>(i + 1);
    header.count = static_cast<uint32_t>(pieces.size());
    header.size = pieces[i].size;
    header.headerHash =
        XXH3_64bits(&header, offsetof(abi::PartHeader, headerHash));
    std::vector<std::byte> front(abi::kPartAlignment);
    std::memcpy(front.data(), &header, sizeof(header));
    RETORT_RETURN_IF_ERROR(output.writePartFront(i, front));
  }
  return Status::ok();
}

Status Writer::writeCertificate(WritableFile &file) {
  TextSection section{kCertificateSection, contents.certificate,
                      abi::SectionKind::Data};
  RETORT_ASSIGN_OR_RETURN(std::vector<std::byte> stored, compress(section));
  uint64_t offset = base + end;
  addSection(section.name, section.kind, stored.size(), section.text.size())
      .hash = XXH3_64bits(stored.data(), stored.size());
  RETORT_RETURN_IF_ERROR(file.writeAt(offset, stored));
  return padToPage(file, offset + stored.size());
}

Result<ArtifactSizes> Writer::writeIndex(WritableFile &file) {
  flatbuffers::FlatBufferBuilder builder;
  abi::FinishIndexBuffer(builder, abi::Index::Pack(builder, &index));
  auto bytes = asBytes(builder.GetBufferPointer(), builder.GetSize());

  abi::FileHeader header{};
  std::memcpy(header.magic, abi::kMagic, sizeof(header.magic));
  header.version = abi::kFormatVersion;
  header.headerSize = abi::kPageSize;
  header.indexOffset = end;
  header.indexSize = bytes.size();
  header.indexHash = XXH3_64bits(bytes.data(), bytes.size());
  header.fileSize = roundToPage(end + bytes.size());
  header.headerHash =
      XXH3_64bits(&header, offsetof(abi::FileHeader, headerHash));

  RETORT_RETURN_IF_ERROR(file.writeAt(base + header.indexOffset, bytes));
  RETORT_RETURN_IF_ERROR(
      padToPage(file, base + header.indexOffset + bytes.size()));
  RETORT_RETURN_IF_ERROR(file.writeAt(base, asBytes(&header, sizeof(header))));
  RETORT_RETURN_IF_ERROR(padToPage(file, base + sizeof(header)));
  sizes.file = header.fileSize;
  for (const auto &part : index.parts)
    sizes.file += abi::kPartAlignment + part->size;
  artifactBytes = header.fileSize;
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

/// The files of an older artifact of this name that aren't parts of the new
/// one.
std::vector<std::string> leftoverParts(const std::string &path,
                                       const abi::IndexT &index) {
  namespace fs = std::filesystem;
  std::set<std::string> own;
  for (const auto &part : index.parts)
    own.insert(part->name);
  std::string folder = path.substr(0, path.rfind('/') + 1);
  std::string stem = stemOf(path) + "-";
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, error), end;
       !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    constexpr std::string_view kPattern = "00000-of-00000";
    std::string_view rest = name;
    if (!name.starts_with(stem) || !name.ends_with(kPartSuffix) ||
        own.contains(name))
      continue;
    rest.remove_prefix(stem.size());
    rest.remove_suffix(kPartSuffix.size());
    if (rest.size() == kPattern.size() && rest.substr(5, 4) == "-of-")
      found.push_back(folder + name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

Result<ArtifactSizes> writeTo(PartialOutput &output, ArtifactContents &contents,
                              const checkpoint::Checkpoint &checkpoint,
                              const std::string &path,
                              const WriteOptions &options) {
  const std::atomic<bool> *cancel = options.pack.cancel;
  bool isStandalone = !contents.standaloneRuntime.empty();
  MappedFile runtime;
  if (isStandalone) {
    RETORT_ASSIGN_OR_RETURN(runtime, openRuntime(contents.standaloneRuntime));
  }
  uint64_t base = roundToPage(runtime.bytes().size());
  Writer writer(contents, base);
  RETORT_ASSIGN_OR_RETURN(OutputPlan plan, writer.layOut(checkpoint, path));
  ResumeOptions resume = options.resume;
  resume.cancel = cancel;
  RETORT_RETURN_IF_ERROR(output.begin(std::move(plan), resume));
  WritableFile &file = output.main();
  if (isStandalone)
    RETORT_RETURN_IF_ERROR(writeRuntime(runtime, file));
  RETORT_ASSIGN_OR_RETURN(ArtifactSizes sizes,
                          writer.write(checkpoint, options.pack, output));
  auto footer = [&] {
    return isStandalone ? writeFooter(file, base, writer.artifactBytes)
                        : Status::ok();
  };
  RETORT_RETURN_IF_ERROR(footer());
  if (contents.examine) {
    RETORT_ASSIGN_OR_RETURN(
        bool changed, contents.examine(output.mainPath(), contents.index));
    if (changed) {
      if (!contents.certificate.empty())
        RETORT_RETURN_IF_ERROR(writer.writeCertificate(file));
      RETORT_ASSIGN_OR_RETURN(sizes, writer.writeIndex(file));
      RETORT_RETURN_IF_ERROR(footer());
    }
  }
  if (isStandalone)
    sizes.file += base + sizeof(abi::StandaloneFooter);
  if (cancel && cancel->load())
    return Status::error(Code::Cancelled, "writing was cancelled");
  RETORT_RETURN_IF_ERROR(output.commit(isStandalone));
  std::vector<std::string> left = leftoverParts(path, contents.index);
  if (!left.empty() && resume.note)
    resume.note(left[0] +
                (left.size() > 1
                     ? " and " + std::to_string(left.size() - 1) + " more"
                     : std::string()) +
                " belong to an older artifact of this name");
  return sizes;
}

} // namespace

Result<ArtifactSizes> writeArtifact(ArtifactContents &contents,
                                    const checkpoint::Checkpoint &checkpoint,
                                    const std::string &path,
                                    const WriteOptions &options) {
  try {
    RETORT_ASSIGN_OR_RETURN(std::unique_ptr<PartialOutput> output,
                            PartialOutput::open(path));
    auto sizes = writeTo(*output, contents, checkpoint, path, options);
    if (sizes)
      return sizes;
    // The same input would fail again.
    Code code = sizes.status().code();
    if (code == Code::InvalidData || code == Code::InvalidArgument ||
        code == Code::NotFound || code == Code::Unsupported)
      output->discard();
    else if (output->holdsFinished() && options.resume.note)
      options.resume.note(output->describe() +
                          ": the same command goes on from there");
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
  RETORT_ASSIGN_OR_RETURN(MappedFile runtime, openRuntime(runtimePath));
  RETORT_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create(outPath));
  WritableFile &file = output.file();
  uint64_t base = roundToPage(runtime.bytes().size());
  RETORT_RETURN_IF_ERROR(writeRuntime(runtime, file));
  RETORT_RETURN_IF_ERROR(copyFile(artifact, file, base));
  RETORT_RETURN_IF_ERROR(writeFooter(file, base, artifact.bytes().size()));
  return output.commit(/*executable=*/true);
}

} // namespace retort
