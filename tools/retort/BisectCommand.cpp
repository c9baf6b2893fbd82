//===- BisectCommand.cpp - retort bisect ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/BisectCommand.h"

#include "compiler/pipelines/Bisect.h"
#include "compiler/pipelines/Verify.h"
#include "runtime/abi/Format.h"
#include "runtime/score/LogitsSource.h"
#include "tools/common/Progress.h"
#include "tools/common/ScoreOptions.h"

#include <cmath>
#include <filesystem>
#include <set>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;
using reference::TraceOp;
using reference::TracePoint;

struct BisectFlags {
  std::string a, b;
  std::optional<std::string> tokens, text, prompt;
  std::string code, codeA, codeB;
  size_t maxTokens = 32;
  uint32_t threads = 0, chunk = abi::kExactTokens;
  double tolerance = kBisectTolerance;
  bool noVerify = false, json = false;
};

bool isDirectory(const std::string &path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

/// The tokenizer to read text with: both have the same, if both have one.
const ModelText &textOf(const TracedModel &a, const TracedModel &b) {
  return a.text().hasTokenizer() ? a.text() : b.text();
}

/// Refuses models that have different tokens. Of equal ones, padded
/// differently, the ids that both have are compared.
Result<int64_t> comparedIds(const TracedModel &a, const TracedModel &b) {
  uint64_t hashes[] = {score::vocabularyHash(a.text().tokenizer()),
                       score::vocabularyHash(b.text().tokenizer())};
  int64_t vocabs[] = {a.config().vocabSize, b.config().vocabSize};
  bool known = hashes[0] && hashes[1];
  if (known && hashes[0] != hashes[1])
    return Status::error(Code::InvalidArgument,
                         a.describe() + " and " + b.describe() +
                             " can't be compared: they have different tokens");
  return known ? std::min(vocabs[0], vocabs[1]) : 0;
}

Result<std::vector<int32_t>>
readTokens(const BisectFlags &o, const TracedModel &a, const TracedModel &b) {
  if (o.tokens)
    return parseIds(*o.tokens);
  if (!o.text && !o.prompt) {
    int64_t most =
        std::min({int64_t(kVerifyTokens), a.maxContext(), b.maxContext()});
    return testTokens(std::min(a.config().vocabSize, b.config().vocabSize),
                      static_cast<int>(most));
  }
  const ModelText &text = textOf(a, b);
  if (!text.hasTokenizer())
    return Status::error(Code::NotFound,
                         o.a + " and " + o.b +
                             ": have no tokenizer: give --tokens instead of "
                             "text");
  std::string input;
  if (o.text) {
    RETORT_ASSIGN_OR_RETURN(input, readInput(*o.text));
  } else {
    input = *o.prompt;
  }
  RETORT_RETURN_IF_ERROR(checkUtf8(o.text ? *o.text : "--prompt", input));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, text.encode(input, true));
  if (ids.size() > o.maxTokens)
    ids.resize(o.maxTokens);
  return ids;
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

std::string line(const char *format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

/// "1.2e-07"; "0" where both are equal bit by bit.
std::string figure(double value) {
  return value == 0 ? "0" : line("%.1e", value);
}

std::string nameOf(TracePoint point) {
  return (point.layer < 0 ? std::string()
                          : "layer " + std::to_string(point.layer) + " ") +
         std::string(traceOpName(point.op));
}

/// A row for each layer: the step of each op, and the error behind the last.
std::string table(const BisectReport &report) {
  std::set<TraceOp> ops;
  for (const PointDifference &at : report.points)
    if (at.point.layer >= 0)
      ops.insert(at.point.op);
  std::string out = line("%-12s", "layer");
  for (TraceOp op : ops)
    out += line(" %9s", std::string(traceOpName(op)).c_str());
  out += "     error\n";
  for (size_t i = 0; i < report.points.size();) {
    int64_t layer = report.points[i].point.layer;
    if (layer < 0) {
      const PointDifference &at = report.points[i++];
      out += line("%-12s", std::string(traceOpName(at.point.op)).c_str()) +
             std::string(10 * (ops.size() - 1), ' ') +
             line(" %9s", figure(at.step.all).c_str()) +
             line(" %9s\n", figure(at.error.all).c_str());
      continue;
    }
    out += line("%-12lld", static_cast<long long>(layer));
    for (TraceOp op : ops) {
      bool isHere = i < report.points.size() &&
                    report.points[i].point == TracePoint{layer, op};
      out +=
          line(" %9s", isHere ? figure(report.points[i].step.all).c_str() : "");
      i += isHere;
    }
    out += line(" %9s\n", figure(report.points[i - 1].error.all).c_str());
  }
  return out;
}

/// A token's text between quotes, if there is a tokenizer.
std::string shown(const ModelText &text, int32_t token) {
  auto decoded = text.hasTokenizer() ? text.decode({&token, 1}, false)
                                     : Result<std::string>(std::string());
  if (!decoded.isOk() || decoded->empty())
    return "";
  return " " +
         Json(*decoded).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string partingText(const BisectReport &report,
                        std::span<const int32_t> tokens,
                        const ModelText &text) {
  const Parting &first = *report.first;
  const PointDifference &at = report.points[first.index];
  size_t t = first.token;
  std::string out = "they part at " + nameOf(at.point) + ", token " +
                    std::to_string(t) + shown(text, tokens[t]) + ": error " +
                    figure(at.error.tokens[t]) + ", step " +
                    figure(at.step.tokens[t]) + "\n";
  auto error = [&](size_t index, size_t token) {
    return figure(report.points[index].error.tokens[token]);
  };
  out += "  of this token  ";
  if (first.index > 0)
    out += nameOf(report.points[first.index - 1].point) + " " +
           error(first.index - 1, t) + ", ";
  out += std::string(traceOpName(at.point.op)) + " " + error(first.index, t);
  if (first.index + 1 < report.points.size())
    out += ", " + nameOf(report.points[first.index + 1].point) + " " +
           error(first.index + 1, t);
  out += "\n  at this point  ";
  size_t from = t > 0 ? t - 1 : 0, to = std::min(t + 2, tokens.size());
  for (size_t token = from; token < to; ++token)
    out += (token > from ? ", token " : "token ") + std::to_string(token) +
           " " + error(first.index, token);
  const ElementWindow &elements = first.elements;
  out += "\n  element " + line("%11s", "");
  for (size_t k = 0; k < elements.a.size(); ++k)
    out += line(" %12lld", static_cast<long long>(elements.first) +
                               static_cast<long long>(k));
  for (auto [name, values] :
       {std::pair("A", &elements.a), {"B", &elements.b}}) {
    out += line("\n  %-19s", name);
    for (float value : *values)
      out += line(" %12.6g", double(value));
  }
  return out + "\n";
}

std::string toText(const BisectReport &report, const TracedModel &a,
                   const TracedModel &b, std::span<const int32_t> tokens,
                   double tolerance) {
  const ModelText &text = textOf(a, b);
  std::string out = "A  " + a.describe() + "\nB  " + b.describe() + "\n" +
                    std::to_string(tokens.size()) + " tokens\n\n" +
                    "steps: what an op makes of A's inputs, against what it "
                    "makes in A; error: of B on its own\n" +
                    table(report) + "\n";
  if (report.first)
    out += partingText(report, tokens, text);
  else
    out += line("no token's error exceeds %g at any point\n", tolerance);
  const PointDifference &most = report.points[report.largestStep];
  size_t token = most.step.worst();
  return out + "largest step: " + nameOf(most.point) + ", token " +
         std::to_string(token) + shown(text, tokens[token]) + ": " +
         figure(most.step.tokens[token]) + "\n";
}

Json numbers(auto &&values) {
  Json out = Json::array();
  for (double value : values)
    out.push_back(jsonNumber(value));
  return out;
}

Json pointJson(TracePoint point) {
  Json out;
  out["layer"] = point.layer < 0 ? Json() : Json(point.layer);
  out["op"] = traceOpName(point.op);
  return out;
}

Json toJson(const BisectReport &report, const TracedModel &a,
            const TracedModel &b, std::span<const int32_t> tokens,
            double tolerance) {
  Json out = {{"a", a.describe()},
              {"b", b.describe()},
              {"tokens", tokens},
              {"tolerance", tolerance},
              {"first", nullptr}};
  if (report.first) {
    const Parting &first = *report.first;
    const PointDifference &at = report.points[first.index];
    Json json = pointJson(at.point);
    json["token"] = first.token;
    json["error"] = jsonNumber(at.error.tokens[first.token]);
    json["step"] = jsonNumber(at.step.tokens[first.token]);
    json["errors"] = numbers(at.error.tokens);
    json["element"] = first.elements.worst;
    json["elements"] = {{"first", first.elements.first},
                        {"a", numbers(first.elements.a)},
                        {"b", numbers(first.elements.b)}};
    out["first"] = std::move(json);
  }
  auto worst = [](const Differences &of) {
    return Json{{"token", of.worst()},
                {"value", jsonNumber(of.tokens[of.worst()])}};
  };
  const PointDifference &most = report.points[report.largestStep];
  out["largest_step"] = pointJson(most.point);
  out["largest_step"].update(worst(most.step));
  out["points"] = Json::array();
  for (const PointDifference &at : report.points) {
    Json json = pointJson(at.point);
    json["error"] = jsonNumber(at.error.all);
    json["step"] = jsonNumber(at.step.all);
    json["worst_error"] = worst(at.error);
    json["worst_step"] = worst(at.step);
    out["points"].push_back(std::move(json));
  }
  return out;
}

Status runBisect(const BisectFlags &o) {
  if (o.tokens.has_value() + o.text.has_value() + o.prompt.has_value() > 1)
    throw UsageError("expected one of --tokens, --text and --prompt");
  if (!(o.tolerance >= 0) || !std::isfinite(o.tolerance))
    throw UsageError("--tolerance: expected a number that is not negative");
  if (!o.code.empty() && (!o.codeA.empty() || !o.codeB.empty()))
    throw UsageError("--code is for both: it excludes --code-a and --code-b");
  if (!o.code.empty() && isDirectory(o.a) && isDirectory(o.b))
    return Status::error(Code::InvalidArgument,
                         "--code: expected an artifact, found two checkpoint "
                         "directories");
  CancelFlag cancel;
  auto open = [&](const std::string &path, const std::string &code) {
    TraceOptions options;
    options.threads = o.threads;
    options.target = code.empty() && !isDirectory(path) ? o.code : code;
    options.weights = o.noVerify ? WeightCheck::Never : WeightCheck::Auto;
    options.chunk = o.chunk;
    options.cancel = cancel.get();
    return openTraced(path, options);
  };
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<TracedModel> a, open(o.a, o.codeA));
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<TracedModel> b, open(o.b, o.codeB));
  RETORT_RETURN_IF_ERROR(checkComparable(*a, *b));
  BisectOptions options;
  options.tolerance = o.tolerance;
  RETORT_ASSIGN_OR_RETURN(options.ids, comparedIds(*a, *b));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, readTokens(o, *a, *b));
  Progress progress(stderr);
  progress.update("computing " + std::to_string(tokens.size()) + " tokens", 0,
                  0);
  Result<BisectReport> report = bisect(*a, *b, tokens, options);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  RETORT_RETURN_IF_ERROR(writeOut(
      o.json ? toJson(*report, *a, *b, tokens, o.tolerance)
                       .dump(2, ' ', false, Json::error_handler_t::replace) +
                   "\n"
             : toText(*report, *a, *b, tokens, o.tolerance)));
  if (report->first)
    throw DifferenceFound();
  return Status::ok();
}

} // namespace

