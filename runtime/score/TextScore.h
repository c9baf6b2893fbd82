//===- TextScore.h - Loss and divergence on texts ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Scores texts with a model, alone or beside a teacher that runs or has run.
/// Logits are looked at as they come: some tens of rows are held at a time.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_TEXTSCORE_H
#define RETORT_RUNTIME_SCORE_TEXTSCORE_H

#include "runtime/score/LogitsSource.h"
#include "runtime/score/TeacherFile.h"

namespace retort::score {

/// One token of a text.
struct TokenScore {
  size_t text = 0;
  uint64_t index = 0;    ///< in the text
  uint64_t position = 0; ///< tokens in the context before it
  double loss = 0;       ///< -log of its probability, in nats
  int32_t best = 0;      ///< what the model holds likeliest
  // With a teacher:
  Bounds kl; ///< equal ones if the teacher runs
  double teacherLoss = 0;
  int32_t teacherBest = 0;
  bool sameBest = false;
  double sharedTop = 0; ///< share of the teacher's five that are the model's
};

/// Figures of all tokens, or of those at some positions.
struct ScoreSums {
  uint64_t tokens = 0;
  double loss = 0, teacherLoss = 0, klLower = 0, klUpper = 0, sameBest = 0,
         sharedTop = 0;
  void add(const TokenScore &score);
};

/// What is known of the texts' tokens together. Holds sixteen bytes for each.
class TextReport {
public:
  TextReport(size_t texts, bool compares, size_t numWorst)
      : perText(texts), compares(compares), numWorst(numWorst) {}
  void add(const TokenScore &score);

  const ScoreSums &all() const { return sums; }
  const std::vector<ScoreSums> &texts() const { return perText; }
  /// Number b is of positions 2^(b-1) to 2^b - 1; number 0 of position 0.
  const std::vector<ScoreSums> &positions() const { return perPosition; }
  bool hasTeacher() const { return compares; }
  double meanLoss() const { return sums.loss / double(sums.tokens); }
  Bounds klMean() const;
  /// `share` in [0, 1], between neighbours linearly (as numpy does by default).
  Bounds klQuantile(double share) const;
  /// The tokens with the largest KL, or loss without a teacher, largest first.
  std::vector<TokenScore> worst() const;

private:
  ScoreSums sums;
  std::vector<ScoreSums> perText, perPosition;
  bool compares;
  size_t numWorst;
  std::vector<double> lower, upper;
  std::vector<TokenScore> heap;
};

/// `share` of sorted values, between neighbours linearly; 0 if there are none.
double quantile(std::vector<double> values, double share);

/// Of the tokens to score, how many have been.
using ScoreProgress = std::function<void(uint64_t done, uint64_t total)>;

/// Rows of logits of `vocab` that are held, so that their memory is bounded:
/// also how many tokens a model computes at once.
uint32_t rowsAtOnce(uint32_t vocab);

/// Scores the plan with a model whose logits are open for its context. A
/// teacher that is given runs beside it over the first `ids` ids of both.
Status scoreTexts(const TextPlan &plan, LogitsSource &model,
                  LogitsSource *teacher, uint32_t ids, TextReport &report,
                  const ScoreProgress &progress = {});

/// Scores the texts of a teacher file with a model that has at least the ids
/// of the file.
Status scoreAgainstFile(const TeacherReader &teacher, LogitsSource &model,
                        TextReport &report, const ScoreProgress &progress = {});

/// Writes what is missing of a teacher file, not its end. Goes on at the first
/// window that has not been recorded whole.
Status recordTeacher(TeacherWriter &writer, const TeacherInfo &info,
                     LogitsSource &model, const ScoreProgress &progress = {});

/// What the teacher's own loss is, from a complete file.
Status scoreTeacherFile(const TeacherReader &teacher, TextReport &report);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_TEXTSCORE_H
