//===- Verify.cpp - Self-test and verification ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Verify.h"

#include "compiler/pack/PackedView.h"
#include "compiler/pipelines/Certify.h"
#include "compiler/reference/Reference.h"
#include "runtime/engine/Session.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace retort {
namespace {

using checkpoint::Checkpoint;
using checkpoint::TensorView;
using reference::ReferenceOptions;
using reference::ReferenceOutput;
using reference::WeightUse;

int64_t argmax(std::span<const float> row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

/// Keeps the mapped weights from staying resident: after so many bytes of reads
/// all pages are given back, so that `--max-ram` holds for any model.
class ResidentWeights {
public:
  explicit ResidentWeights(std::span<const std::byte> weights)
      : weights(weights) {}
  /// Thread-safe.
  void read(uint64_t bytes) {
    uint64_t before = touched.fetch_add(bytes, std::memory_order_relaxed);
    if (before / kLimit != (before + bytes) / kLimit)
      dropResidentPages(weights);
  }

private:
  static constexpr uint64_t kLimit = uint64_t(64) << 20;
  std::span<const std::byte> weights;
  std::atomic<uint64_t> touched{0};
};

/// Tokens go through the artifact's code; hidden states after each layer and
/// all logits come out.
struct CompiledOutput {
  std::vector<std::vector<float>> layers; ///< [layer][T * hidden]
  std::vector<float> logits;              ///< [T * vocab]
  /// [MoE layers][T][expertsPerToken], ascending, without the shared ones.
  std::vector<int32_t> experts;
};

Result<CompiledOutput> runCompiled(std::shared_ptr<const Artifact> artifact,
                                   std::span<const int32_t> tokens,
                                   size_t expertsPerToken,
                                   ResidentWeights &resident,
                                   const ExamineOptions &options) {
  RETORT_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                          Model::load(std::move(artifact)));
  const abi::Model &info = model->info();
  CompiledOutput out;
  out.layers.resize(info.num_layers());
  SessionOptions session;
  session.context = std::min<uint32_t>(info.max_context(),
                                       static_cast<uint32_t>(tokens.size()));
  session.threads = static_cast<unsigned>(options.threads);
  // The result of a layer's last launch is the layer's output.
  session.observer = [&](const LaunchEvent &event) {
    resident.read(event.launch.weight_bytes());
    int layer = event.launch.layer();
    if (event.launch.label()->string_view() == "moe_route") {
      for (int64_t t = 0; t < event.scalars.n_tokens; ++t) {
        std::vector<int32_t> ids(expertsPerToken);
        std::memcpy(ids.data(), event.result + t * event.rowBytes,
                    ids.size() * sizeof(int32_t));
        out.experts.insert(out.experts.end(), ids.begin(), ids.end());
      }
      return;
    }
    if (layer < 0 || event.rowBytes < info.hidden_size() * sizeof(float) ||
        (event.launch.label()->string_view() != "linear down" &&
         event.launch.label()->string_view() != "moe_down"))
      return;
    auto &rows = out.layers[layer];
    rows.resize(event.scalars.n_tokens * info.hidden_size());
    for (int64_t t = 0; t < event.scalars.n_tokens; ++t)
      std::memcpy(rows.data() + t * info.hidden_size(),
                  event.result + t * event.rowBytes,
                  info.hidden_size() * sizeof(float));
  };
  RETORT_ASSIGN_OR_RETURN(auto s, Session::create(model, session));
  RETORT_RETURN_IF_ERROR(
      s->feed(tokens, [&](uint64_t, uint64_t count, const float *rows,
                          uint64_t stride) {
        for (uint64_t r = 0; r < count; ++r)
          out.logits.insert(out.logits.end(), rows + r * stride,
                            rows + r * stride + info.vocab_size());
        return Status::ok();
      }));
  return out;
}

/// Rounds what is cached of a position as the kernels do: in groups of the
/// padded layout, whose halves are multiples of 16.
void roundCachePart(CacheElement element, reference::CachePart part,
                    std::span<float> elements) {
  using reference::CachePart;
  if (element != CacheElement::Int8)
    return roundCached(element, elements);
  size_t size = elements.size(), half = size / 2;
  bool isLatent = part == CachePart::Latent;
  std::vector<float> padded(isLatent ? roundUp<size_t>(size, kCacheGroup)
                                     : 2 * roundUp<size_t>(half, 16));
  auto place = [&](size_t i) {
    if (isLatent)
      return i;
    if (part == CachePart::InterleavedRotary)
      return i / 2 + i % 2 * padded.size() / 2;
    return i % half + i / half * padded.size() / 2;
  };
  for (size_t i = 0; i < size; ++i)
    padded[place(i)] = elements[i];
  roundCached(element, padded);
  for (size_t i = 0; i < size; ++i)
    elements[i] = padded[place(i)];
}

/// What compiled code may differ by from the reference that rounds like it.
double toleranceOf(std::span<const WeightSpec> specs, CacheElement cache,
                   bool hasLatentAttention) {
  bool anyInt8 = std::ranges::any_of(specs, [](const WeightSpec &spec) {
    return spec.inputs && spec.inputs->kind == ActivationKind::Int8;
  });
  if (anyInt8)
    return hasLatentAttention ? kVerifyToleranceAbsorbed : kVerifyToleranceInt8;
  bool isCoarse = cache == CacheElement::BF16 || cache == CacheElement::Int8;
  return isCoarse ? kVerifyToleranceCache : kVerifyTolerance;
}

/// What the draft layer expects after the last token, having seen them all.
Result<std::vector<float>> runDraft(std::shared_ptr<const Artifact> artifact,
                                    std::span<const int32_t> tokens,
                                    ResidentWeights &resident,
                                    const ExamineOptions &options) {
  RETORT_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                          Model::load(std::move(artifact)));
  SessionOptions session;
  session.context = static_cast<uint32_t>(tokens.size());
  session.threads = static_cast<unsigned>(options.threads);
  session.draft = true;
  session.observer = [&](const LaunchEvent &event) {
    resident.read(event.launch.weight_bytes());
  };
  RETORT_ASSIGN_OR_RETURN(auto s, Session::create(model, session));
  RETORT_RETURN_IF_ERROR(s->feed(tokens.first(tokens.size() - 1)));
  RETORT_ASSIGN_OR_RETURN(std::span<const float> logits,
                          s->draft(tokens.back()));
  return std::vector<float>(logits.begin(), logits.end());
}

