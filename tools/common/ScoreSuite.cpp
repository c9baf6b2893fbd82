//===- ScoreSuite.cpp - Solved problems -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Memory.h"
#include "runtime/support/File.h"
#include "tools/common/Progress.h"
#include "tools/common/ScoreOptions.h"

#include <algorithm>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;
using score::Problem;
using score::Reply;
using score::ScoreModel;
using score::SuiteReport;

Result<std::vector<Problem>> readProblems(const ScoreOptions &o) {
  RETORT_ASSIGN_OR_RETURN(std::string text, readInput(*o.suite));
  RETORT_RETURN_IF_ERROR(checkUtf8(*o.suite, text));
  auto problems = score::parseSuite(text);
  if (!problems.isOk())
    return problems.takeStatus().withContext(*o.suite);
  if (o.limit > 0 && problems->size() > o.limit)
    problems->resize(o.limit);
  return problems;
}

/// The model's defaults under what the command line says.
Result<score::SuiteOptions> suiteOptions(const ScoreOptions &o,
                                         const ScoreModel &model) {
  score::SuiteOptions out;
  if (!model.model)
    return Status::error(Code::Unsupported,
                         model.path + ": answers need compiled code");
  RETORT_ASSIGN_OR_RETURN(GenerationDefaults defaults,
                          generationDefaults(model.model->artifact()));
  out.sampling = defaults.sampling;
  out.sampling.temperature = o.temperature.value_or(out.sampling.temperature);
  out.sampling.topP = o.topP.value_or(out.sampling.topP);
  if (o.temperature == 0.0)
    out.sampling.repeatPenalty = 1;
  out.sampling.seed = o.seed;
  out.samples = o.samples;
  out.maxTokens = o.maxTokens;
  out.context = o.context;
  out.threads = o.threads;
  out.system = o.system;
  out.raw = o.raw;
  if (out.samples > 1 && out.sampling.temperature == 0)
    return Status::error(Code::InvalidArgument,
                         "--samples: expected a temperature above 0, as greedy "
                         "replies to a problem are all alike: give --temp");
  return out;
}

/// Writes replies to a JSONL file that gets its name when all are there.
class AnswersFile {
public:
  static Result<AnswersFile> create(const std::optional<std::string> &path) {
    AnswersFile out;
    if (path) {
      RETORT_ASSIGN_OR_RETURN(out.file, OutputFile::create(*path));
    }
    return out;
  }
  Status add(const std::string &model, const Problem &problem,
             const Reply &reply) {
    if (!file)
      return Status::ok();
    Json row = {{"model", model},          {"id", problem.id},
                {"sample", reply.sample},  {"expected", problem.answer},
                {"answer", nullptr},       {"right", reply.result.right},
                {"cut", reply.result.cut}, {"tokens", reply.result.tokens},
                {"text", reply.text}};
    if (reply.result.answer)
      row["answer"] = *reply.result.answer;
    std::string line =
        row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    RETORT_RETURN_IF_ERROR(file->writeAt(size, std::as_bytes(std::span(line))));
    size += line.size();
    return Status::ok();
  }
  Status commit() { return file ? file->commit() : Status::ok(); }

private:
  AnswersFile() = default;
  std::optional<OutputFile> file;
  uint64_t size = 0;
};

struct SuiteResult {
  SuiteReport report;
  double decodeTps = 0;
  score::TextPlan replies; ///< first samples behind their prompts, if asked for
};

Result<SuiteResult> runModel(const ScoreOptions &o, const ScoreModel &model,
                             std::span<const Problem> problems,
                             AnswersFile &answers, bool keepReplies) {
  RETORT_ASSIGN_OR_RETURN(score::SuiteOptions options, suiteOptions(o, model));
  SuiteResult out;
  std::atomic<Session *> running{nullptr};
  CancelScope scope(
      [](void *place) {
        if (Session *session =
                static_cast<std::atomic<Session *> *>(place)->load())
          session->cancel();
      },
      &running);
  Progress progress(stderr, Progress::Unit::Replies);
  uint64_t done = 0, total = problems.size() * options.samples;
  std::string step = "answering with " + model.name;
  progress.update(step, 0, total);
  auto run = score::runSuite(
      model, problems, options,
      [&](const Reply &reply) -> Status {
        ++done;
        progress.update(step, done, total);
        if (keepReplies && reply.sample == 0 && !reply.tokens.empty()) {
          score::Text text{"problem " + problems[reply.problem].id,
                           reply.prompt, reply.prompt.size()};
          text.tokens.insert(text.tokens.end(), reply.tokens.begin(),
                             reply.tokens.end());
          out.replies.texts.push_back(std::move(text));
        }
        return answers.add(model.name, problems[reply.problem], reply);
      },
      &running);
  progress.finish();
  if (!run.isOk())
    return run.takeStatus();
  out.report = score::summarize(run->replies);
  out.decodeTps = run->decodeTps();
  return out;
}

