//===- Retort.cpp - The C API of the runtime --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/Handles.h"
#include "runtime/engine/SelfTest.h"
#include "runtime/loader/Semantics.h"

#include <algorithm>
#include <mutex>

using namespace retort;
using namespace retort::api;

struct retort_session {
  std::mutex mutex;
  std::shared_ptr<const ModelState> state;
  std::unique_ptr<Session> session;
  Sampler sampler{SamplerOptions{}};
};

namespace {

OpenOptions openOptions(const retort_model_options &options) {
  OpenOptions out;
  out.threads = options.threads;
  out.weights = options.weights == RETORT_WEIGHTS_ALWAYS  ? WeightCheck::Always
                : options.weights == RETORT_WEIGHTS_NEVER ? WeightCheck::Never
                                                          : WeightCheck::Auto;
  return out;
}

Status makeModel(Result<std::shared_ptr<const Artifact>> artifact,
                 const retort_model_options &options, retort_model **model) {
  RETORT_RETURN_IF_ERROR(artifact.isOk() ? Status::ok()
                                         : artifact.takeStatus());
  RETORT_RETURN_IF_ERROR(
      placeWeights(**artifact, toPlacement(options.interleave)));
  auto state = std::make_shared<ModelState>();
  RETORT_ASSIGN_OR_RETURN(state->text, ModelText::read(**artifact));
  RETORT_ASSIGN_OR_RETURN(state->defaults, generationDefaults(**artifact));
  for (int32_t id : state->text.endTokens())
    state->defaults.endTokens.push_back(id);
  RETORT_ASSIGN_OR_RETURN(
      state->model,
      Model::load(*artifact, options.target ? options.target : ""));
  *model = new retort_model{std::move(state)};
  return Status::ok();
}

retort_sampling toC(const SamplerOptions &options) {
  return {options.temperature, options.topK,          options.topP,
          options.minP,        options.repeatPenalty, options.seed};
}

bool contains(const std::vector<int32_t> &ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

retort_generate_stats toC(const Generated &generated) {
  const GenerateStats &stats = generated.stats;
  retort_generate_stats out{};
  out.reason = static_cast<retort_stop_reason>(generated.reason);
  out.prompt_tokens = stats.promptTokens;
  out.new_tokens = stats.newTokens;
  out.prefill_seconds = stats.prefillSeconds;
  out.decode_seconds = stats.decodeSeconds;
  out.bytes_per_token = stats.bytesPerToken;
  out.prefill_tps = stats.prefillTps();
  out.decode_tps = stats.decodeTps();
  out.drafted = stats.drafted;
  out.accepted = stats.accepted;
  out.read_gbps = stats.readGbps();
  return out;
}
static_assert(RETORT_STOP_CANCELLED == static_cast<int>(StopReason::Cancelled));

Result<GenerateOptions> fromC(const retort_generate_options &options,
                              const ModelState &state) {
  GenerateOptions out;
  if (options.max_tokens < 0)
    return Status::error(Code::InvalidArgument,
                         "max_tokens: expected a number from 0 on, found " +
                             std::to_string(options.max_tokens));
  out.maxTokens = options.max_tokens > 0 ? options.max_tokens : -1;
  if (!options.ignore_end_tokens)
    out.endTokens = state.defaults.endTokens;
  if (options.num_stops > 0 && !options.stops)
    return nullArgument("stops");
  for (size_t i = 0; i < options.num_stops; ++i) {
    if (!options.stops[i])
      return nullArgument("stops");
    out.stops.push_back(options.stops[i]);
  }
  return out;
}

} // namespace

extern "C" {

const char *retort_version(void) { return RETORT_VERSION; }

retort_status_code retort_model_open(const char *path,
                                     const retort_model_options *options,
                                     retort_model **model) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(path);
    RETORT_REQUIRE(model);
    retort_model_options given = options ? *options : retort_model_options{};
    return makeModel(Artifact::open(path, openOptions(given)), given, model);
  });
}

retort_status_code retort_model_open_memory(const void *bytes, size_t size,
                                            const retort_model_options *options,
                                            retort_model **model) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(bytes);
    RETORT_REQUIRE(model);
    retort_model_options given = options ? *options : retort_model_options{};
    std::span data(static_cast<const std::byte *>(bytes), size);
    return makeModel(Artifact::openMemory(data, openOptions(given)), given,
                     model);
  });
}