Status disagree(const std::string &where, double error, double tolerance) {
  char text[160];
  std::snprintf(text, sizeof(text),
                "%s: compiled code and the reference interpreter differ by a "
                "relative RMS of %.3g, expected at most %.3g",
                where.c_str(), error, tolerance);
  return Status::error(Code::Internal, text);
}

/// How choices of experts differ: rows of expertsPerToken ids, [MoE layers][T].
struct ExpertDifferences {
  size_t rows = 0, differing = 0;
  size_t firstLayer = SIZE_MAX; ///< among the MoE layers
};

ExpertDifferences compareExperts(std::span<const int32_t> found,
                                 std::span<const int32_t> expected,
                                 size_t expertsPerToken, size_t tokens) {
  ExpertDifferences out;
  out.rows = expected.size() / expertsPerToken;
  if (found.size() != expected.size()) {
    out.differing = out.rows;
    out.firstLayer = 0;
    return out;
  }
  for (size_t row = out.rows; row-- > 0;)
    if (!std::ranges::equal(
            found.subspan(row * expertsPerToken, expertsPerToken),
            expected.subspan(row * expertsPerToken, expertsPerToken))) {
      ++out.differing;
      out.firstLayer = row / tokens;
    }
  return out;
}

/// With int8 inputs a quant's neighbour may tip a choice between experts that
/// are even, which a sound artifact does to a few tokens in a hundred. What
/// comes behind such a choice can't be compared any more.
constexpr size_t kTippedRowsIn = 8;

