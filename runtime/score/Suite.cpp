//===- Suite.cpp - Problems with known answers ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Suite.h"

#include "runtime/score/Answers.h"
#include "runtime/text/JsonReader.h"

#include <algorithm>
#include <cctype>
#include <cmath>

namespace retort::score {
namespace {

using text::Json;

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char &c : out)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// The first of `names` that the object has, in any case.
const Json *findField(const Json &object,
                      std::initializer_list<std::string_view> names) {
  for (std::string_view name : names)
    for (const auto &[key, value] : object.items())
      if (!value.is_null() && lowered(key) == name)
        return &value;
  return nullptr;
}

/// A string or a number as text; nullopt for anything else.
std::optional<std::string> asText(const Json &value) {
  if (value.is_string())
    return value.get<std::string>();
  if (value.is_number())
    return value.dump();
  return std::nullopt;
}

Status badField(const char *name, const char *what, const Json *found) {
  return Status::error(Code::InvalidData,
                       std::string("'") + name + "': expected " + what +
                           ", found " +
                           (found ? text::describeKind(*found) : "none"));
}

Result<Problem> parseProblem(std::string_view line) {
  RETORT_ASSIGN_OR_RETURN(Json object, text::parseJson(line));
  if (!object.is_object())
    return Status::error(Code::InvalidData,
                         std::string("expected an object, found ") +
                             text::describeKind(object));
  Problem out;
  const Json *asked = findField(object, {"problem", "question", "prompt"});
  if (!asked || !asked->is_string() || asked->get<std::string>().empty())
    return badField("problem", "text", asked);
  out.text = asked->get<std::string>();
  const Json *answer = findField(object, {"answer", "final_answer"});
  if (answer) {
    auto text = asText(*answer);
    if (!text)
      return badField("answer", "text or a number", answer);
    size_t mark = text->rfind("####");
    out.answer = mark == std::string::npos ? *text : text->substr(mark + 4);
  } else {
    const Json *solution = findField(object, {"solution"});
    if (!solution || !solution->is_string())
      return badField("answer", "text or a number", nullptr);
    auto boxed = lastBoxed(solution->get<std::string>());
    if (!boxed)
      return badField("solution", "an answer in \\boxed{}", nullptr);
    out.answer = *boxed;
  }
  if (normalizeAnswer(out.answer).empty())
    return badField("answer", "an answer", nullptr);
  if (const Json *id = findField(object, {"unique_id", "id"}))
    out.id = asText(*id).value_or("");
  return out;
}

double wilsonMiddle(double p, double n, double z) {
  return (p + z * z / (2 * n)) / (1 + z * z / n);
}

} // namespace

Result<std::vector<Problem>> parseSuite(std::string_view jsonl) {
  std::vector<Problem> out;
  size_t number = 0;
  while (!jsonl.empty()) {
    size_t end = std::min(jsonl.find('\n'), jsonl.size());
    std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    auto problem = parseProblem(line);
    if (!problem.isOk())
      return problem.takeStatus().withContext("line " + std::to_string(number));
    if (problem->id.empty())
      problem->id = std::to_string(number);
    out.push_back(std::move(*problem));
  }
  if (out.empty())
    return Status::error(Code::InvalidData,
                         "expected a problem on each line, found none");
  return out;
}

double passAtK(uint64_t n, uint64_t c, uint64_t k) {
  if (n - c < k)
    return 1;
  double missed = 1;
  for (uint64_t i = n - c + 1; i <= n; ++i)
    missed *= 1 - double(k) / double(i);
  return 1 - missed;
}

Interval meanOfShares(std::span<const double> shares, uint64_t samples) {
  Interval out;
  if (shares.empty())
    return out;
  auto count = static_cast<double>(shares.size());
  double p = 0, variance = 0;
  for (double share : shares)
    p += share / count;
  for (double share : shares)
    variance += (share - p) * (share - p) / count;
  // Shares of 0 and 1 have the variance p (1 - p) of independent trials; where
  // samples of a problem differ, each problem counts for more than one.
  double most = count * static_cast<double>(samples);
  double trials = count;
  if (p > 0 && p < 1)
    trials =
        variance > 0 ? std::min(p * (1 - p) / (variance / count), most) : most;
  constexpr double z = 1.959963984540054;
  double middle = wilsonMiddle(p, trials, z);
  double half = z / (1 + z * z / trials) *
                std::sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials));
  out.value = p;
  out.low = std::max(0.0, middle - half);
  out.high = std::min(1.0, middle + half);
  return out;
}

std::optional<size_t> majorityVote(std::span<const Sample> samples) {
  struct Group {
    size_t first, votes;
  };
  std::vector<Group> groups;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (!samples[i].answer)
      continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](Group &g) {
      return equivalentAnswers(*samples[g.first].answer, *samples[i].answer);
    });
    if (group == groups.end())
      groups.push_back({i, 1});
    else
      ++group->votes;
  }
  // The first of the largest.
  auto best = std::max_element(
      groups.begin(), groups.end(),
      [](const Group &a, const Group &b) { return a.votes < b.votes; });
  return best == groups.end() ? std::nullopt : std::optional(best->first);
}

SuiteReport summarize(std::span<const std::vector<Sample>> replies) {
  SuiteReport out;
  out.problems = replies.size();
  if (replies.empty())
    return out;
  out.samples = replies[0].size();
  std::vector<double> shares;
  auto problems = static_cast<double>(replies.size());
  for (uint64_t k = 1; k < out.samples; k *= 2)
    out.passAt[k] = 0;
  out.passAt[out.samples] = 0;
  for (const std::vector<Sample> &samples : replies) {
    uint64_t right = 0;
    for (const Sample &sample : samples) {
      right += sample.right;
      out.noAnswer += !sample.answer;
      out.cut += sample.cut;
      out.tokens += sample.tokens;
    }
    shares.push_back(double(right) / double(out.samples));
    for (auto &[k, mean] : out.passAt)
      mean += passAtK(out.samples, right, k) / problems;
    auto vote = majorityVote(samples);
    out.majority += vote && samples[*vote].right ? 1 / problems : 0;
  }
  out.passAt1 = meanOfShares(shares, out.samples);
  return out;
}

} // namespace retort::score