void retort_model_close(retort_model *model) { delete model; }

void retort_model_get_info(const retort_model *model, retort_model_info *info) {
  if (!model || !info)
    return;
  const ModelState &state = *model->state;
  const abi::Model &source = state.model->info();
  info->family = source.family()->c_str();
  info->name = source.name()->c_str();
  info->target = state.model->code().target().c_str();
  info->parameters = source.parameters();
  info->vocab_size = source.vocab_size();
  info->num_layers = source.num_layers();
  info->hidden_size = source.hidden_size();
  info->max_context = source.max_context();
  info->max_chunk = source.max_chunk();
  info->bos_id = source.bos_id();
  info->has_tokenizer = state.text.hasTokenizer();
  info->has_chat_template = state.text.hasChatTemplate();
  const Artifact &artifact = state.model->artifact();
  info->has_draft = hasDraft(*artifact.index().program());
  info->weights_verified = artifact.weightsVerified();
  info->weight_bytes = artifact.weightBytes();
  info->memory_bytes = artifact.physicalMemory();
}

retort_status_code retort_tokenize(const retort_model *model, const char *text,
                                   size_t text_length, int32_t special,
                                   int32_t *ids, size_t capacity,
                                   size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_REQUIRE(text || text_length == 0);
    RETORT_ASSIGN_OR_RETURN(
        std::vector<int32_t> tokens,
        model->state->text.encode({text, text_length}, special != 0));
    return fill(std::span<const int32_t>(tokens), ids, capacity, length);
  });
}

retort_status_code retort_detokenize(const retort_model *model,
                                     const int32_t *ids, size_t count,
                                     int32_t special, char *text,
                                     size_t capacity, size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_ASSIGN_OR_RETURN(auto tokens, tokenSpan(ids, count));
    RETORT_ASSIGN_OR_RETURN(std::string decoded,
                            model->state->text.decode(tokens, special == 0));
    return fill(std::span<const char>(decoded), text, capacity, length);
  });
}

retort_status_code retort_chat_render(const retort_model *model,
                                      const char *messages,
                                      size_t messages_length,
                                      int32_t add_generation_prompt, char *text,
                                      size_t capacity, size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_REQUIRE(messages);
    RETORT_ASSIGN_OR_RETURN(
        std::string rendered,
        model->state->text.renderChat({messages, messages_length},
                                      add_generation_prompt != 0));
    return fill(std::span<const char>(rendered), text, capacity, length);
  });
}

retort_status_code retort_session_open(retort_model *model,
                                       const retort_session_options *options,
                                       retort_session **session) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_REQUIRE(session);
    SessionOptions given;
    if (options) {
      given.context = options->context;
      given.threads = options->threads;
      given.prefillChunk = options->prefill_chunk;
      given.draft = options->draft != 0;
      given.pin = toPlacement(options->pin);
    }
    auto made = std::make_unique<retort_session>();
    made->state = model->state;
    RETORT_ASSIGN_OR_RETURN(made->session,
                            Session::create(model->state->model, given));
    made->sampler = Sampler(model->state->defaults.sampling);
    *session = made.release();
    return Status::ok();
  });
}

void retort_session_close(retort_session *session) {
  if (!session)
    return;
  {
    std::lock_guard wait(session->mutex);
  }
  delete session;
}

retort_status_code retort_session_feed(retort_session *session,
                                       const int32_t *tokens, size_t count) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    RETORT_ASSIGN_OR_RETURN(auto span, tokenSpan(tokens, count));
    std::lock_guard lock(session->mutex);
    return session->session->feed(span);
  });
}

retort_status_code retort_session_feed_all(retort_session *session,
                                           const int32_t *tokens, size_t count,
                                           retort_logits_fn callback,
                                           void *user) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    RETORT_REQUIRE(callback);
    RETORT_ASSIGN_OR_RETURN(auto span, tokenSpan(tokens, count));
    std::lock_guard lock(session->mutex);
    size_t vocab = session->state->model->info().vocab_size();
    return session->session->feed(
        span,
        [&](uint64_t first, uint64_t rows, const float *logits,
            uint64_t stride) -> Status {
          for (uint64_t i = 0; i < rows; ++i)
            if (callback(user, first + i, logits + i * stride, vocab) != 0)
              return Status::error(Code::Cancelled,
                                   "cancelled by the callback");
          return Status::ok();
        });
  });
}

