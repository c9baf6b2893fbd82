/*===- retort.h - The C API of the runtime -----------------------*- C -*-===*\
|*
|* Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
|*
\*===----------------------------------------------------------------------===*/
/**
 * \file
 * Runs compiled models (.retort files). Link libretort_api and include this
 * header; examples/c-api/generate.c is a complete program.
 *
 * An artifact holds native code: open only files that you would execute.
 *
 * Errors. Functions that can fail return a retort_status_code; anything but
 * RETORT_OK leaves the outputs untouched, and retort_last_error() tells the
 * calling thread what happened in one line of UTF-8. No call aborts, throws or
 * writes to standard output or error.
 *
 * Threads. A model is immutable: any threads may use it at once. A session is
 * guarded by a lock: calls on one session from several threads happen one after
 * the other, those on different sessions run at the same time. Only
 * retort_session_cancel() goes past the lock. A batch is guarded in the same
 * way, all its sequences by one lock. Callbacks run on the calling
 * thread with the session's lock held: they may call retort_session_cancel()
 * and functions on models, but no other function on their session.
 *
 * Lengths. Functions that fill a buffer take its capacity and set `*length` to
 * what is needed, in elements; if that is more than the capacity, nothing is
 * written and RETORT_OK is returned. Call with capacity 0 to ask. Text is
 * UTF-8; lengths count bytes and no terminating zero is written.
 */
#ifndef RETORT_RUNTIME_API_RETORT_H
#define RETORT_RUNTIME_API_RETORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RETORT_API __attribute__((visibility("default")))
#else
#define RETORT_API
#endif

/** What kind of failure it was. The numbers are stable. */
typedef enum retort_status_code {
  RETORT_OK = 0,
  RETORT_INVALID_ARGUMENT = 1, /**< an argument, prompt or option is unusable */
  RETORT_INVALID_DATA = 2,     /**< a file's bytes break its format's rules */
  RETORT_UNSUPPORTED = 3,      /**< well-formed, but not handled */
  RETORT_NOT_FOUND = 4, /**< a file, or a part of the model, is missing */
  RETORT_IO = 5,        /**< the system refused a read or a write */
  RETORT_OUT_OF_MEMORY = 6,
  RETORT_INCOMPATIBLE = 7, /**< made for another processor or version */
  RETORT_CANCELLED = 8,
  RETORT_INTERNAL = 9 /**< a bug in Retort */
} retort_status_code;

/** The message of this thread's last failed call; "" if none has failed. Valid
 *  until the thread's next failing call. */
RETORT_API const char *retort_last_error(void);

/** The library's version, e.g. "0.1.0". */
RETORT_API const char *retort_version(void);

/*===-- Models -----------------------------------------------------------===*/

typedef struct retort_model retort_model;

/** When opening hashes the weights, which reads all of them. */
typedef enum retort_weight_check {
  RETORT_WEIGHTS_AUTO = 0, /**< if they take at most half of the memory */
  RETORT_WEIGHTS_ALWAYS = 1,
  RETORT_WEIGHTS_NEVER = 2
} retort_weight_check;

/** Something that is done where the machine gains by it, always, or never. */
typedef enum retort_placement {
  RETORT_PLACE_AUTO = 0,
  RETORT_PLACE_ON = 1,
  RETORT_PLACE_OFF = 2
} retort_placement;

/** Zero-initialise, then set what should differ. */
typedef struct retort_model_options {
  retort_weight_check weights;
  uint32_t threads;   /**< that hash weights; 0: one per processor */
  const char *target; /**< run this code section, e.g. "x86-64-v3"; NULL: the
                           best for this processor */
  retort_placement interleave; /**< spread the weights over the memory nodes of
                                    the processors that this process runs on;
                                    AUTO: if there are several. ON fails with
                                    RETORT_UNSUPPORTED if the system can't */
} retort_model_options;

/** Opens a .retort file or an executable that carries a model. `options` may be
 *  NULL. The file must not change while the model is open. */
RETORT_API retort_status_code
retort_model_open(const char *path, const retort_model_options *options,
                  retort_model **model);

/** Opens the artifact in `bytes`, which must stay until the model is closed
 *  (they are copied if they don't begin on a 64-byte boundary). */
RETORT_API retort_status_code retort_model_open_memory(
    const void *bytes, size_t size, const retort_model_options *options,
    retort_model **model);

/** Gives up the caller's hold; memory is freed when the model's last session is
 *  closed. NULL is ignored. */
RETORT_API void retort_model_close(retort_model *model);

