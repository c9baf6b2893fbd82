/*===- generate.c - Text from a model through the C API ----------*- C -*-===*\
|*
|* Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
|*
\*===----------------------------------------------------------------------===*/
/**
 * Usage: retort-example-generate MODEL.retort PROMPT [MAX_TOKENS]
 *
 * Opens a model, prints its name, and completes the prompt greedily, first in
 * one call that streams its text, then once more step by step with feed and
 * sample. Both must give the same tokens.
 */
#include "runtime/api/retort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(retort_status_code code, const char *what) {
  if (code == RETORT_OK)
    return;
  fprintf(stderr, "%s: %s\n", what, retort_last_error());
  exit(1);
}

struct collected {
  int32_t tokens[256];
  size_t count;
};

static int on_text(void *user, const char *text, size_t length, int32_t token) {
  struct collected *out = user;
  fwrite(text, 1, length, stdout);
  fflush(stdout);
  if (token >= 0 && out->count < 256)
    out->tokens[out->count++] = token;
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s MODEL.retort PROMPT [MAX_TOKENS]\n", argv[0]);
    return 2;
  }
  const char *prompt = argv[2];
  int64_t limit = argc > 3 ? strtoll(argv[3], NULL, 10) : 32;
  if (limit < 1 || limit > 256)
    limit = 256;

  retort_model *model = NULL;
  check(retort_model_open(argv[1], NULL, &model), "open");
  retort_model_info info;
  retort_model_get_info(model, &info);
  fprintf(stderr, "%s (%s), %u layers, code for %s\n", info.name, info.family,
          info.num_layers, info.target);

  /* Ask for the length, then for the ids. */
  size_t count = 0;
  check(retort_tokenize(model, prompt, strlen(prompt), 1, NULL, 0, &count),
        "tokenize");
  int32_t *ids = malloc((count + 1) * sizeof *ids);
  if (!ids)
    return 1;
  check(retort_tokenize(model, prompt, strlen(prompt), 1, ids, count, &count),
        "tokenize");

  retort_session *session = NULL;
  check(retort_session_open(model, NULL, &session), "session");
  retort_sampling sampling;
  retort_sampling_defaults(model, &sampling);
  sampling.temperature = 0;
  check(retort_session_set_sampling(session, &sampling), "sampling");

  /* All at once. */
  retort_generate_options options;
  memset(&options, 0, sizeof options);
  options.max_tokens = limit;
  struct collected streamed;
  streamed.count = 0;
  retort_generate_stats stats;
  check(retort_session_generate(session, ids, count, &options, on_text,
                                &streamed, &stats),
        "generate");
  printf("\n");
  fprintf(stderr, "%llu tokens, %.1f tokens per second\n",
          (unsigned long long)stats.new_tokens, stats.decode_tps);

  /* The same, step by step. */
  check(retort_session_rewind(session, 0), "rewind");
  check(retort_session_feed(session, ids, count), "feed");
  for (size_t i = 0; i < streamed.count; ++i) {
    int32_t token;
    check(retort_session_sample(session, &token), "sample");
    if (token != streamed.tokens[i]) {
      fprintf(stderr, "step %zu: expected token %d, found %d\n", i,
              streamed.tokens[i], token);
      return 1;
    }
    if (i + 1 < streamed.count)
      check(retort_session_feed(session, &token, 1), "feed");
  }

  retort_session_close(session);
  retort_model_close(model);
  free(ids);
  return 0;
}