Json reportJson(const SuiteResult &result) {
  const SuiteReport &r = result.report;
  Json passAt = Json::object();
  for (auto [k, value] : r.passAt)
    passAt[std::to_string(k)] = jsonNumber(value);
  return {{"problems", r.problems},
          {"samples", r.samples},
          {"pass1", jsonNumber(r.passAt1.value)},
          {"pass1_low", jsonNumber(r.passAt1.low)},
          {"pass1_high", jsonNumber(r.passAt1.high)},
          {"pass_at", passAt},
          {"majority", jsonNumber(r.majority)},
          {"no_answer", r.noAnswer},
          {"cut", r.cut},
          {"reply_tokens", r.tokens},
          {"decode_tps", jsonNumber(result.decodeTps)}};
}

std::string percent(double share) { return fixed(100 * share, 1) + "%"; }

std::string reportText(const std::string &name, const SuiteResult &result) {
  const SuiteReport &r = result.report;
  std::string out = name + ": " + std::to_string(r.problems) + " problems, " +
                    std::to_string(r.samples) +
                    (r.samples == 1 ? " reply each\n" : " replies each\n");
  out += "pass@1    " + percent(r.passAt1.value) +
         "  (95%: " + percent(r.passAt1.low) + " to " +
         percent(r.passAt1.high) + ")\n";
  for (auto [k, value] : r.passAt)
    if (k > 1) {
      std::string label = "pass@" + std::to_string(k);
      label.resize(std::max<size_t>(label.size() + 1, 10), ' ');
      out += label + percent(value) + "\n";
    }
  if (r.samples > 1)
    out += "majority  " + percent(r.majority) + "\n";
  out += "replies   " +
         fixed(double(r.tokens) / double(r.problems * r.samples), 1) +
         " tokens on average, " + std::to_string(r.noAnswer) +
         " without an answer, " + std::to_string(r.cut) + " cut off; " +
         fixed(result.decodeTps, 1) + " t/s\n";
  return out;
}

/// A model's rung.
struct Rung {
  std::string name;
  std::optional<SuiteResult> suite; ///< absent for a teacher file
  std::optional<double> loss;
  std::optional<score::Bounds> kl; ///< of a student
  bool bounded = false;
  uint64_t bytes = 0;
};

Json rungJson(const Rung &rung) {
  Json out = {{"model", rung.name}};
  if (rung.suite)
    out.update(reportJson(*rung.suite));
  out["mean_loss"] = rung.loss ? jsonNumber(*rung.loss) : Json(nullptr);
  out["kl_mean"] = rung.kl ? jsonNumber(rung.kl->lower) : Json(nullptr);
  if (rung.bounded && rung.kl)
    out["kl_mean_upper"] = jsonNumber(rung.kl->upper);
  out["bytes"] = rung.bytes ? Json(rung.bytes) : Json(nullptr);
  return out;
}