typedef struct retort_model_info {
  const char *family; /**< "qwen2", "llama"; valid while the model is open */
  const char *name;
  const char *target; /**< the code section in use */
  uint64_t parameters;
  uint32_t vocab_size;
  uint32_t num_layers;
  uint32_t hidden_size;
  uint32_t max_context;  /**< positions that a session may have */
  uint32_t max_chunk;    /**< most tokens that are computed at once */
  int32_t bos_id;        /**< -1: none */
  int32_t has_tokenizer; /**< 0: ids only */
  int32_t has_chat_template;
  int32_t has_draft;        /**< has a multi-token-prediction layer */
  int32_t weights_verified; /**< opening has hashed the weights */
  uint64_t weight_bytes;
  uint64_t memory_bytes; /**< of the machine, as RETORT_WEIGHTS_AUTO sees it */
} retort_model_info;

RETORT_API void retort_model_get_info(const retort_model *model,
                                      retort_model_info *info);

/*===-- Text -------------------------------------------------------------===*/
/* RETORT_NOT_FOUND if the model was compiled without a tokenizer. */

/** Text to token ids. With `special` not 0 the tokens that the model's
 *  post-processor adds (such as a begin-of-text token) are included. Special
 *  tokens spelled out in the text are always recognised. */
RETORT_API retort_status_code retort_tokenize(const retort_model *model,
                                              const char *text,
                                              size_t text_length,
                                              int32_t special, int32_t *ids,
                                              size_t capacity, size_t *length);

/** Token ids to text. Special tokens are left out unless `special` is not 0. */
RETORT_API retort_status_code retort_detokenize(const retort_model *model,
                                                const int32_t *ids,
                                                size_t count, int32_t special,
                                                char *text, size_t capacity,
                                                size_t *length);

/** Renders a conversation with the model's chat template. `messages` is JSON:
 * an array of {"role", "content"}. With `add_generation_prompt` not 0 the text
 *  ends where the assistant's answer begins. */
RETORT_API retort_status_code retort_chat_render(
    const retort_model *model, const char *messages, size_t messages_length,
    int32_t add_generation_prompt, char *text, size_t capacity, size_t *length);

/*===-- Sessions ---------------------------------------------------------===*/

typedef struct retort_session retort_session;

/** Zero-initialise, then set what should differ. */
typedef struct retort_session_options {
  uint32_t context;       /**< positions; 0: the model's maximum, or what the
                               available memory holds if that is less */
  uint32_t threads;       /**< including the caller; 0: one per processor */
  uint32_t prefill_chunk; /**< tokens computed at once; 0: max_chunk */
  int32_t draft;          /**< not 0: generate with guesses of the model's
                               multi-token-prediction layer. Each is checked: the tokens
                               are the same. RETORT_UNSUPPORTED if there is no layer */
  retort_placement pin;   /**< bind the threads but the caller's to processors;
                               AUTO: if some share a core or there are several
                               memory nodes. Never with more threads than
                               processors */
} retort_session_options;

/** Opens an empty context. `options` may be NULL. */
RETORT_API retort_status_code
retort_session_open(retort_model *model, const retort_session_options *options,
                    retort_session **session);

/** Waits for a call that is under way, then frees. NULL is ignored. */
RETORT_API void retort_session_close(retort_session *session);

/** Appends tokens to the context and computes the logits after the last one.
 *  RETORT_INVALID_ARGUMENT, with nothing fed, if there are none, an id is not
 * in the vocabulary or they don't fit. After RETORT_CANCELLED
 *  retort_session_position() tells how many the context holds. */
RETORT_API retort_status_code retort_session_feed(retort_session *session,
                                                  const int32_t *tokens,
                                                  size_t count);

/** Receives the logits [vocab_size] after token `index` of the feed. Not 0 ends
 *  the feed with RETORT_CANCELLED. */
typedef int (*retort_logits_fn)(void *user, size_t index, const float *logits,
                                size_t vocab_size);

/** Like retort_session_feed(), with the logits after every token, in order. */
RETORT_API retort_status_code retort_session_feed_all(retort_session *session,
                                                      const int32_t *tokens,
                                                      size_t count,
                                                      retort_logits_fn callback,
                                                      void *user);

/** Copies the logits after the last token fed. `length` is set to vocab_size,
 * or to 0 if there are none (nothing fed, or rewound since). */
RETORT_API retort_status_code retort_session_logits(retort_session *session,
                                                    float *logits,
                                                    size_t capacity,
                                                    size_t *length);

/** Tokens in the context. */
RETORT_API uint32_t retort_session_position(retort_session *session);

