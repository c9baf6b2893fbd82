//===- CheckCommand.cpp - Is an artifact whole and right? -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/ModelText.h"
#include "runtime/engine/SelfTest.h"
#include "runtime/loader/WeightStamps.h"
#include "runtime/support/Sha256.h"
#include "tools/common/CertificateView.h"
#include "tools/common/ScoreOptions.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

struct CheckOptions {
  std::string model, target;
  std::vector<std::string> texts;
  uint32_t threads = 0;
  bool json = false;
};

Status checkText(const Artifact &artifact) {
  for (const abi::Section *section : *artifact.index().sections()) {
    if (section->kind() != abi::SectionKind::Text &&
        section->kind() != abi::SectionKind::Data)
      continue;
    RETORT_ASSIGN_OR_RETURN(std::string ignored,
                            artifact.text(section->name()->string_view()));
  }
  RETORT_ASSIGN_OR_RETURN(ModelText text, ModelText::read(artifact));
  RETORT_ASSIGN_OR_RETURN(GenerationDefaults defaults,
                          generationDefaults(artifact));
  return Status::ok();
}

/// By how much a mean loss may differ where code of another target computes it:
/// logits, of an RMS of ten at most, differ within the tolerance, and over
/// tokens that averages out.
double lossTolerance(const abi::CertificateT &certificate,
                     const abi::Index &index, uint64_t tokens) {
  constexpr double kLeast = 1e-4, kLogitsRms = 10;
  double tolerance = certificate.tolerance;
  if (index.self_test())
    tolerance = std::max(tolerance, double(index.self_test()->tolerance()));
  return std::max(kLeast, kLogitsRms * tolerance / std::sqrt(double(tokens)));
}

/// Computes the loss of a text in each way in which it was certified.
Status proveText(std::shared_ptr<const Artifact> artifact,
                 const abi::CertificateT &certificate, const std::string &path,
                 const CheckOptions &o, Json &out, std::string &text) {
  score::OpenModelOptions open;
  open.threads = o.threads;
  open.target = o.target;
  RETORT_ASSIGN_OR_RETURN(score::ScoreModel model,
                          score::openModel(std::move(artifact), open));
  RETORT_ASSIGN_OR_RETURN(std::string content, readInput(path));
  RETORT_RETURN_IF_ERROR(checkUtf8(path, content));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                          model.text.encode(content, false));
  Sha256Digest digest = sha256(std::as_bytes(std::span(ids)));
  size_t known = 0;
  std::string disagreeing;
  for (const auto &figures : certificate.texts) {
    if (!std::ranges::equal(figures->sha256, digest))
      continue;
    ++known;
    ScoreOptions score;
    score.texts = {path};
    score.context = figures->context;
    score.stride = figures->stride;
    score.worst = 0;
    RETORT_ASSIGN_OR_RETURN(TextResult result,
                            scoreModelTexts(score, model, nullptr, nullptr));
    double loss = result.report.meanLoss();
    double tolerance =
        lossTolerance(certificate, model.model->index(), figures->tokens);
    bool agrees = std::abs(loss - figures->mean_loss) <= tolerance;
    out.push_back({{"name", figures->name},
                   {"certified_loss", jsonNumber(figures->mean_loss)},
                   {"loss", jsonNumber(loss)},
                   {"tolerance", jsonNumber(tolerance)},
                   {"agrees", agrees}});
    char line[256];
    std::snprintf(line, sizeof line,
                  "text %s %s: loss %.6f, certified %.6f (within %.1e)\n",
                  path.c_str(), agrees ? "agrees" : "disagrees", loss,
                  figures->mean_loss, tolerance);
    text += line;
    if (!agrees)
      disagreeing = line;
  }
  if (known == 0)
    return Status::error(Code::NotFound,
                         path + ": the certificate names no text of these " +
                             std::to_string(ids.size()) + " tokens");
  if (disagreeing.empty())
    return Status::ok();
  disagreeing.pop_back();
  return Status::error(Code::Internal, "certificate: " + disagreeing);
}