std::string ladderText(std::span<const Rung> rungs, const std::string &texts) {
  char row[256];
  size_t width = 5;
  for (const Rung &rung : rungs)
    width = std::max(width, rung.name.size());
  std::snprintf(row, sizeof row, "%-*s  %7s  %16s  %8s  %18s  %10s  %8s\n",
                int(std::min<size_t>(width, 60)), "model", "pass@1", "95%",
                "loss", "KL to the teacher", "size", "t/s");
  std::string out = row;
  for (const Rung &rung : rungs) {
    std::string pass = "-", interval = "-", loss = "-", kl = "-", size = "-",
                speed = "-";
    if (rung.suite) {
      const score::Interval &p = rung.suite->report.passAt1;
      pass = percent(p.value);
      interval = percent(p.low) + " - " + percent(p.high);
      speed = fixed(rung.suite->decodeTps, 1);
    }
    if (rung.loss)
      loss = fixed(*rung.loss, 4);
    if (rung.kl)
      kl = fixed(rung.kl->lower, 5) +
           (rung.bounded ? " - " + fixed(rung.kl->upper, 5) : "");
    if (rung.bytes)
      size = formatBytes(rung.bytes);
    std::snprintf(row, sizeof row, "%-*s  %7s  %16s  %8s  %18s  %10s  %8s\n",
                  int(std::min<size_t>(width, 60)), rung.name.c_str(),
                  pass.c_str(), interval.c_str(), loss.c_str(), kl.c_str(),
                  size.c_str(), speed.c_str());
    out += row;
  }
  return out + "loss and KL: " + texts + "\n";
}

} // namespace

Status runSuiteScore(const ScoreOptions &o) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Problem> problems, readProblems(o));
  RETORT_ASSIGN_OR_RETURN(ScoreModel model, openScored(o, o.model));
  RETORT_ASSIGN_OR_RETURN(AnswersFile answers, AnswersFile::create(o.answers));
  RETORT_ASSIGN_OR_RETURN(SuiteResult result,
                          runModel(o, model, problems, answers, false));
  RETORT_RETURN_IF_ERROR(answers.commit());
  return writeOut(o.json ? reportJson(result).dump(2) + "\n"
                         : reportText(model.name, result));
}

Status runLadder(const ScoreOptions &o) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Problem> problems, readProblems(o));
  RETORT_ASSIGN_OR_RETURN(AnswersFile answers, AnswersFile::create(o.answers));
  // Options of texts, whose context isn't that of replies.
  ScoreOptions texts = o;
  texts.context = 0;
  texts.worst = 0;
  std::vector<Rung> rungs;
  std::optional<ScoreModel> teacher;
  std::optional<score::TeacherReader> file;
  score::TextPlan plan;
  const score::TextPlan *given = nullptr;
  bool ownTexts = !o.texts.empty() || o.tokens;
  std::string measured = "on the texts given";
  if (score::isTeacherFile(o.against)) {
    RETORT_ASSIGN_OR_RETURN(file, score::TeacherReader::open(o.against));
    score::TextReport report(file->info().plan.texts.size(), false, 0);
    RETORT_RETURN_IF_ERROR(score::scoreTeacherFile(*file, report));
    rungs.push_back({file->info().name, {}, report.meanLoss(), {}, false, 0});
    measured = "on the texts of " + o.against;
  } else {
    RETORT_ASSIGN_OR_RETURN(teacher, openScored(o, o.against));
    RETORT_ASSIGN_OR_RETURN(
        SuiteResult suite, runModel(o, *teacher, problems, answers, !ownTexts));
    if (!ownTexts) {
      plan = std::move(suite.replies);
      given = &plan;
      measured = "on the teacher's own replies";
    }
    RETORT_ASSIGN_OR_RETURN(
        TextResult scored,
        scoreModelTexts(texts, *teacher, nullptr, nullptr, given));
    rungs.push_back({teacher->name,
                     std::move(suite),
                     scored.report.meanLoss(),
                     {},
                     false,
                     teacher->bytes});
  }
  for (const std::string &path : o.students) {
    RETORT_ASSIGN_OR_RETURN(ScoreModel student, openScored(o, path));
    RETORT_ASSIGN_OR_RETURN(SuiteResult suite,
                            runModel(o, student, problems, answers, false));
    RETORT_ASSIGN_OR_RETURN(TextResult scored,
                            scoreModelTexts(texts, student,
                                            teacher ? &*teacher : nullptr,
                                            file ? &*file : nullptr, given));
    rungs.push_back({student.name, std::move(suite), scored.report.meanLoss(),
                     scored.report.klMean(), scored.bounded, student.bytes});
  }
  RETORT_RETURN_IF_ERROR(answers.commit());
  if (!o.json)
    return writeOut(ladderText(rungs, measured));
  Json out = {{"measured", measured}, {"ladder", Json::array()}};
  for (const Rung &rung : rungs)
    out["ladder"].push_back(rungJson(rung));
  return writeOut(out.dump(2, ' ', false, Json::error_handler_t::replace) +
                  "\n");
}

} // namespace retort::tools