/** Copies the tokens in the context. */
RETORT_API retort_status_code retort_session_tokens(retort_session *session,
                                                    int32_t *tokens,
                                                    size_t capacity,
                                                    size_t *length);

/** Positions that the context has. */
RETORT_API uint32_t retort_session_context(retort_session *session);

/** Forgets the tokens from `position` on. */
RETORT_API retort_status_code retort_session_rewind(retort_session *session,
                                                    uint32_t position);

/** Makes the feed that is running, or else the next one, return
 *  RETORT_CANCELLED. From any thread or signal handler, without waiting. */
RETORT_API void retort_session_cancel(retort_session *session);

/*===-- Sampling and generation ------------------------------------------===*/

/** How the next token is drawn; see runtime/text/Sampler.h for the steps. Fill
 *  with retort_sampling_defaults(), then set what should differ. */
typedef struct retort_sampling {
  double temperature;    /**< 0: greedy; the lowest id among equals */
  int64_t top_k;         /**< 0: off */
  double top_p;          /**< 1: off */
  double min_p;          /**< 0: off */
  double repeat_penalty; /**< 1: off; counts all tokens of the context */
  uint64_t seed;         /**< same seed, same tokens, on every machine */
} retort_sampling;

/** What the checkpoint's generation_config.json recommends; greedy without. */
RETORT_API void retort_sampling_defaults(const retort_model *model,
                                         retort_sampling *sampling);

/** Replaces the session's sampler and restarts its random numbers. A new
 * session has the model's defaults. */
RETORT_API retort_status_code retort_session_set_sampling(
    retort_session *session, const retort_sampling *sampling);

/** Draws a token from the logits after the last token fed. It is not fed. */
RETORT_API retort_status_code retort_session_sample(retort_session *session,
                                                    int32_t *token);

/** 1 if the model ends its answers with this token. */
RETORT_API int32_t retort_is_end_token(const retort_model *model,
                                       int32_t token);

typedef enum retort_stop_reason {
  RETORT_STOP_END_TOKEN = 0,
  RETORT_STOP_STRING = 1,
  RETORT_STOP_LENGTH = 2,
  RETORT_STOP_CONTEXT_FULL = 3,
  RETORT_STOP_CANCELLED = 4
} retort_stop_reason;

/** Zero-initialise, then set what should differ. */
typedef struct retort_generate_options {
  int64_t max_tokens;       /**< 0: until something else ends it */
  const char *const *stops; /**< texts that end the generation, not shown */
  size_t num_stops;
  int32_t ignore_end_tokens; /**< not 0: go on past them */
  int32_t special;           /**< not 0: show special tokens in the text */
} retort_generate_options;

typedef struct retort_generate_stats {
  retort_stop_reason reason;
  uint64_t prompt_tokens;
  uint64_t new_tokens; /**< sampled, without an end token */
  double prefill_seconds;
  double decode_seconds;
  uint64_t bytes_per_token; /**< read from memory per decode step */
  double prefill_tps;       /**< tokens per second */
  double decode_tps;
  uint64_t drafted;  /**< guesses that were checked ... */
  uint64_t accepted; /**< ... and those that were right */
  double read_gbps;  /**< 10^9 bytes per second while decoding */
} retort_generate_stats;

/** Receives each token with the text that it completed, which may be empty; at
 *  the end perhaps a last piece with token -1. Without a tokenizer the text is
 *  always empty. Not 0 ends the generation. */
typedef int (*retort_text_fn)(void *user, const char *text, size_t length,
                              int32_t token);

/** Feeds the prompt, then samples and feeds until an end. With `count` 0 it
 * goes on from the present logits. Being cancelled is a stop reason here, no
 * error. `options`, `callback` and `stats` may be NULL. */
RETORT_API retort_status_code retort_session_generate(
    retort_session *session, const int32_t *prompt, size_t count,
    const retort_generate_options *options, retort_text_fn callback, void *user,
    retort_generate_stats *stats);

/*===-- Batches ----------------------------------------------------------===*/
/* Several sequences decoded together: a step reads the weights once for up to
 * 8 of them, which costs little more than a step of one. What a sequence's
 * logits are does not depend on the others, bit by bit; they are those that a
 * session would compute from the same calls.
 *
 * Sequences are numbered from 0. Each has a context, logits and a sampler of
 * its own; a step may leave out any of them. One that has ended makes room for
 * another text when it is rewound to 0. RETORT_INVALID_ARGUMENT if there is no
 * sequence of a number. */

typedef struct retort_batch retort_batch;

