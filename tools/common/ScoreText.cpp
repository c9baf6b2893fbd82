//===- ScoreText.cpp - Loss and divergence on texts -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Progress.h"
#include "tools/common/ScoreOptions.h"

#include <algorithm>
#include <cmath>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;
using score::LogitsSource;
using score::ScoreModel;
using score::TeacherInfo;
using score::TeacherReader;
using score::TeacherWriter;
using score::Text;
using score::TextPlan;
using score::TextReport;
using score::TokenScore;

/// Attention's work grows with the window, and so does the cache's memory.
constexpr uint32_t kDefaultContext = 2048;

Status invalidArgument(const std::string &message) {
  return Status::error(Code::InvalidArgument, message);
}

/// Ids of a text, and what the tokenizer puts in front of it.
Status readText(const ModelText &tokens, const std::string &path,
                TextPlan &plan) {
  RETORT_ASSIGN_OR_RETURN(std::string text, readInput(path));
  RETORT_RETURN_IF_ERROR(checkUtf8(path, text));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> plain,
                          tokens.encode(text, false));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> whole,
                          tokens.encode(text, true));
  auto at = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  if (at == whole.end() && !plain.empty())
    return Status::error(Code::Unsupported,
                         path + ": the tokenizer puts special tokens within "
                                "the text");
  plan.prefix.assign(whole.begin(), at);
  plan.texts.push_back({score::baseName(path), std::move(plain), 0});
  return Status::ok();
}

Result<TextPlan> readTexts(const ScoreOptions &o, const ScoreModel &model) {
  TextPlan plan;
  if (o.tokens) {
    RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, parseIds(*o.tokens));
    plan.texts.push_back({"tokens", std::move(ids), 0});
    return plan;
  }
  if (!model.text.hasTokenizer())
    return Status::error(Code::NotFound,
                         model.path + ": has no tokenizer: give --tokens "
                                      "instead of text");
  for (const std::string &path : o.texts)
    RETORT_RETURN_IF_ERROR(readText(model.text, path, plan));
  return plan;
}

/// Checks that each token has logits, and that there is one to score.
Status checkTokens(const TextPlan &plan, uint32_t ids) {
  for (const Text &text : plan.texts)
    for (size_t i = 0; i < text.tokens.size(); ++i)
      if (text.tokens[i] < 0 || uint32_t(text.tokens[i]) >= ids)
        return invalidArgument(text.name + ": token " + std::to_string(i) +
                               ": expected an id below " + std::to_string(ids) +
                               ", found " + std::to_string(text.tokens[i]));
  if (score::countScored(score::planWindows(plan)) == 0)
    return invalidArgument(
        "text: expected at least two tokens, found nothing to score");
  return Status::ok();
}

/// Decides on windows that fit in the contexts of the models that run.
Status setWindows(const ScoreOptions &o,
                  std::initializer_list<const ScoreModel *> models,
                  TextPlan &plan) {
  uint32_t most = INT32_MAX;
  for (const ScoreModel *model : models)
    if (model)
      most = std::min(most, model->logits->maxContext());
  plan.context = o.context ? o.context : std::min(most, kDefaultContext);
  if (plan.context > most)
    return invalidArgument("context: expected at most " + std::to_string(most) +
                           " tokens, found " + std::to_string(plan.context));
  uint32_t shared = static_cast<uint32_t>(plan.prefix.size()) + 1;
  plan.stride = o.stride                ? o.stride
                : plan.context > shared ? plan.context - shared
                                        : 1;
  return score::checkPlan(plan);
}

/// Opens the models for the longest window.
Status openLogits(const TextPlan &plan,
                  std::initializer_list<ScoreModel *> models) {
  uint64_t longest = 0;
  for (const score::Window &window : score::planWindows(plan))
    longest = std::max(longest, window.end - window.begin);
  uint32_t vocab = 0;
  for (ScoreModel *model : models)
    if (model)
      vocab = std::max(vocab, model->logits->vocab());
  for (ScoreModel *model : models)
    if (model)
      RETORT_RETURN_IF_ERROR(model->logits->open(
          static_cast<uint32_t>(longest + plan.prefix.size()),
          score::rowsAtOnce(vocab)));
  return Status::ok();
}

