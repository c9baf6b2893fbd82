//===- RunCommand.cpp - Text from a model -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Commands.h"
#include "tools/common/RunOptions.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

const char *reasonName(retort_stop_reason reason) {
  switch (reason) {
  case RETORT_STOP_END_TOKEN:
    return "end_token";
  case RETORT_STOP_STRING:
    return "stop_string";
  case RETORT_STOP_LENGTH:
    return "length";
  case RETORT_STOP_CONTEXT_FULL:
    return "context_full";
  case RETORT_STOP_CANCELLED:
    return "cancelled";
  }
  return "";
}

/// The model's defaults under what the command line says.
Status applySampling(RunState &state) {
  const RunOptions &o = state.options;
  retort_sampling sampling;
  retort_sampling_defaults(state.model.get(), &sampling);
  sampling.temperature = o.temperature.value_or(sampling.temperature);
  sampling.top_k = o.topK.value_or(sampling.top_k);
  sampling.top_p = o.topP.value_or(sampling.top_p);
  sampling.min_p = o.minP.value_or(sampling.min_p);
  // Who asks for greedy decoding means the largest logit, not the largest
  // after a penalty that the model recommends for sampling.
  if (o.temperature == 0.0)
    sampling.repeat_penalty = 1;
  sampling.repeat_penalty = o.repeatPenalty.value_or(sampling.repeat_penalty);
  sampling.seed = o.seed ? *o.seed : std::random_device{}();
  return statusOf(retort_session_set_sampling(state.session.get(), &sampling));
}

Status openModel(RunState &state) {
  const RunOptions &o = state.options;
  auto begin = std::chrono::steady_clock::now();
  retort_model_options modelOptions{};
  modelOptions.threads = o.threads;
  modelOptions.weights =
      o.noVerify ? RETORT_WEIGHTS_NEVER : RETORT_WEIGHTS_AUTO;
  modelOptions.target = o.target.empty() ? nullptr : o.target.c_str();
  modelOptions.interleave = static_cast<retort_placement>(o.interleave);
  retort_model *model = nullptr;
  RETORT_RETURN_IF_ERROR(
      statusOf(retort_model_open(o.model.c_str(), &modelOptions, &model)));
  state.model.reset(model);
  retort_model_get_info(model, &state.info);
  if (!o.noVerify && !state.info.weights_verified)
    noteUnverifiedWeights(state.info.weight_bytes, state.info.memory_bytes);
  if (o.selfTest)
    return Status::ok();
  retort_session_options sessionOptions{};
  sessionOptions.context = o.context;
  sessionOptions.threads = o.threads;
  sessionOptions.prefill_chunk = o.prefillChunk;
  sessionOptions.draft = o.mtp;
  sessionOptions.pin = static_cast<retort_placement>(o.pin);
  retort_session *session = nullptr;
  RETORT_RETURN_IF_ERROR(
      statusOf(retort_session_open(model, &sessionOptions, &session)));
  state.session.reset(session);
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  state.loadSeconds = took.count();
  return applySampling(state);
}

Status runSelfTest(RunState &state) {
  retort_selftest_result result;
  RETORT_RETURN_IF_ERROR(statusOf(retort_model_selftest(
      state.model.get(), state.options.threads, &result)));
  char line[160];
  std::snprintf(line, sizeof line, "token %d, expected %d; relative error %.2e",
                result.greedy, result.expected_greedy, result.relative_error);
  if (!result.passed)
    return Status::error(Code::Internal, std::string("self test: ") + line);
  return writeOut(std::string("self test passed: ") + line + "\n");
}

/// The ids of the prompt: through the chat template, if there is one and
/// --raw doesn't forbid it.
Result<std::vector<int32_t>> promptIds(RunState &state) {
  const RunOptions &o = state.options;
  if (o.tokens) {
    RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, parseIds(*o.tokens));
    if (ids.empty())
      return Status::error(Code::InvalidArgument,
                           "tokens: expected at least one, found none");
    return ids;
  }
  std::string what = o.prompt ? "prompt" : *o.promptFile;
  std::string prompt = o.prompt.value_or("");
  if (o.promptFile) {
    RETORT_ASSIGN_OR_RETURN(prompt, readInput(*o.promptFile));
  }
  if (prompt.empty())
    return Status::error(Code::InvalidArgument,
                         what + ": expected text, found none");
  RETORT_RETURN_IF_ERROR(checkUtf8(what, prompt));
  if (o.raw || !state.info.has_chat_template)
    return tokenize(state.model.get(), prompt, true);
  Json messages = Json::array();
  if (o.system) {
    RETORT_RETURN_IF_ERROR(checkUtf8("system prompt", *o.system));
    messages.push_back({{"role", "system"}, {"content", *o.system}});
  }
  messages.push_back({{"role", "user"}, {"content", prompt}});
  RETORT_ASSIGN_OR_RETURN(std::string text,
                          renderChat(state.model.get(), messages.dump()));
  return tokenize(state.model.get(), text, false);
}