/** Zero-initialise, set `sequences`, then what else should differ. */
typedef struct retort_batch_options {
  uint32_t sequences; /**< how many, 1 to 1024 */
  uint32_t context;   /**< positions of each; 0: the model's maximum, or what
                           the available memory holds if that is less */
  uint32_t threads;   /**< including the caller; 0: one per processor */
  uint32_t
      prefill_chunk;    /**< tokens of a feed computed at once; 0: max_chunk */
  retort_placement pin; /**< as for sessions */
} retort_batch_options;

/** Opens empty sequences. RETORT_OUT_OF_MEMORY, naming the bytes, if the caches
 *  of all don't fit; RETORT_UNSUPPORTED if the model was compiled by a version
 *  that knew no batches and there are several. */
RETORT_API retort_status_code
retort_batch_open(retort_model *model, const retort_batch_options *options,
                  retort_batch **batch);

/** Waits for a call that is under way, then frees. NULL is ignored. */
RETORT_API void retort_batch_close(retort_batch *batch);

/** Appends tokens to one sequence and computes the logits after the last one,
 *  as retort_session_feed() does; errors as there. */
RETORT_API retort_status_code retort_batch_feed(retort_batch *batch,
                                                uint32_t sequence,
                                                const int32_t *tokens,
                                                size_t count);

/** A token for a sequence. */
typedef struct retort_batch_token {
  uint32_t sequence;
  int32_t id;
} retort_batch_token;

/** Appends one token to each of some sequences, in any order, and computes the
 *  logits after it. RETORT_INVALID_ARGUMENT, with nothing fed, if there are
 *  none, a sequence is named twice, an id is not in the vocabulary or a context
 *  is full. After RETORT_CANCELLED retort_batch_position() tells which have
 *  their token. */
RETORT_API retort_status_code retort_batch_step(
    retort_batch *batch, const retort_batch_token *tokens, size_t count);

/** Copies the logits after a sequence's last token. `length` is set to
 *  vocab_size, or to 0 if there are none (nothing fed, or rewound since). */
RETORT_API retort_status_code retort_batch_logits(retort_batch *batch,
                                                  uint32_t sequence,
                                                  float *logits,
                                                  size_t capacity,
                                                  size_t *length);

/** How many sequences there are. */
RETORT_API uint32_t retort_batch_sequences(const retort_batch *batch);

/** Positions that the context of each has. */
RETORT_API uint32_t retort_batch_context(const retort_batch *batch);

/** Tokens in a sequence's context; 0 if there is no such sequence. */
RETORT_API uint32_t retort_batch_position(retort_batch *batch,
                                          uint32_t sequence);

/** Copies the tokens in a sequence's context. */
RETORT_API retort_status_code retort_batch_tokens(retort_batch *batch,
                                                  uint32_t sequence,
                                                  int32_t *tokens,
                                                  size_t capacity,
                                                  size_t *length);

/** Forgets a sequence's tokens from `position` on. */
RETORT_API retort_status_code retort_batch_rewind(retort_batch *batch,
                                                  uint32_t sequence,
                                                  uint32_t position);

/** Makes the feed or step that is running, or else the next one, return
 *  RETORT_CANCELLED. From any thread or signal handler, without waiting. */
RETORT_API void retort_batch_cancel(retort_batch *batch);

/** Replaces a sequence's sampler and restarts its random numbers. At first each
 *  has the model's defaults; rewinding leaves it as it is. */
RETORT_API retort_status_code retort_batch_set_sampling(
    retort_batch *batch, uint32_t sequence, const retort_sampling *sampling);

/** Draws a token from the logits after a sequence's last token. It is not
 *  fed. */
RETORT_API retort_status_code retort_batch_sample(retort_batch *batch,
                                                  uint32_t sequence,
                                                  int32_t *token);

/*===-- Self test --------------------------------------------------------===*/

typedef struct retort_selftest_result {
  int32_t passed;          /**< 1: as near as the model's tolerance asks */
  int32_t greedy;          /**< largest logit's token on this machine ... */
  int32_t expected_greedy; /**< ... and when the model was compiled */
  double relative_error;   /**< RMS of the logits' difference over their RMS */
} retort_selftest_result;

/** Runs the prompt that was stored with its logits when the model was compiled,
 *  on `threads` threads (0: one per processor). RETORT_NOT_FOUND if the model
 *  holds none. */
RETORT_API retort_status_code retort_model_selftest(
    retort_model *model, uint32_t threads, retort_selftest_result *result);

#ifdef __cplusplus
}
#endif

#endif /* RETORT_RUNTIME_API_RETORT_H */