/// Recomputes what the certificate says, as far as the artifact suffices: what
/// disagrees is an error, after what agrees has been told.
Status checkCertificate(std::shared_ptr<const Artifact> artifact,
                        std::shared_ptr<const Model> model,
                        const CheckOptions &o, Json &out, std::string &text) {
  RETORT_ASSIGN_OR_RETURN(auto certificate, readCertificate(*artifact));
  if (!certificate) {
    out["certificate"] = nullptr;
    text += "no certificate is stored\n";
    return o.texts.empty() ? Status::ok() : noCertificate(*artifact);
  }
  Json &json = out["certificate"];
  json = {{"sources", certificate->sources.size()},
          {"texts", certificate->texts.size()},
          {"rows", 0}};
  text += "certificate: is of these weights, names " +
          std::to_string(certificate->sources.size()) +
          " source tensors (audit compares them) and " +
          std::to_string(certificate->texts.size()) +
          " texts (score computes them)\n";
  Status status;
  if (!certificate->tests.empty()) {
    RETORT_ASSIGN_OR_RETURN(ProofResult result,
                            proveTestInputs(model, *certificate, o.threads));
    json["rows"] = result.rows;
    json["same_greedy"] = result.sameGreedy;
    json["relative_error"] = jsonNumber(result.relativeError);
    json["worst_row"] = jsonNumber(result.worstRow);
    json["tolerance"] = jsonNumber(result.tolerance);
    json["agrees"] = result.agrees();
    char line[200];
    std::snprintf(line, sizeof line,
                  "test inputs %s: %zu rows of logits, relative error %.2e "
                  "(worst row %.2e), %zu with the same likeliest token\n",
                  result.agrees() ? "agree" : "disagree", result.rows,
                  result.relativeError, result.worstRow, result.sameGreedy);
    text += line;
    status = proofStatus(result).withContext(artifact->path());
  }
  if (!o.texts.empty())
    json["checked_texts"] = Json::array();
  for (const std::string &path : o.texts) {
    Status proved =
        proveText(artifact, *certificate, path, o, json["checked_texts"], text);
    if (status.isOk())
      status = std::move(proved).withContext(artifact->path());
  }
  return status;
}

Status check(const CheckOptions &o) {
  OpenOptions open;
  open.weights = WeightCheck::Always;
  open.stampFolder = defaultStampFolder();
  open.threads = o.threads;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(o.model, open));
  const abi::Index &index = artifact->index();
  Json out = {{"sections", index.sections()->size()},
              {"weights", index.program()->weights()->size()},
              {"bytes", artifact->storedBytes()}};
  std::string text = "hashes of " + std::to_string(index.sections()->size()) +
                     " sections and " +
                     std::to_string(index.program()->weights()->size()) +
                     " weights are right\n";
  RETORT_RETURN_IF_ERROR(checkText(*artifact));
  text += "tokenizer, template and configuration are readable\n";
  RETORT_ASSIGN_OR_RETURN(auto model, Model::load(artifact, o.target));
  out["target"] = model->code().target();
  text += "code for " + model->code().target() + " loads on this machine\n";
  if (!index.self_test()) {
    out["self_test"] = nullptr;
    text += "no self test is stored\n";
  } else {
    RETORT_ASSIGN_OR_RETURN(SelfTestResult result,
                            runSelfTest(model, o.threads));
    RETORT_RETURN_IF_ERROR(
        selfTestStatus(result).withContext(artifact->path()));
    out["self_test"] = {{"greedy", result.greedy},
                        {"relative_error", result.relativeError},
                        {"reference", index.self_test()->reference()->str()}};
    char line[160];
    std::snprintf(
        line, sizeof line,
        "self test passed: token %d, relative error %.2e against %s\n",
        result.greedy, result.relativeError,
        index.self_test()->reference()->c_str());
    text += line;
  }
  Status proved = checkCertificate(artifact, model, o, out, text);
  RETORT_RETURN_IF_ERROR(writeOut(
      o.json ? out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
             : text));
  return proved;
}

} // namespace

Action addCheckCommand(CLI::App &command) {
  auto o = std::make_shared<CheckOptions>();
  command.add_option("MODEL", o->model, "Compiled model")->required();
  command
      .add_option("--threads", o->threads, "Threads; default: all processors")
      ->check(CLI::Range(1, INT32_MAX));
  command.add_option("--code", o->target, "Test the code for this target");
  command
      .add_option("--text", o->texts,
                  "A text that the certificate names: compute its loss again; "
                  "may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_flag("--json", o->json, "Print JSON");
  return [o] { return check(*o); };
}

} // namespace retort::tools
