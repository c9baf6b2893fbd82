//===- ScoreOptions.h - The modes of the score command ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_SCOREOPTIONS_H
#define RETORT_TOOLS_COMMON_SCOREOPTIONS_H

#include "runtime/score/SuiteRun.h"
#include "runtime/score/TextScore.h"
#include "tools/common/Commands.h"

#include <nlohmann/json.hpp>

namespace retort::tools {

/// What was given on the command line.
struct ScoreOptions {
  std::string model;
  std::vector<std::string> texts, students;
  std::optional<std::string> tokens, suite, saveTeacher, answers, system;
  std::string against; ///< --against or --teacher
  uint32_t context = 0, stride = 0, topK = 256, threads = 0;
  uint64_t samples = 1, maxTokens = 2048, seed = 0, limit = 0;
  std::optional<double> temperature, topP;
  size_t worst = 10;
  bool json = false, details = false, noResume = false, raw = false,
       reference = false, noVerify = false, certify = false;
  std::string target;
  CheckpointOpener openCheckpoint; ///< may be empty
};

/// Opens an artifact, or a checkpoint directory where the tool can.
Result<score::ScoreModel> openScored(const ScoreOptions &options,
                                     const std::string &path);

/// The figures of texts, from a teacher file or models.
struct TextResult {
  score::TextPlan plan;
  score::TextReport report;
  std::string teacher;  ///< its name, if there is one
  bool bounded = false; ///< from a teacher file: KL is known within bounds
};

/// Scores the texts of the options, or `plan` if it is given, with a model and
/// the teacher beside it: a model, a file or neither.
Result<TextResult> scoreModelTexts(const ScoreOptions &options,
                                   score::ScoreModel &model,
                                   score::ScoreModel *teacher,
                                   const score::TeacherReader *file,
                                   const score::TextPlan *plan = nullptr);

/// `--certify`: adds the figures to the certificate of the model, an artifact,
/// in place of those of the same measurement. `teacherId` is the identity of
/// the teacher's weights, if there is one.
Status certifyTexts(const score::ScoreModel &model, const TextResult &result,
                    uint64_t teacherId);

/// `--text`.
Status runTextScore(const ScoreOptions &options);
/// `--suite`.
Status runSuiteScore(const ScoreOptions &options);
/// `--students`.
Status runLadder(const ScoreOptions &options);

/// A number as JSON: nine digits, so that the last bits, in which C libraries
/// differ, don't show. Null if it isn't finite.
nlohmann::ordered_json jsonNumber(double value);

/// While it lives, signals cancel the models.
class ModelCancelScope {
public:
  explicit ModelCancelScope(std::vector<score::LogitsSource *> models)
      : models(std::move(models)), scope(&ModelCancelScope::cancel, this) {}

private:
  static void cancel(void *self) {
    for (score::LogitsSource *model :
         static_cast<ModelCancelScope *>(self)->models)
      model->cancel();
  }
  std::vector<score::LogitsSource *> models;
  CancelScope scope;
};

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_SCOREOPTIONS_H
