//===- TextScore.cpp - Loss and divergence on texts -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/TextScore.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace retort::score {
namespace {

/// Rows of logits may take so many bytes.
constexpr uint64_t kRowBytes = uint64_t(64) << 20;
constexpr uint32_t kMaxRows = 256;
constexpr size_t kTop = kRanked;

bool isWorse(const TokenScore &a, const TokenScore &b, bool compares) {
  double x = compares ? a.kl.upper : a.loss, y = compares ? b.kl.upper : b.loss;
  if (x != y)
    return x > y;
  return std::pair(a.text, a.index) < std::pair(b.text, b.index);
}

/// A window's tokens as they are fed: the prefix, then the text's but the last,
/// whose successor isn't asked for.
std::vector<int32_t> fedTokens(const TextPlan &plan, const Window &window) {
  std::vector<int32_t> out = plan.prefix;
  const auto &tokens = plan.texts[window.text].tokens;
  out.insert(out.end(), tokens.begin() + window.begin,
             tokens.begin() + (window.end - 1));
  return out;
}

/// Called for each scored token of a window with its index in the text, the
/// tokens before it in the context, and the logits there.
using RowVisitor = std::function<Status(uint64_t index, uint64_t position,
                                        std::span<const float> row)>;

/// Feeds a window to one model and, before it, block by block, to another whose
/// rows are kept.
class WindowRunner {
public:
  WindowRunner(const TextPlan &plan, LogitsSource &model, LogitsSource *teacher)
      : plan(plan), model(model), teacher(teacher),
        block(rowsAtOnce(std::max(model.vocab(),
                                  teacher ? teacher->vocab() : uint32_t(0)))) {
    if (teacher)
      kept.resize(size_t(block) * teacher->vocab());
  }

  /// The teacher's row that belongs to the one being visited.
  std::span<const float> teacherRow() const {
    return std::span(kept).subspan(keptRow * teacher->vocab(),
                                   teacher->vocab());
  }

  Status run(const Window &window, const RowVisitor &visit) {
    std::vector<int32_t> fed = fedTokens(plan, window);
    // The row that predicts a token is the one before it.
    size_t lead = fed.size() - window.scored();
    RETORT_RETURN_IF_ERROR(model.restart());
    if (teacher)
      RETORT_RETURN_IF_ERROR(teacher->restart());
    std::span<const int32_t> rest(fed);
    for (LogitsSource *source : {teacher, &model})
      if (source && lead > 0)
        RETORT_RETURN_IF_ERROR(source->feed(rest.first(lead), {}));
    for (size_t at = lead; at < fed.size();) {
      auto part = rest.subspan(at, std::min<size_t>(block, fed.size() - at));
      RETORT_RETURN_IF_ERROR(runBlock(window, part, at, lead, visit));
      at += part.size();
    }
    return Status::ok();
  }

private:
  Status runBlock(const Window &window, std::span<const int32_t> part,
                  size_t at, size_t lead, const RowVisitor &visit) {
    if (teacher)
      RETORT_RETURN_IF_ERROR(
          teacher->feed(part, [&](uint64_t first, uint64_t count,
                                  const float *rows, uint64_t stride) {
            for (uint64_t r = 0; r < count; ++r)
              std::copy_n(rows + r * stride, teacher->vocab(),
                          kept.begin() + (first + r) * teacher->vocab());
            return Status::ok();
          }));
    return model.feed(part, [&](uint64_t first, uint64_t count,
                                const float *rows, uint64_t stride) {
      for (uint64_t r = 0; r < count; ++r) {
        keptRow = first + r;
        uint64_t fedIndex = at + first + r;
        RETORT_RETURN_IF_ERROR(visit(window.firstScored + fedIndex - lead,
                                     fedIndex + 1,
                                     {rows + r * stride, model.vocab()}));
      }
      return Status::ok();
    });
  }