Result<VerifyReport> compare(const CompiledOutput &compiled, double tolerance,
                             size_t expertsPerToken,
                             const ReferenceOutput &packed,
                             const ReferenceOutput &plain,
                             const ReferenceOutput &source, int64_t tokens,
                             int64_t hidden, int64_t vocab) {
  VerifyReport report;
  size_t plane = static_cast<size_t>(tokens * hidden);
  // transformers lists the last layer's output after the final norm only, so
  // the logits stand for it.
  for (size_t l = 0; l + 1 < compiled.layers.size(); ++l) {
    std::span<const float> expected(
        packed.hiddenStates.data() + (l + 1) * plane, plane);
    report.layers.push_back(relativeRms(compiled.layers[l], expected));
  }
  report.logits = relativeRms(compiled.logits, packed.logits);
  report.plain = relativeRms(compiled.logits, plain.logits);
  report.encoding = relativeRms(plain.logits, source.logits);
  report.sameGreedy = true;
  for (int64_t t = 0; t < tokens; ++t) {
    std::span<const float> a(compiled.logits.data() + t * vocab, vocab);
    std::span<const float> b(packed.logits.data() + t * vocab, vocab);
    report.sameGreedy &= argmax(a) == argmax(b);
  }
  size_t comparable = compiled.layers.size();
  if (!packed.experts.empty()) {
    ExpertDifferences found =
        compareExperts(compiled.experts, packed.experts, expertsPerToken,
                       static_cast<size_t>(tokens));
    report.sameExperts = found.differing == 0;
    bool mayTip = tolerance > kVerifyTolerance;
    if (found.differing > (mayTip ? found.rows / kTippedRowsIn : 0))
      return Status::error(Code::Internal,
                           "compiled code and the reference interpreter give " +
                               std::to_string(found.differing) + " of " +
                               std::to_string(found.rows) +
                               " tokens to different experts");
    size_t moeLayers = found.rows / static_cast<size_t>(tokens);
    if (found.differing > 0)
      comparable = compiled.layers.size() - moeLayers + found.firstLayer;
  }
  for (size_t l = 0; l < std::min(report.layers.size(), comparable); ++l)
    if (!(report.layers[l] <= tolerance))
      return disagree("layer " + std::to_string(l), report.layers[l],
                      tolerance);
  if (comparable == compiled.layers.size() && !(report.logits <= tolerance))
    return disagree("logits", report.logits, tolerance);
  return report;
}

} // namespace

std::vector<int32_t> testTokens(int64_t vocab, int count) {
  // Knuth's multiplicative hash.
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>((i + 1) * 2654435761ull % vocab));
  return tokens;
}