/// Takes the plan of a teacher file, which the options must not contradict.
Status takeFilePlan(const ScoreOptions &o, const ScoreModel &model,
                    const TeacherReader &file, TextPlan &plan) {
  const TeacherInfo &info = file.info();
  auto differs = [&](const std::string &what, uint64_t expected,
                     uint64_t found) {
    return invalidArgument(o.against + ": " + what + ": expected " +
                           std::to_string(expected) +
                           ", as the file has, "
                           "found " +
                           std::to_string(found));
  };
  if (o.context && o.context != info.plan.context)
    return differs("context", info.plan.context, o.context);
  if (o.stride && o.stride != info.plan.stride)
    return differs("stride", info.plan.stride, o.stride);
  if (!plan.texts.empty()) {
    bool same = plan.prefix == info.plan.prefix &&
                plan.texts.size() == info.plan.texts.size();
    for (size_t i = 0; same && i < plan.texts.size(); ++i)
      same = plan.texts[i].tokens == info.plan.texts[i].tokens;
    if (!same)
      return invalidArgument(o.against +
                             ": was made of other texts, or with another "
                             "tokenizer, than those given");
  }
  uint64_t vocabulary = score::vocabularyHash(model.text.tokenizer());
  if (info.vocabulary && vocabulary && info.vocabulary != vocabulary)
    return invalidArgument(model.path + " and " + o.against +
                           " can't be compared: they have different tokens");
  uint32_t vocab = model.logits->vocab();
  bool fits = info.vocabulary && vocabulary
                  ? info.vocab <= vocab
                  : info.vocab == score::comparedIds(model);
  if (!fits)
    return invalidArgument(model.path + " and " + o.against +
                           " can't be compared: expected a vocabulary of " +
                           std::to_string(info.vocab) + ", found " +
                           std::to_string(vocab));
  plan = info.plan;
  if (plan.context > model.logits->maxContext())
    return invalidArgument(o.against + ": has windows of " +
                           std::to_string(plan.context) + " tokens, " +
                           model.path + " a context of " +
                           std::to_string(model.logits->maxContext()));
  return Status::ok();
}

