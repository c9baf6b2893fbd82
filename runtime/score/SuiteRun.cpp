//===- SuiteRun.cpp - Answers to problems -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/SuiteRun.h"

#include "runtime/score/Answers.h"

#include <algorithm>
#include <xxhash.h>

namespace retort::score {
namespace {

struct Prompt {
  std::vector<int32_t> ids;
  bool inThought = false; ///< it ends by beginning a thought
};

Result<Prompt> makePrompt(const ScoreModel &model, const Problem &problem,
                          const SuiteOptions &options) {
  Prompt out;
  if (options.raw || !model.text.hasChatTemplate()) {
    RETORT_ASSIGN_OR_RETURN(out.ids, model.text.encode(problem.text, true));
    return out;
  }
  text::Json messages = text::Json::array();
  if (options.system)
    messages.push_back({{"role", "system"}, {"content", *options.system}});
  messages.push_back({{"role", "user"}, {"content", problem.text}});
  RETORT_ASSIGN_OR_RETURN(std::string rendered,
                          model.text.renderChat(messages.dump(), true));
  RETORT_ASSIGN_OR_RETURN(out.ids, model.text.encode(rendered, false));
  size_t end = rendered.find_last_not_of(" \t\r\n");
  out.inThought =
      end != std::string::npos &&
      std::string_view(rendered).substr(0, end + 1).ends_with("<think>");
  return out;
}

uint64_t seedOf(uint64_t seed, uint64_t problem, uint64_t sample) {
  uint64_t parts[] = {seed, problem, sample};
  return XXH3_64bits(parts, sizeof parts);
}

/// Clears the pointer to a session that is about to go.
class RunningScope {
public:
  RunningScope(std::atomic<Session *> *place, Session *session) : place(place) {
    if (place)
      place->store(session);
  }
  ~RunningScope() {
    if (place)
      place->store(nullptr);
  }

private:
  std::atomic<Session *> *place;
};

} // namespace

Result<SuiteRun> runSuite(const ScoreModel &model,
                          std::span<const Problem> problems,
                          const SuiteOptions &options, const ReplySink &sink,
                          std::atomic<Session *> *running) {
  if (!model.model)
    return Status::error(Code::Unsupported,
                         model.path + ": answers need compiled code");
  if (!model.text.hasTokenizer())
    return Status::error(Code::NotFound,
                         model.path + ": the model has no tokenizer");
  if (options.system && !model.text.hasChatTemplate())
    return Status::error(Code::NotFound,
                         model.path + ": the model has no chat template");
  RETORT_RETURN_IF_ERROR(Sampler::check(options.sampling));
  const Artifact &artifact = model.model->artifact();
  RETORT_ASSIGN_OR_RETURN(GenerationDefaults defaults,
                          generationDefaults(artifact));

  std::vector<Prompt> prompts;
  uint64_t longest = 0;
  for (const Problem &problem : problems) {
    auto prompt = makePrompt(model, problem, options);
    if (!prompt.isOk())
      return prompt.takeStatus().withContext("problem " + problem.id);
    longest = std::max<uint64_t>(longest, prompt->ids.size());
    prompts.push_back(std::move(*prompt));
  }
  uint64_t most = model.model->info().max_context();
  SessionOptions session;
  session.threads = options.threads;
  session.context = static_cast<uint32_t>(
      options.context ? options.context
                      : std::min(most, longest + options.maxTokens));
  for (size_t i = 0; i < prompts.size(); ++i)
    if (prompts[i].ids.empty() || prompts[i].ids.size() >= session.context)
      return Status::error(
          Code::InvalidArgument,
          "problem " + problems[i].id + ": the prompt has " +
              std::to_string(prompts[i].ids.size()) +
              " tokens, expected 1 to " + std::to_string(session.context - 1) +
              " in a context of " + std::to_string(session.context));
  RETORT_ASSIGN_OR_RETURN(auto computing,
                          Session::create(model.model, session));
  RunningScope scope(running, computing.get());

  GenerateOptions generateOptions;
  generateOptions.maxTokens = static_cast<int64_t>(options.maxTokens);
  generateOptions.endTokens = defaults.endTokens;
  for (int32_t id : model.text.endTokens())
    generateOptions.endTokens.push_back(id);

  SuiteRun out;
  for (size_t i = 0; i < problems.size(); ++i) {
    const std::vector<int32_t> &ids = prompts[i].ids;
    std::span<const int32_t> front(ids.data(), ids.size() - 1);
    RETORT_RETURN_IF_ERROR(computing->rewind(0));
    if (!front.empty())
      RETORT_RETURN_IF_ERROR(computing->feed(front));
    out.replies.emplace_back();
    for (uint64_t s = 0; s < options.samples; ++s) {
      RETORT_RETURN_IF_ERROR(
          computing->rewind(static_cast<uint32_t>(front.size())));
      SamplerOptions sampling = options.sampling;
      sampling.seed = seedOf(sampling.seed, i, s);
      Sampler sampler(sampling);
      RETORT_ASSIGN_OR_RETURN(Generated generated,
                              generate(*computing, sampler, nullptr,
                                       {&ids.back(), 1}, generateOptions));
      if (generated.reason == StopReason::Cancelled)
        return Status::error(Code::Cancelled, "cancelled");
      Reply reply;
      reply.problem = i;
      reply.sample = s;
      RETORT_ASSIGN_OR_RETURN(
          reply.text,
          model.text.decode(generated.tokens, /*skipSpecial=*/false));
      reply.result.tokens = generated.stats.newTokens;
      reply.result.cut = generated.reason != StopReason::EndToken;
      reply.result.answer = extractAnswer(reply.text, prompts[i].inThought);
      reply.result.right =
          reply.result.answer &&
          equivalentAnswers(*reply.result.answer, problems[i].answer);
      reply.prompt = ids;
      reply.tokens = std::move(generated.tokens);
      out.decodeSteps += generated.stats.decodeSteps;
      out.decodeSeconds += generated.stats.decodeSeconds;
      out.replies.back().push_back(reply.result);
      if (sink)
        RETORT_RETURN_IF_ERROR(sink(reply));
    }
  }
  return out;
}

} // namespace retort::score