  const TextPlan &plan;
  LogitsSource &model;
  LogitsSource *teacher;
  uint32_t block;
  std::vector<float> kept; ///< [block, the teacher's vocabulary]
  size_t keptRow = 0;
};

/// Says which token an error belongs to.
Status at(Status status, const Text &text, uint64_t index) {
  return std::move(status).withContext(text.name + ": token " +
                                       std::to_string(index));
}

template <typename T>
Result<T> at(Result<T> result, const Text &text, uint64_t index) {
  if (result.isOk())
    return result;
  return at(result.takeStatus(), text, index);
}

/// A row before a token: over the ids that are compared, and of the token among
/// all.
struct ReadRow {
  Distribution shared;
  double tokenLogProb;
};

Result<ReadRow> readRow(std::span<const float> row, uint32_t ids,
                        int32_t token) {
  RETORT_ASSIGN_OR_RETURN(Distribution shared,
                          Distribution::create(row.first(ids)));
  RETORT_ASSIGN_OR_RETURN(Distribution whole, shared.extended(row));
  return ReadRow{shared, whole.logProb(token)};
}

TokenScore makeScore(size_t text, uint64_t index, uint64_t position,
                     double logProb) {
  TokenScore score;
  score.text = text;
  score.index = index;
  score.position = position;
  score.loss = -logProb;
  return score;
}

void compareTops(TokenScore &score, std::span<const int32_t> teacher,
                 std::span<const int32_t> model) {
  score.teacherBest = teacher[0];
  score.sameBest = teacher[0] == model[0];
  score.sharedTop =
      double(countShared(teacher, model)) / double(teacher.size());
}

} // namespace

void ScoreSums::add(const TokenScore &score) {
  ++tokens;
  loss += score.loss;
  teacherLoss += score.teacherLoss;
  klLower += score.kl.lower;
  klUpper += score.kl.upper;
  sameBest += score.sameBest;
  sharedTop += score.sharedTop;
}

void TextReport::add(const TokenScore &score) {
  sums.add(score);
  perText[score.text].add(score);
  size_t bucket = std::bit_width(score.position);
  if (perPosition.size() <= bucket)
    perPosition.resize(bucket + 1);
  perPosition[bucket].add(score);
  if (compares) {
    lower.push_back(score.kl.lower);
    upper.push_back(score.kl.upper);
  }
  if (numWorst == 0)
    return;
  auto order = [&](const TokenScore &a, const TokenScore &b) {
    return isWorse(a, b, compares);
  };
  heap.push_back(score);
  std::push_heap(heap.begin(), heap.end(), order);
  if (heap.size() > numWorst) {
    std::pop_heap(heap.begin(), heap.end(), order);
    heap.pop_back();
  }
}

Bounds TextReport::klMean() const {
  auto count = double(sums.tokens);
  return {sums.klLower / count, sums.klUpper / count};
}

Bounds TextReport::klQuantile(double share) const {
  return {quantile(lower, share), quantile(upper, share)};
}

std::vector<TokenScore> TextReport::worst() const {
  std::vector<TokenScore> out = heap;
  std::sort(out.begin(), out.end(),
            [&](const TokenScore &a, const TokenScore &b) {
              return isWorse(a, b, compares);
            });
  return out;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  double place = share * double(values.size() - 1);
  size_t below = static_cast<size_t>(place);
  size_t above = std::min(below + 1, values.size() - 1);
  double part = place - double(below);
  return values[below] + part * (values[above] - values[below]);
}

uint32_t rowsAtOnce(uint32_t vocab) {
  uint64_t rows = kRowBytes / (sizeof(float) * std::max(vocab, uint32_t(1)));
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(rows / 32 * 32, 32, kMaxRows));
}