score::ScoreProgress showProgress(Progress &progress, const std::string &step) {
  return [&progress, step](uint64_t done, uint64_t total) {
    progress.update(step, done, total);
  };
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

std::string line(const char *format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

/// "0.0123", or "0.0123 to 0.0150" where that is what is known.
std::string known(score::Bounds value, bool bounded) {
  std::string out = fixed(value.lower, 5);
  return bounded ? out + " to " + fixed(value.upper, 5) : out;
}

/// A token's text between quotes on one line.
std::string shown(const ModelText &text, std::span<const int32_t> ids) {
  auto decoded = text.decode(ids, false);
  if (!decoded.isOk())
    return formatIds(ids);
  return Json(*decoded).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Tokens before a bad one that are shown.
constexpr uint64_t kShownBefore = 12;

std::span<const int32_t> before(const TextPlan &plan, const TokenScore &score) {
  std::span<const int32_t> ids(plan.texts[score.text].tokens);
  uint64_t count = std::min(score.index, kShownBefore);
  return ids.subspan(score.index - count, count);
}

std::string worstTable(const TextResult &result, const ModelText &text) {
  std::string out;
  bool teacher = result.report.hasTeacher();
  for (const TokenScore &score : result.report.worst()) {
    const Text &source = result.plan.texts[score.text];
    int32_t token = source.tokens[score.index];
    out += source.name + " token " + std::to_string(score.index) + ": ";
    if (teacher)
      out += "KL " + known(score.kl, result.bounded) + ", ";
    out += line("probability %.4g", std::exp(-score.loss));
    if (teacher)
      out += line(", the teacher's %.4g", std::exp(-score.teacherLoss));
    out += "\n  after " + shown(text, before(result.plan, score)) + " comes " +
           shown(text, {&token, 1}) + "; expected " +
           shown(text, {&score.best, 1});
    if (teacher)
      out += ", the teacher " + shown(text, {&score.teacherBest, 1});
    out += "\n";
  }
  return out;
}

std::string sumsRow(const std::string &name, const score::ScoreSums &sums,
                    const TextResult &result) {
  auto count = double(sums.tokens);
  std::string out =
      line("%-20s %8llu %8.4f", name.c_str(),
           static_cast<unsigned long long>(sums.tokens), sums.loss / count);
  if (result.report.hasTeacher()) {
    out += line(" %10.5f", sums.klLower / count);
    if (result.bounded)
      out += line(" %10.5f", sums.klUpper / count);
    out += line(" %6.1f%% %6.1f%%", 100 * sums.sameBest / count,
                100 * sums.sharedTop / count);
  }
  return out + "\n";
}

std::string positionsName(size_t bucket) {
  if (bucket <= 1)
    return std::to_string(bucket);
  uint64_t first = uint64_t(1) << (bucket - 1);
  return std::to_string(first) + "-" + std::to_string(2 * first - 1);
}

std::string tableHead(const char *what, const TextResult &result) {
  std::string out = line("%-20s %8s %8s", what, "tokens", "loss");
  if (result.report.hasTeacher())
    out +=
        std::string(result.bounded ? "    KL from      KL to" : "         KL") +
        "   top-1   top-5";
  return out + "\n";
}

std::string toText(const TextResult &result, const ScoreModel &model) {
  const TextReport &report = result.report;
  const score::ScoreSums &all = report.all();
  std::string out = model.name + ": " + std::to_string(all.tokens) +
                    " tokens in windows of " +
                    std::to_string(result.plan.context) +
                    line("\nloss       %.5f nats per token, perplexity %.4f\n",
                         report.meanLoss(), std::exp(report.meanLoss()));
  if (report.hasTeacher()) {
    auto count = double(all.tokens);
    out += line("teacher    %s, loss %.5f\n", result.teacher.c_str(),
                all.teacherLoss / count);
    out += "KL         mean " + known(report.klMean(), result.bounded) +
           ", median " + known(report.klQuantile(0.5), result.bounded) +
           ", 99% " + known(report.klQuantile(0.99), result.bounded) + "\n";
    out += line("agreement  top-1 %.2f%%, top-5 %.2f%%\n",
                100 * all.sameBest / count, 100 * all.sharedTop / count);
  }
  if (report.texts().size() > 1) {
    out += "\n" + tableHead("text", result);
    for (size_t i = 0; i < report.texts().size(); ++i)
      if (report.texts()[i].tokens > 0)
        out += sumsRow(result.plan.texts[i].name, report.texts()[i], result);
  }
  out += "\n" + tableHead("tokens before", result);
  for (size_t b = 0; b < report.positions().size(); ++b)
    if (report.positions()[b].tokens > 0)
      out += sumsRow(positionsName(b), report.positions()[b], result);
  std::string worst = worstTable(result, model.text);
  return worst.empty() ? out : out + "\nworst tokens\n" + worst;
}

void addSums(Json &out, const score::ScoreSums &sums,
             const TextResult &result) {
  auto count = double(sums.tokens);
  out["tokens"] = sums.tokens;
  out["mean_loss"] = jsonNumber(sums.loss / count);
  if (!result.report.hasTeacher())
    return;
  out["kl_mean"] = jsonNumber(sums.klLower / count);
  if (result.bounded)
    out["kl_mean_upper"] = jsonNumber(sums.klUpper / count);
  out["top1"] = jsonNumber(sums.sameBest / count);
  out["top5"] = jsonNumber(sums.sharedTop / count);
}

void addDetails(Json &out, const TextResult &result, const ModelText &text) {
  const TextReport &report = result.report;
  out["texts"] = out["positions"] = out["worst"] = Json::array();
  for (size_t i = 0; i < report.texts().size(); ++i) {
    if (report.texts()[i].tokens == 0)
      continue;
    Json row = {{"name", result.plan.texts[i].name}};
    addSums(row, report.texts()[i], result);
    out["texts"].push_back(std::move(row));
  }
  for (size_t b = 0; b < report.positions().size(); ++b) {
    if (report.positions()[b].tokens == 0)
      continue;
    Json row = {{"first", b == 0 ? 0 : uint64_t(1) << (b - 1)},
                {"last", (uint64_t(1) << b) - 1}};
    addSums(row, report.positions()[b], result);
    out["positions"].push_back(std::move(row));
  }
  for (const TokenScore &score : report.worst()) {
    int32_t token = result.plan.texts[score.text].tokens[score.index];
    Json row = {{"text", result.plan.texts[score.text].name},
                {"index", score.index},
                {"token", token},
                {"loss", jsonNumber(score.loss)},
                {"best", score.best}};
    if (report.hasTeacher()) {
      row["kl"] = jsonNumber(score.kl.lower);
      if (result.bounded)
        row["kl_upper"] = jsonNumber(score.kl.upper);
      row["teacher_loss"] = jsonNumber(score.teacherLoss);
      row["teacher_best"] = score.teacherBest;
    }
    if (text.hasTokenizer()) {
      row["before"] = text.decode(before(result.plan, score), false).isOk()
                          ? *text.decode(before(result.plan, score), false)
                          : "";
      auto shownToken = text.decode({&token, 1}, false);
      row["shown"] = shownToken.isOk() ? *shownToken : "";
    }
    out["worst"].push_back(std::move(row));
  }
}

Json toJson(const ScoreOptions &o, const TextResult &result,
            const ModelText &text) {
  const TextReport &report = result.report;
  auto count = double(report.all().tokens);
  Json out = {{"tokens", report.all().tokens},
              {"mean_loss", jsonNumber(report.meanLoss())},
              {"perplexity", jsonNumber(std::exp(report.meanLoss()))},
              {"kl_mean", nullptr},
              {"kl_median", nullptr},
              {"kl_p99", nullptr},
              {"top1", nullptr},
              {"top5", nullptr}};
  if (report.hasTeacher()) {
    score::Bounds mean = report.klMean(), median = report.klQuantile(0.5),
                  p99 = report.klQuantile(0.99);
    out["kl_mean"] = jsonNumber(mean.lower);
    out["kl_median"] = jsonNumber(median.lower);
    out["kl_p99"] = jsonNumber(p99.lower);
    out["top1"] = jsonNumber(report.all().sameBest / count);
    out["top5"] = jsonNumber(report.all().sharedTop / count);
    if (result.bounded) {
      out["kl_mean_upper"] = jsonNumber(mean.upper);
      out["kl_median_upper"] = jsonNumber(median.upper);
      out["kl_p99_upper"] = jsonNumber(p99.upper);
    }
  }
  if (o.details)
    addDetails(out, result, text);
  return out;
}

Status print(const ScoreOptions &o, const TextResult &result,
             const ScoreModel &model) {
  return writeOut(
      o.json ? toJson(o, result, model.text)
                       .dump(2, ' ', false, Json::error_handler_t::replace) +
                   "\n"
             : toText(result, model));
}

//===----------------------------------------------------------------------===//
// Teacher files
//===----------------------------------------------------------------------===//

Status saveTeacher(const ScoreOptions &o, ScoreModel &model) {
  TeacherInfo info;
  info.name = model.name;
  info.vocab = score::comparedIds(model);
  info.topK = std::min(o.topK, info.vocab);
  RETORT_ASSIGN_OR_RETURN(info.teacher, model.logits->identity());
  info.vocabulary = score::vocabularyHash(model.text.tokenizer());
  RETORT_ASSIGN_OR_RETURN(info.plan, readTexts(o, model));
  RETORT_RETURN_IF_ERROR(setWindows(o, {&model}, info.plan));
  RETORT_RETURN_IF_ERROR(checkTokens(info.plan, info.vocab));
  RETORT_ASSIGN_OR_RETURN(
      TeacherWriter writer,
      TeacherWriter::create(*o.saveTeacher, info, !o.noResume));
  RETORT_RETURN_IF_ERROR(openLogits(info.plan, {&model}));
  {
    ModelCancelScope scope({model.logits.get()});
    Progress progress(stderr, Progress::Unit::Tokens);
    if (writer.records() > 0)
      progress.line("going on after " + std::to_string(writer.records()) +
                    " tokens");
    Status recorded = score::recordTeacher(writer, info, *model.logits,
                                           showProgress(progress, "recording"));
    progress.finish();
    // What is there is kept whatever has stopped it.
    Status flushed = writer.flush();
    RETORT_RETURN_IF_ERROR(std::move(recorded));
    RETORT_RETURN_IF_ERROR(std::move(flushed));
  }
  RETORT_RETURN_IF_ERROR(writer.commit());
  RETORT_ASSIGN_OR_RETURN(TeacherReader file,
                          TeacherReader::open(*o.saveTeacher));
  TextResult result{
      info.plan, TextReport(info.plan.texts.size(), false, o.worst), {}, false};
  RETORT_RETURN_IF_ERROR(score::scoreTeacherFile(file, result.report));
  return print(o, result, model);
}

} // namespace

Result<TextResult> scoreModelTexts(const ScoreOptions &o, ScoreModel &model,
                                   ScoreModel *teacher,
                                   const TeacherReader *file,
                                   const TextPlan *given) {
  TextPlan plan;
  if (given)
    plan = *given;
  else if (!o.texts.empty() || o.tokens) {
    RETORT_ASSIGN_OR_RETURN(plan, readTexts(o, model));
  }
  uint32_t ids = model.logits->vocab();
  if (file) {
    RETORT_RETURN_IF_ERROR(takeFilePlan(o, model, *file, plan));
    ids = file->info().vocab;
  } else {
    if (teacher) {
      RETORT_ASSIGN_OR_RETURN(ids, score::commonIds(model, *teacher));
    }
    RETORT_RETURN_IF_ERROR(setWindows(o, {&model, teacher}, plan));
  }
  RETORT_RETURN_IF_ERROR(checkTokens(plan, ids));
  RETORT_RETURN_IF_ERROR(openLogits(plan, {&model, teacher}));
  bool compares = teacher || file;
  TextResult result{plan, TextReport(plan.texts.size(), compares, o.worst),
                    teacher ? teacher->name
                    : file  ? file->info().name
                            : std::string(),
                    file != nullptr};
  std::vector<LogitsSource *> running = {model.logits.get()};
  if (teacher)
    running.push_back(teacher->logits.get());
  ModelCancelScope scope(std::move(running));
  Progress progress(stderr, Progress::Unit::Tokens);
  auto show = showProgress(progress, "scoring " + model.name);
  Status scored =
      file ? score::scoreAgainstFile(*file, *model.logits, result.report, show)
           : score::scoreTexts(plan, *model.logits,
                               teacher ? teacher->logits.get() : nullptr, ids,
                               result.report, show);
  progress.finish();
  RETORT_RETURN_IF_ERROR(std::move(scored));
  return result;
}

Status runTextScore(const ScoreOptions &o) {
  RETORT_ASSIGN_OR_RETURN(ScoreModel model, openScored(o, o.model));
  if (o.saveTeacher)
    return saveTeacher(o, model);
  std::optional<TeacherReader> file;
  std::optional<ScoreModel> teacher;
  if (!o.against.empty() && score::isTeacherFile(o.against)) {
    RETORT_ASSIGN_OR_RETURN(file, TeacherReader::open(o.against));
  } else if (!o.against.empty()) {
    if (o.texts.empty() && !o.tokens)
      return invalidArgument(o.against +
                             ": is no teacher file, which would hold texts: "
                             "expected --text or --tokens");
    RETORT_ASSIGN_OR_RETURN(teacher, openScored(o, o.against));
  }
  RETORT_ASSIGN_OR_RETURN(TextResult result,
                          scoreModelTexts(o, model,
                                          teacher ? &*teacher : nullptr,
                                          file ? &*file : nullptr));
  RETORT_RETURN_IF_ERROR(print(o, result, model));
  if (!o.certify)
    return Status::ok();
  uint64_t teacherId = file ? file->info().teacher : 0;
  if (teacher) {
    RETORT_ASSIGN_OR_RETURN(teacherId, teacher->logits->identity());
  }
  return certifyTexts(model, result, teacherId);
}

} // namespace retort::tools
