//===- ScoreCertify.cpp - Figures that go into the artifact ---------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Certificate.h"
#include "runtime/support/Sha256.h"
#include "tools/common/ScoreOptions.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace retort::tools {
namespace {

/// Nine digits, as in JSON: those in which C libraries differ are left out.
double rounded(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return std::strtod(text, nullptr);
}

std::vector<uint8_t> hashIds(std::span<const int32_t> ids) {
  Sha256Digest digest = sha256(std::as_bytes(ids));
  return {digest.begin(), digest.end()};
}

std::unique_ptr<abi::TextFiguresT> figuresOf(const TextResult &result,
                                             size_t number,
                                             const std::string &target,
                                             uint64_t teacherId) {
  const score::Text &text = result.plan.texts[number];
  const score::ScoreSums &sums = result.report.texts()[number];
  auto count = double(sums.tokens);
  auto out = std::make_unique<abi::TextFiguresT>();
  out->name = text.name;
  out->sha256 = hashIds(text.tokens);
  out->tokens = sums.tokens;
  out->context = result.plan.context;
  out->stride = result.plan.stride;
  out->target = target;
  out->mean_loss = rounded(sums.loss / count);
  if (!result.report.hasTeacher())
    return out;
  out->against = result.teacher;
  out->against_id = teacherId;
  out->teacher_loss = rounded(sums.teacherLoss / count);
  out->kl_mean = rounded(sums.klLower / count);
  out->kl_mean_upper = rounded(sums.klUpper / count);
  out->top1 = rounded(sums.sameBest / count);
  out->top5 = rounded(sums.sharedTop / count);
  if (result.plan.texts.size() == 1) {
    out->kl_median = rounded(result.report.klQuantile(0.5).lower);
    out->kl_p99 = rounded(result.report.klQuantile(0.99).lower);
  }
  return out;
}

/// Whether both are of the same measurement.
bool isRepeated(const abi::TextFiguresT &a, const abi::TextFiguresT &b) {
  return a.sha256 == b.sha256 && a.context == b.context &&
         a.stride == b.stride && a.target == b.target &&
         a.against.empty() == b.against.empty() && a.against_id == b.against_id;
}

} // namespace

Status certifyTexts(const score::ScoreModel &model, const TextResult &result,
                    uint64_t teacherId) {
  const Artifact &artifact = model.model->artifact();
  RETORT_ASSIGN_OR_RETURN(auto certificate, readCertificate(artifact));
  if (!certificate) {
    certificate.emplace();
    certificate->weights = hashWeights(*artifact.index().program());
  }
  auto &texts = certificate->texts;
  for (size_t i = 0; i < result.plan.texts.size(); ++i) {
    if (result.report.texts()[i].tokens == 0)
      continue;
    auto figures =
        figuresOf(result, i, model.model->code().target(), teacherId);
    if (!std::isfinite(figures->mean_loss) ||
        !std::isfinite(figures->kl_mean) ||
        !std::isfinite(figures->kl_mean_upper))
      return Status::error(Code::InvalidData,
                           artifact.path() + ": certificate: text '" +
                               figures->name +
                               "': expected finite figures, found a loss of " +
                               std::to_string(figures->mean_loss));
    auto old = std::ranges::find_if(
        texts, [&](const auto &text) { return isRepeated(*text, *figures); });
    if (old != texts.end())
      *old = std::move(figures);
    else
      texts.push_back(std::move(figures));
  }
  return replaceCertificate(artifact, *certificate);
}

} // namespace retort::tools