Status scoreTexts(const TextPlan &plan, LogitsSource &model,
                  LogitsSource *teacher, uint32_t ids, TextReport &report,
                  const ScoreProgress &progress) {
  std::vector<Window> windows = planWindows(plan);
  uint64_t total = countScored(windows), done = 0;
  WindowRunner runner(plan, model, teacher);
  if (progress)
    progress(0, total);
  for (const Window &window : windows)
    RETORT_RETURN_IF_ERROR(
        runner.run(window, [&](uint64_t index, uint64_t position,
                               std::span<const float> row) {
          const Text &text = plan.texts[window.text];
          int32_t token = text.tokens[index];
          RETORT_ASSIGN_OR_RETURN(ReadRow q,
                                  at(readRow(row, ids, token), text, index));
          TokenScore score =
              makeScore(window.text, index, position, q.tokenLogProb);
          auto best = likeliest(q.shared.logits(), kTop);
          score.best = best[0];
          if (teacher) {
            RETORT_ASSIGN_OR_RETURN(
                ReadRow p,
                at(readRow(runner.teacherRow(), ids, token), text, index));
            score.kl.lower = score.kl.upper = klDivergence(p.shared, q.shared);
            score.teacherLoss = -p.tokenLogProb;
            compareTops(score, likeliest(p.shared.logits(), kTop), best);
          }
          report.add(score);
          if (progress)
            progress(++done, total);
          return Status::ok();
        }));
  return Status::ok();
}

Status scoreAgainstFile(const TeacherReader &teacher, LogitsSource &model,
                        TextReport &report, const ScoreProgress &progress) {
  const TeacherInfo &info = teacher.info();
  uint64_t number = 0;
  WindowRunner runner(info.plan, model, nullptr);
  if (progress)
    progress(0, teacher.records());
  KlBounder bounder;
  for (const Window &window : teacher.windows())
    RETORT_RETURN_IF_ERROR(
        runner.run(window, [&](uint64_t index, uint64_t position,
                               std::span<const float> row) {
          const Text &text = info.plan.texts[window.text];
          RETORT_ASSIGN_OR_RETURN(
              ReadRow q,
              at(readRow(row, info.vocab, text.tokens[index]), text, index));
          RETORT_ASSIGN_OR_RETURN(TeacherRecord record, teacher.record(number));
          TokenScore score =
              makeScore(window.text, index, position, q.tokenLogProb);
          auto best = likeliest(q.shared.logits(), kTop);
          score.best = best[0];
          score.kl = bounder.bound(record, q.shared);
          score.teacherLoss = -record.tokenLogProb;
          compareTops(score, record.top(), best);
          report.add(score);
          ++number;
          if (progress)
            progress(number, teacher.records());
          return Status::ok();
        }));
  return Status::ok();
}

Status recordTeacher(TeacherWriter &writer, const TeacherInfo &info,
                     LogitsSource &model, const ScoreProgress &progress) {
  const TextPlan &plan = info.plan;
  uint64_t total = countScored(writer.windows()), done = 0;
  WindowRunner runner(plan, model, nullptr);
  for (const Window &window : writer.windows()) {
    if (done + window.scored() <= writer.records()) {
      done += window.scored();
      continue;
    }
    // A window is computed whole: what a model gives may depend, in the last
    // bits, on how many tokens it gets at once.
    RETORT_RETURN_IF_ERROR(writer.cut(done));
    if (progress)
      progress(done, total);
    RETORT_RETURN_IF_ERROR(runner.run(window, [&](uint64_t index, uint64_t,
                                                  std::span<const float> row) {
      const Text &text = plan.texts[window.text];
      int32_t token = text.tokens[index];
      RETORT_ASSIGN_OR_RETURN(ReadRow p,
                              at(readRow(row, info.vocab, token), text, index));
      TeacherRecord record = makeRecord(p.shared, info.topK);
      record.tokenLogProb = static_cast<float>(p.tokenLogProb);
      ++done;
      if (progress)
        progress(done, total);
      return writer.append(record);
    }));
  }
  return Status::ok();
}

Status scoreTeacherFile(const TeacherReader &teacher, TextReport &report) {
  uint64_t number = 0;
  for (const Window &window : teacher.windows())
    for (uint64_t i = window.firstScored; i < window.end; ++i) {
      RETORT_ASSIGN_OR_RETURN(TeacherRecord record, teacher.record(number++));
      uint64_t position =
          teacher.info().plan.prefix.size() + (i - window.begin);
      TokenScore score =
          makeScore(window.text, i, position, record.tokenLogProb);
      score.best = record.top()[0];
      report.add(score);
    }
  return Status::ok();
}

} // namespace retort::score