retort_status_code retort_session_logits(retort_session *session, float *logits,
                                         size_t capacity, size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    std::lock_guard lock(session->mutex);
    return fill(session->session->logits(), logits, capacity, length);
  });
}

uint32_t retort_session_position(retort_session *session) {
  if (!session)
    return 0;
  std::lock_guard lock(session->mutex);
  return session->session->position();
}

retort_status_code retort_session_tokens(retort_session *session,
                                         int32_t *tokens, size_t capacity,
                                         size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    std::lock_guard lock(session->mutex);
    return fill(session->session->tokens(), tokens, capacity, length);
  });
}

uint32_t retort_session_context(retort_session *session) {
  return session ? session->session->context() : 0;
}

retort_status_code retort_session_rewind(retort_session *session,
                                         uint32_t position) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    std::lock_guard lock(session->mutex);
    return session->session->rewind(position);
  });
}

void retort_session_cancel(retort_session *session) {
  if (session)
    session->session->cancel();
}

void retort_sampling_defaults(const retort_model *model,
                              retort_sampling *sampling) {
  if (model && sampling)
    *sampling = toC(model->state->defaults.sampling);
}

retort_status_code
retort_session_set_sampling(retort_session *session,
                            const retort_sampling *sampling) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    RETORT_REQUIRE(sampling);
    SamplerOptions options = fromC(*sampling);
    RETORT_RETURN_IF_ERROR(Sampler::check(options));
    std::lock_guard lock(session->mutex);
    session->sampler = Sampler(options);
    return Status::ok();
  });
}

retort_status_code retort_session_sample(retort_session *session,
                                         int32_t *token) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    RETORT_REQUIRE(token);
    std::lock_guard lock(session->mutex);
    if (session->session->logits().empty())
      return Status::error(Code::InvalidArgument,
                           "expected tokens to have been fed before sampling");
    RETORT_ASSIGN_OR_RETURN(
        *token, session->sampler.sample(session->session->logits(),
                                        session->session->tokens()));
    return Status::ok();
  });
}

int32_t retort_is_end_token(const retort_model *model, int32_t token) {
  return model && contains(model->state->defaults.endTokens, token);
}

retort_status_code
retort_session_generate(retort_session *session, const int32_t *prompt,
                        size_t count, const retort_generate_options *options,
                        retort_text_fn callback, void *user,
                        retort_generate_stats *stats) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(session);
    RETORT_ASSIGN_OR_RETURN(auto span, tokenSpan(prompt, count));
    retort_generate_options given =
        options ? *options : retort_generate_options{};
    RETORT_ASSIGN_OR_RETURN(GenerateOptions generateOptions,
                            fromC(given, *session->state));
    TextSink sink;
    if (callback)
      sink = [&](std::string_view text, int32_t token) {
        return callback(user, text.data(), text.size(), token) == 0;
      };
    TokenDecoder decoder;
    bool decodes = session->state->text.hasTokenizer();
    if (decodes)
      decoder = session->state->text.decoder(given.special == 0);
    std::lock_guard lock(session->mutex);
    generateOptions.draft = session->session->drafts();
    RETORT_ASSIGN_OR_RETURN(Generated generated,
                            generate(*session->session, session->sampler,
                                     decodes ? &decoder : nullptr, span,
                                     generateOptions, sink));
    if (stats)
      *stats = toC(generated);
    return Status::ok();
  });
}

retort_status_code retort_model_selftest(retort_model *model, uint32_t threads,
                                         retort_selftest_result *result) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_REQUIRE(result);
    RETORT_ASSIGN_OR_RETURN(SelfTestResult found,
                            runSelfTest(model->state->model, threads));
    *result = {found.passed(), found.greedy, found.expectedGreedy,
               found.relativeError};
    return Status::ok();
  });
}

} // extern "C"