Action addBisectCommand(CLI::App &command) {
  auto o = std::make_shared<BisectFlags>();
  const char *what = "compiled model, or a checkpoint directory, which the "
                     "reference interpreter computes";
  command.add_option("A", o->a, what)->required();
  command.add_option("B", o->b, "what is measured against A: the same")
      ->required();
  command.add_option("--tokens", o->tokens,
                     "ids to compute: 1,2,3 or @FILE; without them or text, " +
                         std::to_string(kVerifyTokens) +
                         " ids spread over the vocabulary");
  command.add_option("--text", o->text,
                     "a text whose beginning is computed; -: standard input");
  command.add_option("--prompt", o->prompt, "the same from the command line");
  command
      .add_option("-n,--max-tokens", o->maxTokens,
                  "tokens of a text or prompt that are taken")
      ->capture_default_str()
      ->check(CLI::Range(1, INT32_MAX));
  command
      .add_option("--tolerance", o->tolerance,
                  "relative RMS of a token's row beyond which they part")
      ->capture_default_str();
  command.add_option("--code", o->code, "run the code for this target");
  command.add_option("--code-a", o->codeA, "the same for A alone");
  command.add_option("--code-b", o->codeB, "the same for B alone");
  command
      .add_option("--chunk", o->chunk,
                  "tokens that artifacts compute at once; 1: as decoding does")
      ->capture_default_str()
      ->check(CLI::Range(1, INT32_MAX));
  command.add_option("--threads", o->threads, "default: all processors")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--no-verify", o->noVerify, "don't hash the weights");
  command.add_flag("--json", o->json, "report in JSON");
  command.footer("Exit codes: 0 they don't part, 3 they do, 1 an error, 2 "
                 "wrong usage.");
  return [o] { return runBisect(*o); };
}

} // namespace retort::tools