Result<Examination> examineArtifact(const std::string &path,
                                    const Checkpoint &source,
                                    std::span<const WeightSpec> specs,
                                    const ExamineOptions &options) {
  // The packer has just computed the weights' hashes.
  OpenOptions open;
  open.weights = WeightCheck::Never;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(path, open));
  RETORT_ASSIGN_OR_RETURN(PackedView view,
                          PackedView::create(specs, artifact->weights()));
  ResidentWeights resident(artifact->weights());

  ReferenceOptions packed;
  packed.threads = options.threads;
  packed.cancel = options.cancel;
  packed.weights = [&](const TensorView &tensor, WeightUse use,
                       int64_t firstRow, int64_t numRows,
                       std::span<float> out) {
    int64_t cols = use == WeightUse::Vector ? 1 : tensor.shape[1];
    // No encoding takes more than f32.
    resident.read(static_cast<uint64_t>(numRows * cols) * sizeof(float));
    if (view.read(tensor.name, firstRow, numRows, cols, out,
                  use == WeightUse::Projection))
      return Status::ok();
    return Status::error(Code::Internal,
                         "tensor '" + tensor.name + "' was not packed whole");
  };

  bool rounds = std::ranges::any_of(
      specs, [](const WeightSpec &spec) { return spec.inputs.has_value(); });
  if (rounds)
    packed.inputs = [&](const TensorView &weight, std::span<float> row) {
      view.roundInputs(weight.name, row);
    };
  if (options.cache != CacheElement::F32)
    packed.cache = [&](reference::CachePart part, std::span<float> elements) {
      roundCachePart(options.cache, part, elements);
    };
  double tolerance =
      toleranceOf(specs, options.cache, source.config().mla.has_value());

  const checkpoint::ModelConfig &config = source.config();
  int64_t vocab = config.vocabSize;
  int64_t limit = artifact->index().model()->max_context();
  int count = static_cast<int>(std::min<int64_t>(
      options.verify ? kVerifyTokens : kSelfTestTokens, limit));
  std::vector<int32_t> tokens = testTokens(vocab, count);
  packed.keepHiddenStates = options.verify;
  packed.keepExperts = options.verify && config.moe;
  packed.mtp = options.verify && config.numMtpLayers > 0 && count > 1;
  packed.lastLogitsOnly = !options.verify;
  RETORT_ASSIGN_OR_RETURN(ReferenceOutput expected,
                          runReference(source, tokens, packed));

  Examination result;
  result.selfTest.tokens = tokens;
  result.selfTest.last_logits.assign(expected.logits.end() - vocab,
                                     expected.logits.end());
  result.selfTest.reference = "reference interpreter on the packed weights";
  if (rounds)
    result.selfTest.reference += ", inputs rounded as the kernels do";
  if (packed.cache)
    result.selfTest.reference +=
        ", caches of " + std::string(cacheElementName(options.cache));
  result.selfTest.tolerance = static_cast<float>(tolerance);
  if (!options.verify)
    return result;

  ReferenceOutput unrounded;
  if (rounds) {
    packed.inputs = nullptr;
    packed.keepHiddenStates = packed.keepExperts = false;
    RETORT_ASSIGN_OR_RETURN(unrounded, runReference(source, tokens, packed));
  }
  ReferenceOptions plain;
  plain.threads = options.threads;
  plain.cancel = options.cancel;
  plain.keepHiddenStates = true;
  RETORT_ASSIGN_OR_RETURN(ReferenceOutput original,
                          runReference(source, tokens, plain));
  size_t expertsPerToken =
      config.moe ? static_cast<size_t>(config.moe->expertsPerToken) : 0;
  RETORT_ASSIGN_OR_RETURN(
      CompiledOutput compiled,
      runCompiled(artifact, tokens, expertsPerToken, resident, options));
  RETORT_ASSIGN_OR_RETURN(result.verify,
                          compare(compiled, tolerance, expertsPerToken,
                                  expected, rounds ? unrounded : expected,
                                  original, count, config.hiddenSize, vocab));
  // Not the figures above, which are this machine's.
  auto certificate = std::make_unique<abi::CertificateT>();
  certificate->reference = result.selfTest.reference;
  certificate->tolerance = tolerance;
  certificate->layers = layerErrors(expected, original, config.numLayers);
  certificate->logits = relativeRms(expected.logits, original.logits);
  certificate->tests.push_back(makeTestInput(tokens, expected.logits, vocab));
  RETORT_ASSIGN_OR_RETURN(certificate->sources,
                          hashSources(source, options.threads, options.cancel));
  result.certificate = std::move(certificate);
  if (packed.mtp) {
    RETORT_ASSIGN_OR_RETURN(std::vector<float> draft,
                            runDraft(artifact, tokens, resident, options));
    double error = relativeRms(
        draft, std::span<const float>(expected.mtpLogits).last(vocab));
    result.verify->draft = error;
    // Which experts the draft layer chose isn't compared: with int8 inputs one
    // may have been tipped.
    if (!(error <= tolerance) && tolerance <= kVerifyTolerance)
      return disagree("draft logits", error, tolerance);
  }
  return result;
}

} // namespace retort
