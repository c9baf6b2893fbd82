//===- CertificateView.cpp - Certificates for people and programs ---------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/CertificateView.h"

#include "runtime/support/Sha256.h"
#include "tools/common/ScoreOptions.h"

#include <map>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

std::string line(const char *format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return std::string(text) + "\n";
}

unsigned long long number(uint64_t value) { return value; }

std::string hexId(uint64_t id) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", number(id));
  return text;
}

const abi::Weight *findWeight(const abi::Index &index, std::string_view name) {
  for (const abi::Weight *weight : *index.program()->weights())
    if (weight->name()->string_view() == name)
      return weight;
  return nullptr;
}

Json textJson(const abi::TextFiguresT &text) {
  Json out = {{"name", text.name},
              {"sha256", formatHex(text.sha256)},
              {"tokens", text.tokens},
              {"context", text.context},
              {"stride", text.stride},
              {"target", text.target},
              {"mean_loss", jsonNumber(text.mean_loss)},
              {"against", nullptr}};
  if (text.against.empty())
    return out;
  auto optional = [](const auto &value) {
    return value ? jsonNumber(*value) : Json();
  };
  out["against"] = text.against;
  out["against_id"] = hexId(text.against_id);
  out["teacher_loss"] = jsonNumber(text.teacher_loss);
  out["kl_mean"] = jsonNumber(text.kl_mean);
  out["kl_mean_upper"] = jsonNumber(text.kl_mean_upper);
  out["kl_median"] = optional(text.kl_median);
  out["kl_p99"] = optional(text.kl_p99);
  out["top1"] = jsonNumber(text.top1);
  out["top5"] = jsonNumber(text.top5);
  return out;
}

std::string textLine(const abi::TextFiguresT &text) {
  std::string out =
      line("text      %s: %llu tokens in windows of %u, loss %.5f (%s, ids "
           "sha256 %.16s...)",
           text.name.c_str(), number(text.tokens), text.context, text.mean_loss,
           text.target.c_str(), formatHex(text.sha256).c_str());
  if (text.against.empty())
    return out;
  std::string kl = line("%.5f", text.kl_mean);
  kl.pop_back();
  if (text.kl_mean_upper > text.kl_mean)
    kl += " to " + fixed(text.kl_mean_upper, 5);
  return out + line("          against %s (%s): KL %s, top-1 %.2f%%, top-5 "
                    "%.2f%%",
                    text.against.c_str(), hexId(text.against_id).c_str(),
                    kl.c_str(), 100 * text.top1, 100 * text.top5);
}

/// How many matrices were made in each way, and the largest error of one.
std::string planText(const abi::CertificateT &c, const abi::Index &index) {
  struct Sum {
    size_t matrices = 0;
    double worst = 0;
  };
  std::map<std::string, Sum> sums;
  for (const auto &plan : c.plan) {
    const abi::Weight &weight = *findWeight(index, plan->weight);
    Sum &sum = sums[weight.encoding()->str() + ", " + plan->method +
                    (plan->inputs.empty() ? std::string()
                                          : ", inputs " + plan->inputs)];
    ++sum.matrices;
    sum.worst = std::max(sum.worst, double(weight.relative_error()));
  }
  std::string out;
  for (const auto &[how, sum] : sums)
    out += line("plan      %-48s %5zu matrices, error at most %.2e",
                how.c_str(), sum.matrices, sum.worst);
  return out;
}

std::string verifiedText(const abi::CertificateT &c, const abi::Index &index) {
  std::string out =
      line("sources   %zu tensors, each with its SHA-256 (--json)",
           c.sources.size()) +
      planText(c, index) +
      line("reference %s; compiled code within %.0e of it", c.reference.c_str(),
           c.tolerance);
  for (const auto &test : c.tests)
    out += line("test      %zu tokens, expected logits of the %zu likeliest "
                "behind each",
                test->tokens.size(), test->rows.front()->ids.size());
  out += "error     of hidden states and logits, against the checkpoint's own "
         "weights\n";
  for (size_t l = 0; l < c.layers.size(); ++l)
    out += line("  layer %-3zu %.2e", l, c.layers[l]);
  return out + line("  logits    %.2e", c.logits);
}

} // namespace

Json certificateJson(const abi::CertificateT &c, const abi::Index &index) {
  Json out = {
      {"weights", hexId(c.weights)}, {"verified", !c.sources.empty()},
      {"sources", Json::array()},    {"plan", Json::array()},
      {"reference", c.reference},    {"tolerance", jsonNumber(c.tolerance)},
      {"layers", Json::array()},     {"logits", jsonNumber(c.logits)},
      {"tests", Json::array()},      {"texts", Json::array()}};
  for (const auto &source : c.sources)
    out["sources"].push_back({{"name", source->name},
                              {"dtype", source->dtype},
                              {"shape", source->shape},
                              {"sha256", formatHex(source->sha256)}});
  for (const auto &plan : c.plan) {
    const abi::Weight &weight = *findWeight(index, plan->weight);
    Json sources = Json::array();
    if (weight.sources())
      for (const auto *source : *weight.sources())
        sources.push_back(source->str());
    out["plan"].push_back(
        {{"weight", plan->weight},
         {"encoding", weight.encoding()->str()},
         {"method", plan->method},
         {"inputs", plan->inputs.empty() ? Json() : Json(plan->inputs)},
         {"relative_error", jsonNumber(double(weight.relative_error()))},
         {"sources", sources}});
  }
  for (double error : c.layers)
    out["layers"].push_back(jsonNumber(error));
  for (const auto &test : c.tests) {
    Json rows = Json::array();
    for (const auto &row : test->rows)
      rows.push_back({{"ids", row->ids},
                      {"logits", row->logits},
                      {"rms", jsonNumber(row->rms)}});
    out["tests"].push_back({{"tokens", test->tokens}, {"rows", rows}});
  }
  for (const auto &text : c.texts)
    out["texts"].push_back(textJson(*text));
  return out;
}

std::string certificateText(const abi::CertificateT &c,
                            const abi::Index &index) {
  std::string out = "certificate of weights " + hexId(c.weights) + "\n";
  out += c.sources.empty()
             ? "not verified: compile with --verify for sources, layers and "
               "test inputs\n"
             : verifiedText(c, index);
  for (const auto &text : c.texts)
    out += textLine(*text);
  if (c.texts.empty())
    out += "no texts: score --certify adds loss and KL\n";
  return out;
}

Status noCertificate(const Artifact &artifact) {
  return Status::error(Code::NotFound,
                       artifact.path() +
                           ": holds no certificate: compile --verify and score "
                           "--certify write one");
}

} // namespace retort::tools
