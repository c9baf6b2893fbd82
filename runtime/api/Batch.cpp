//===- Batch.cpp - Batches in the C API -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Batch.h"
#include "runtime/api/Handles.h"

#include <mutex>

using namespace retort;
using namespace retort::api;

struct retort_batch {
  std::mutex mutex;
  std::shared_ptr<const ModelState> state;
  std::unique_ptr<Batch> batch;
  std::vector<Sampler> samplers; ///< by sequence
};

extern "C" {

retort_status_code retort_batch_open(retort_model *model,
                                     const retort_batch_options *options,
                                     retort_batch **batch) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(model);
    RETORT_REQUIRE(options);
    RETORT_REQUIRE(batch);
    BatchOptions given;
    given.sequences = options->sequences;
    given.context = options->context;
    given.threads = options->threads;
    given.prefillChunk = options->prefill_chunk;
    given.pin = toPlacement(options->pin);
    auto made = std::make_unique<retort_batch>();
    made->state = model->state;
    RETORT_ASSIGN_OR_RETURN(made->batch,
                            Batch::create(model->state->model, given));
    made->samplers.assign(given.sequences,
                          Sampler(model->state->defaults.sampling));
    *batch = made.release();
    return Status::ok();
  });
}

void retort_batch_close(retort_batch *batch) {
  if (!batch)
    return;
  {
    std::lock_guard wait(batch->mutex);
  }
  delete batch;
}

retort_status_code retort_batch_feed(retort_batch *batch, uint32_t sequence,
                                     const int32_t *tokens, size_t count) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    RETORT_ASSIGN_OR_RETURN(auto span, tokenSpan(tokens, count));
    std::lock_guard lock(batch->mutex);
    return batch->batch->feed(sequence, span);
  });
}

retort_status_code retort_batch_step(retort_batch *batch,
                                     const retort_batch_token *tokens,
                                     size_t count) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    RETORT_REQUIRE(tokens || count == 0);
    std::vector<BatchToken> given;
    for (size_t i = 0; i < count; ++i)
      given.push_back({tokens[i].sequence, tokens[i].id});
    std::lock_guard lock(batch->mutex);
    return batch->batch->step(given);
  });
}

retort_status_code retort_batch_logits(retort_batch *batch, uint32_t sequence,
                                       float *logits, size_t capacity,
                                       size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    std::lock_guard lock(batch->mutex);
    RETORT_RETURN_IF_ERROR(batch->batch->check(sequence));
    return fill(batch->batch->logits(sequence), logits, capacity, length);
  });
}

uint32_t retort_batch_sequences(const retort_batch *batch) {
  return batch ? batch->batch->sequences() : 0;
}

uint32_t retort_batch_context(const retort_batch *batch) {
  return batch ? batch->batch->context() : 0;
}

uint32_t retort_batch_position(retort_batch *batch, uint32_t sequence) {
  if (!batch || sequence >= batch->batch->sequences())
    return 0;
  std::lock_guard lock(batch->mutex);
  return batch->batch->position(sequence);
}

retort_status_code retort_batch_tokens(retort_batch *batch, uint32_t sequence,
                                       int32_t *tokens, size_t capacity,
                                       size_t *length) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    std::lock_guard lock(batch->mutex);
    RETORT_RETURN_IF_ERROR(batch->batch->check(sequence));
    return fill(batch->batch->tokens(sequence), tokens, capacity, length);
  });
}

retort_status_code retort_batch_rewind(retort_batch *batch, uint32_t sequence,
                                       uint32_t position) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    std::lock_guard lock(batch->mutex);
    return batch->batch->rewind(sequence, position);
  });
}

void retort_batch_cancel(retort_batch *batch) {
  if (batch)
    batch->batch->cancel();
}

retort_status_code retort_batch_set_sampling(retort_batch *batch,
                                             uint32_t sequence,
                                             const retort_sampling *sampling) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    RETORT_REQUIRE(sampling);
    SamplerOptions options = fromC(*sampling);
    RETORT_RETURN_IF_ERROR(Sampler::check(options));
    std::lock_guard lock(batch->mutex);
    RETORT_RETURN_IF_ERROR(batch->batch->check(sequence));
    batch->samplers[sequence] = Sampler(options);
    return Status::ok();
  });
}

retort_status_code retort_batch_sample(retort_batch *batch, uint32_t sequence,
                                       int32_t *token) {
  return guarded([&]() -> Status {
    RETORT_REQUIRE(batch);
    RETORT_REQUIRE(token);
    std::lock_guard lock(batch->mutex);
    const Batch &source = *batch->batch;
    RETORT_RETURN_IF_ERROR(source.check(sequence));
    if (source.logits(sequence).empty())
      return Status::error(Code::InvalidArgument,
                           "sequence " + std::to_string(sequence) +
                               ": expected tokens to have been fed before "
                               "sampling");
    RETORT_ASSIGN_OR_RETURN(
        *token, batch->samplers[sequence].sample(source.logits(sequence),
                                                 source.tokens(sequence)));
    return Status::ok();
  });
}

} // extern "C"