Status checkModel(const RunState &state) {
  const RunOptions &o = state.options;
  if (!o.tokens && !o.selfTest && !state.info.has_tokenizer)
    return Status::error(Code::NotFound,
                         "the model was compiled without a tokenizer: give "
                         "--tokens instead of text");
  if ((o.chat || o.system) && !state.info.has_chat_template)
    return Status::error(Code::NotFound, "the model has no chat template");
  return Status::ok();
}

Json answerJson(const RunState &state, const Answer &answer) {
  const retort_generate_stats &stats = answer.stats;
  return {{"text", answer.text},
          {"ids", answer.ids},
          {"stop", reasonName(stats.reason)},
          {"load_ms", state.loadSeconds * 1e3},
          {"prompt_tokens", stats.prompt_tokens},
          {"new_tokens", stats.new_tokens},
          {"prefill_tps", stats.prefill_tps},
          {"decode_tps", stats.decode_tps},
          {"drafted", stats.drafted},
          {"accepted", stats.accepted},
          {"bytes_per_token", stats.bytes_per_token},
          {"read_gbps", stats.read_gbps}};
}

Status runPrompt(RunState &state) {
  const RunOptions &o = state.options;
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, promptIds(state));
  uint32_t context = retort_session_context(state.session.get());
  if (ids.size() > context)
    return Status::error(Code::InvalidArgument,
                         "the prompt has " + std::to_string(ids.size()) +
                             " tokens, expected at most " +
                             std::to_string(context) +
                             ", the size of the context");
  if (o.logits)
    return writeLogits(state, ids);
  RETORT_ASSIGN_OR_RETURN(Answer answer, generateAnswer(state, ids, !o.json));
  if (o.json) {
    RETORT_RETURN_IF_ERROR(writeOut(answerJson(state, answer).dump() + "\n"));
  } else if (!state.info.has_tokenizer) {
    RETORT_RETURN_IF_ERROR(writeOut(formatIds(answer.ids) + "\n"));
  } else if (!answer.text.ends_with('\n')) {
    RETORT_RETURN_IF_ERROR(writeOut("\n"));
  }
  if (o.stats && !o.json)
    printStats(state, answer.stats);
  return Status::ok();
}

/// Which of the exclusive modes were given.
void checkUsage(const RunOptions &o) {
  int modes = o.prompt.has_value() + o.promptFile.has_value() +
              o.tokens.has_value() + o.chat + o.selfTest;
  if (modes != 1)
    throw UsageError(std::string("expected ") +
                     (modes == 0 ? "one" : "only one") +
                     " of -p, -f, --tokens, --chat and --selftest");
  if (o.logits && !o.tokens)
    throw UsageError("--logits needs --tokens");
  if (o.logits && o.maxTokens.value_or(0) > 0 && o.temperature.value_or(0) != 0)
    throw UsageError("--logits with -n needs --temp 0");
  if (o.mtp && (o.logits || o.selfTest))
    throw UsageError("--mtp goes with -p, -f, --chat or --tokens, without "
                     "--logits");
  if (o.system && (o.raw || o.tokens))
    throw UsageError("--system excludes --raw and --tokens");
  if (o.raw && (o.chat || o.tokens))
    throw UsageError("--raw goes with -p or -f");
  if (o.json && (o.chat || o.logits || o.selfTest))
    throw UsageError("--json goes with -p, -f or --tokens");
}

Status run(const RunOptions &options) {
  checkUsage(options);
  RunState state{options, {}, {}};
  RETORT_RETURN_IF_ERROR(openModel(state));
  RETORT_RETURN_IF_ERROR(checkModel(state));
  if (options.selfTest)
    return runSelfTest(state);
  return options.chat ? runChat(state) : runPrompt(state);
}

void declareSampling(CLI::App &command, RunOptions &o) {
  const char *group = "Sampling (defaults: the model's generation_config.json)";
  command.add_option("--temp", o.temperature, "Temperature; 0: greedy")
      ->group(group);
  command.add_option("--top-k", o.topK, "Keep the k likeliest tokens; 0: all")
      ->group(group);
  command.add_option("--top-p", o.topP, "Keep tokens up to this probability")
      ->group(group);
  command
      .add_option("--min-p", o.minP,
                  "Drop tokens less likely than this times the likeliest")
      ->group(group);
  command
      .add_option("--repeat-penalty", o.repeatPenalty,
                  "Penalty for tokens of the context; 1: none")
      ->group(group);
  command.add_option("--seed", o.seed, "Seed; default: random")->group(group);
}

void declareInput(CLI::App &command, RunOptions &o) {
  const char *group = "Input (one of these)";
  command
      .add_option("-p,--prompt", o.prompt,
                  "Answer PROMPT, through the chat template if the model has "
                  "one")
      ->group(group);
  command
      .add_option("-f,--file", o.promptFile,
                  "As -p, with the prompt from a file; -: standard input")
      ->group(group);
  command.add_flag("--chat", o.chat, "Talk: a message per line")->group(group);
  command
      .add_option("--tokens", o.tokens,
                  "Token ids, as they are: 1,2,3 or @FILE")
      ->group(group);
  command
      .add_flag("--selftest", o.selfTest,
                "Compare with logits stored at compile time")
      ->group(group);
  command.add_option("--system", o.system, "System message");
  command.add_flag("--raw", o.raw, "Complete the prompt without a template");
}

