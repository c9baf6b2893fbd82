//===- Certificate.cpp - What an artifact says of its fidelity ------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Certificate.h"

#include "runtime/abi/Format.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/Sha256.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <xxhash.h>
#include <zstd.h>

namespace retort {
namespace {

/// As the compiler compresses texts.
constexpr int kZstdLevel = 9;
constexpr size_t kCopyBytes = size_t(4) << 20;

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

uint64_t roundToPage(uint64_t bytes) { return roundUp(bytes, abi::kPageSize); }

template <typename Weights> uint64_t hashFields(const Weights &each) {
  std::vector<uint64_t> fields;
  each([&](std::string_view name, uint64_t offset, uint64_t size,
           uint64_t hash) {
    fields.insert(
        fields.end(),
        {uint64_t(XXH3_64bits(name.data(), name.size())), offset, size, hash});
  });
  return XXH3_64bits(fields.data(), fields.size() * sizeof(uint64_t));
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

Status checkDigest(const std::string &where, const std::vector<uint8_t> &sha) {
  if (sha.size() == sizeof(Sha256Digest))
    return Status::ok();
  return invalid(where + ": sha256: expected 32 bytes, found " +
                 std::to_string(sha.size()));
}

Status checkFinite(const std::string &where, std::span<const double> values) {
  for (double value : values)
    if (!std::isfinite(value))
      return invalid(where + ": expected a finite number, found " +
                     std::to_string(value));
  return Status::ok();
}

Status checkIds(const std::string &where, const std::vector<int32_t> &ids,
                const abi::Model &model) {
  for (int32_t id : ids)
    if (id < 0 || uint32_t(id) >= model.vocab_size())
      return invalid(where + ": expected ids below " +
                     std::to_string(model.vocab_size()) + ", found " +
                     std::to_string(id));
  return Status::ok();
}

Status checkSources(const abi::CertificateT &c) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < c.sources.size(); ++i) {
    std::string where = "sources[" + std::to_string(i) + "]";
    if (!names.insert(c.sources[i]->name).second)
      return invalid(where + ": expected a name of its own, found '" +
                     c.sources[i]->name + "' again");
    RETORT_RETURN_IF_ERROR(checkDigest(where, c.sources[i]->sha256));
  }
  return Status::ok();
}

Status checkPlan(const abi::CertificateT &c, const abi::Program &program) {
  std::set<std::string_view> weights, seen;
  for (const abi::Weight *weight : *program.weights())
    weights.insert(weight->name()->string_view());
  for (size_t i = 0; i < c.plan.size(); ++i) {
    const std::string &name = c.plan[i]->weight;
    if (!weights.contains(name) || !seen.insert(name).second)
      return invalid("plan[" + std::to_string(i) +
                     "]: expected a weight of the program, and each once, "
                     "found '" +
                     name + "'");
  }
  return Status::ok();
}

Status checkTest(const std::string &where, const abi::TestInputT &test,
                 const abi::Model &model) {
  if (test.tokens.empty() || test.tokens.size() > model.max_context() ||
      test.rows.size() != test.tokens.size())
    return invalid(
        where + ": expected 1 to " + std::to_string(model.max_context()) +
        " tokens with a row each, found " + std::to_string(test.tokens.size()) +
        " tokens and " + std::to_string(test.rows.size()) + " rows");
  RETORT_RETURN_IF_ERROR(checkIds(where + ": tokens", test.tokens, model));
  for (size_t i = 0; i < test.rows.size(); ++i) {
    const abi::TestRowT &row = *test.rows[i];
    std::string at = where + ": rows[" + std::to_string(i) + "]";
    if (row.ids.empty() || row.ids.size() != row.logits.size())
      return invalid(at +
                     ": expected as many ids as logits, at least one, "
                     "found " +
                     std::to_string(row.ids.size()) + " and " +
                     std::to_string(row.logits.size()));
    RETORT_RETURN_IF_ERROR(checkIds(at, row.ids, model));
    std::vector<double> numbers(row.logits.begin(), row.logits.end());
    numbers.push_back(row.rms);
    RETORT_RETURN_IF_ERROR(checkFinite(at, numbers));
  }
  return Status::ok();
}

Status checkText(const std::string &where, const abi::TextFiguresT &text) {
  RETORT_RETURN_IF_ERROR(checkDigest(where, text.sha256));
  if (text.tokens == 0)
    return invalid(where + ": expected at least one token, found none");
  const double numbers[] = {text.mean_loss,
                            text.teacher_loss,
                            text.kl_mean,
                            text.kl_mean_upper,
                            text.top1,
                            text.top5,
                            text.kl_median.value_or(0),
                            text.kl_p99.value_or(0)};
  return checkFinite(where, numbers);
}

Status check(const abi::CertificateT &c, const abi::Index &index) {
  if (c.weights != hashWeights(*index.program()))
    return invalid("is that of other weights");
  RETORT_RETURN_IF_ERROR(checkSources(c));
  RETORT_RETURN_IF_ERROR(checkPlan(c, *index.program()));
  size_t layers = c.sources.empty() ? 0 : index.model()->num_layers();
  if (c.layers.size() != layers)
    return invalid("layers: expected " + std::to_string(layers) +
                   " figures, found " + std::to_string(c.layers.size()));
  RETORT_RETURN_IF_ERROR(checkFinite("layers", c.layers));
  const double numbers[] = {c.logits, c.tolerance};
  RETORT_RETURN_IF_ERROR(checkFinite("logits or tolerance", numbers));
  for (size_t i = 0; i < c.tests.size(); ++i)
    RETORT_RETURN_IF_ERROR(checkTest("tests[" + std::to_string(i) + "]",
                                     *c.tests[i], *index.model()));
  for (size_t i = 0; i < c.texts.size(); ++i)
    RETORT_RETURN_IF_ERROR(
        checkText("texts[" + std::to_string(i) + "]", *c.texts[i]));
  return Status::ok();
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

/// Writes one piece of a file behind the other.
class Appender {
public:
  explicit Appender(WritableFile &file) : file(file) {}

  Status add(std::span<const std::byte> bytes) {
    RETORT_RETURN_IF_ERROR(file.writeAt(end, bytes));
    end += bytes.size();
    return Status::ok();
  }
  /// Zeros up to a page of the artifact, which begins at a page.
  Status padToPage() {
    static const std::byte zeros[abi::kPageSize] = {};
    return add(std::span(zeros).first(roundToPage(end) - end));
  }
  /// Copies what is mapped, without keeping it resident.
  Status copy(std::span<const std::byte> bytes) {
    for (size_t at = 0; at < bytes.size(); at += kCopyBytes) {
      auto piece = bytes.subspan(at, std::min(kCopyBytes, bytes.size() - at));
      RETORT_RETURN_IF_ERROR(add(piece));
      dropResidentPages(piece);
    }
    return Status::ok();
  }
  uint64_t size() const { return end; }

private:
  WritableFile &file;
  uint64_t end = 0;
};

std::span<const std::byte> asBytes(const void *data, size_t size) {
  return {static_cast<const std::byte *>(data), size};
}

/// The index without a certificate's section. That one must be the last.
Result<std::unique_ptr<abi::IndexT>>
withoutCertificate(const abi::Index &root) {
  std::unique_ptr<abi::IndexT> index(root.UnPack());
  auto at =
      std::ranges::find(index->sections, std::string(kCertificateSection),
                        [](const auto &section) { return section->name; });
  if (at == index->sections.end())
    return index;
  if (at + 1 != index->sections.end())
    return invalid("expected the certificate behind all other sections");
  index->sections.erase(at);
  return index;
}

} // namespace

uint64_t hashWeights(const abi::Program &program) {
  return hashFields([&](auto &&add) {
    for (const abi::Weight *weight : *program.weights())
      add(weight->name()->string_view(), weight->offset(),
          weight->stored_size(), weight->hash());
  });
}

uint64_t hashWeights(const abi::ProgramT &program) {
  return hashFields([&](auto &&add) {
    for (const auto &weight : program.weights)
      add(weight->name, weight->offset, weight->stored_size, weight->hash);
  });
}

std::string encodeCertificate(const abi::CertificateT &certificate) {
  flatbuffers::FlatBufferBuilder builder;
  abi::FinishCertificateBuffer(builder,
                               abi::Certificate::Pack(builder, &certificate));
  return {reinterpret_cast<const char *>(builder.GetBufferPointer()),
          builder.GetSize()};
}

Result<abi::CertificateT> parseCertificate(std::string_view bytes,
                                           const abi::Index &index) {
  const auto *begin = reinterpret_cast<const uint8_t *>(bytes.data());
  // Tables are counted: each is at least eight bytes.
  flatbuffers::Verifier::Options options;
  options.max_tables =
      static_cast<flatbuffers::uoffset_t>(bytes.size() / 8 + 1);
  flatbuffers::Verifier verifier(begin, bytes.size(), options);
  if (!abi::VerifyCertificateBuffer(verifier))
    return invalid("certificate: not a well-formed flatbuffer of its schema");
  abi::CertificateT certificate;
  abi::GetCertificate(begin)->UnPackTo(&certificate);
  if (Status rules = check(certificate, index); !rules.isOk())
    return std::move(rules).withContext("certificate");
  return certificate;
}

Result<std::optional<abi::CertificateT>>
readCertificate(const Artifact &artifact) {
  if (!artifact.hasText(kCertificateSection))
    return std::optional<abi::CertificateT>();
  RETORT_ASSIGN_OR_RETURN(std::string bytes,
                          artifact.text(kCertificateSection));
  auto certificate = parseCertificate(bytes, artifact.index());
  if (!certificate.isOk())
    return certificate.takeStatus().withContext(artifact.path());
  return std::optional<abi::CertificateT>(std::move(*certificate));
}

Status replaceCertificate(const Artifact &artifact,
                          const abi::CertificateT &certificate) {
  const std::string &path = artifact.path();
  RETORT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  auto carried = findStandalone(file.bytes());
  if (!carried.isOk())
    return carried.takeStatus().withContext(path);
  bool isStandalone = !carried->empty();
  std::span<const std::byte> old = isStandalone ? *carried : file.bytes();
  abi::FileHeader header;
  if (old.size() != artifact.bytes().size() ||
      std::memcmp(old.data(), artifact.bytes().data(), sizeof header) != 0)
    return invalid(path + ": was changed since it was opened");
  std::memcpy(&header, old.data(), sizeof header);

  auto reduced = withoutCertificate(artifact.index());
  if (!reduced.isOk())
    return reduced.takeStatus().withContext(path);
  abi::IndexT &index = **reduced;
  std::string text = encodeCertificate(certificate);
  std::vector<std::byte> stored(ZSTD_compressBound(text.size()));
  size_t size = ZSTD_compress(stored.data(), stored.size(), text.data(),
                              text.size(), kZstdLevel);
  if (ZSTD_isError(size))
    return Status::error(Code::Internal,
                         std::string("certificate: cannot compress: ") +
                             ZSTD_getErrorName(size));
  stored.resize(size);
  uint64_t at = abi::kPageSize;
  for (const auto &section : index.sections)
    at = roundToPage(section->offset + section->size);
  auto section = std::make_unique<abi::SectionT>();
  section->name = kCertificateSection;
  section->kind = abi::SectionKind::Data;
  section->offset = at;
  section->size = size;
  section->raw_size = text.size();
  section->hash = XXH3_64bits(stored.data(), size);
  index.sections.push_back(std::move(section));
  flatbuffers::FlatBufferBuilder builder;
  abi::FinishIndexBuffer(builder, abi::Index::Pack(builder, &index));
  header.indexOffset = roundToPage(at + size);
  header.indexSize = builder.GetSize();
  header.indexHash = XXH3_64bits(builder.GetBufferPointer(), builder.GetSize());
  header.fileSize = roundToPage(header.indexOffset + header.indexSize);
  header.headerHash =
      XXH3_64bits(&header, offsetof(abi::FileHeader, headerHash));

  // A link stays one.
  std::error_code unresolved;
  std::string target = std::filesystem::canonical(path, unresolved).string();
  RETORT_ASSIGN_OR_RETURN(OutputFile output,
                          OutputFile::create(unresolved ? path : target));
  uint64_t base = static_cast<uint64_t>(old.data() - file.bytes().data());
  RETORT_RETURN_IF_ERROR(output.file().useLargePages(base + header.fileSize));
  Appender to(output.file());
  RETORT_RETURN_IF_ERROR(to.copy(file.bytes().first(base)));
  RETORT_RETURN_IF_ERROR(to.add(asBytes(&header, sizeof header)));
  RETORT_RETURN_IF_ERROR(
      to.copy(old.subspan(sizeof header, at - sizeof header)));
  RETORT_RETURN_IF_ERROR(to.add(stored));
  RETORT_RETURN_IF_ERROR(to.padToPage());
  RETORT_RETURN_IF_ERROR(
      to.add(asBytes(builder.GetBufferPointer(), builder.GetSize())));
  RETORT_RETURN_IF_ERROR(to.padToPage());
  if (isStandalone) {
    abi::StandaloneFooter footer{base, header.fileSize, {}};
    std::memcpy(footer.magic, abi::kFooterMagic, sizeof footer.magic);
    RETORT_RETURN_IF_ERROR(to.add(asBytes(&footer, sizeof footer)));
  }
  RETORT_RETURN_IF_ERROR(output.file().resize(to.size()));
  RETORT_RETURN_IF_ERROR(output.file().sync());
  return output.commit(isStandalone);
}

} // namespace retort