void declareOutput(CLI::App &command, RunOptions &o) {
  command
      .add_option("-n,--max-tokens", o.maxTokens,
                  "Generate at most N tokens; default: to the end token")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 40));
  command
      .add_option("--stop", o.stops,
                  "Text that ends the generation; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--logits", o.logits,
                     "With --tokens: write the logits after each token, and "
                     "with -n N --temp 0 greedy_ids, to a safetensors file");
  command.add_flag("--ignore-eos", o.ignoreEnd, "Go on past end tokens");
  command.add_flag("--special", o.special, "Show special tokens");
  command.add_flag("--stats", o.stats, "Print speeds");
  command.add_flag("--json", o.json, "Print one JSON object at the end");
}

void declareMachine(CLI::App &command, RunOptions &o) {
  command
      .add_option("--context", o.context,
                  "Positions; default: the model's maximum, as memory allows")
      ->check(kPositiveCount);
  command
      .add_option("--threads", o.threads, "Threads; default: all processors")
      ->check(kPositiveCount);
  addPlacement(command, "--pin", o.pin, kPinHelp);
  addPlacement(command, "--interleave", o.interleave, kInterleaveHelp);
  command
      .add_option("--prefill-chunk", o.prefillChunk,
                  "Tokens computed at once; 1: all through the decode path")
      ->check(kPositiveCount);
  command.add_flag("--mtp", o.mtp,
                   "Guess ahead with the model's multi-token-prediction layer "
                   "and check the guesses: the same text, sooner");
  command.add_option("--code", o.target, "Run the code for this target");
  command.add_flag("--no-verify", o.noVerify, "Don't hash the weights");
}

} // namespace

Result<Answer> generateAnswer(RunState &state, std::span<const int32_t> prompt,
                              bool stream) {
  const RunOptions &o = state.options;
  std::vector<const char *> stops;
  for (const std::string &stop : o.stops)
    stops.push_back(stop.c_str());
  retort_generate_options options{};
  options.max_tokens = o.maxTokens.value_or(0);
  options.stops = stops.data();
  options.num_stops = stops.size();
  options.ignore_end_tokens = o.ignoreEnd;
  options.special = o.special;

  struct Sink {
    Answer answer;
    bool stream;
    Status written;
  } sink{{}, stream, {}};
  auto onText = [](void *user, const char *text, size_t length,
                   int32_t token) -> int {
    Sink &sink = *static_cast<Sink *>(user);
    sink.answer.text.append(text, length);
    if (token >= 0)
      sink.answer.ids.push_back(token);
    if (sink.stream && length > 0)
      sink.written = writeOut({text, length});
    return sink.written.isOk() ? 0 : 1;
  };
  CancelScope scope(
      [](void *session) {
        retort_session_cancel(static_cast<retort_session *>(session));
      },
      state.session.get());
  // In the C API 0 stands for no limit.
  if (o.maxTokens == 0) {
    RETORT_RETURN_IF_ERROR(statusOf(retort_session_feed(
        state.session.get(), prompt.data(), prompt.size())));
    return std::move(sink.answer);
  }
  RETORT_RETURN_IF_ERROR(statusOf(
      retort_session_generate(state.session.get(), prompt.data(), prompt.size(),
                              &options, onText, &sink, &sink.answer.stats)));
  RETORT_RETURN_IF_ERROR(std::move(sink.written));
  return std::move(sink.answer);
}

void printStats(const RunState &state, const retort_generate_stats &stats) {
  std::fprintf(stderr,
               "load %.0f ms; prefill %llu tokens, %.1f t/s; decode %llu "
               "tokens, %.1f t/s, %.1f MB per token, %.1f GB/s\n",
               state.loadSeconds * 1e3,
               static_cast<unsigned long long>(stats.prompt_tokens),
               stats.prefill_tps,
               static_cast<unsigned long long>(stats.new_tokens),
               stats.decode_tps, stats.bytes_per_token / 1e6, stats.read_gbps);
  if (state.options.mtp)
    std::fprintf(stderr, "%llu of %llu guesses were right\n",
                 static_cast<unsigned long long>(stats.accepted),
                 static_cast<unsigned long long>(stats.drafted));
}

Action addRunCommand(CLI::App &command, const std::string &carried) {
  auto options = std::make_shared<RunOptions>();
  options->model = carried;
  if (carried.empty())
    command.add_option("MODEL", options->model, "Compiled model")->required();
  declareInput(command, *options);
  declareOutput(command, *options);
  declareSampling(command, *options);
  declareMachine(command, *options);
  return [options] { return run(*options); };
}

} // namespace retort::tools
