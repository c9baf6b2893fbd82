/*===- TestKernels.c - A tiny model's kernels --------------------*- C -*-===*\
|*
|* Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
|*
\*===----------------------------------------------------------------------===*/
/**
 * Stands in for compiled code in the runtime's tests: an embedding, a causal
 * mix over a cache, and an output matrix. Every number depends on the token ids
 * up to its position alone, so results must not depend on chunks or threads.
 * Sizes are those of ArtifactBuilder.h.
 */
#include "runtime/abi/Kernel.h"

enum {
  Vocab = 260,
  VocabStride = 264,
  Hidden = 16,
  TokensPerTile = 3,
  RowsPerTile = 32
};

/* args: tokens, hidden, table [Vocab, Hidden]; a tile is TokensPerTile tokens
 */
void test_embed(void *const *args, const retort_kernel_scalars *s,
                void *scratch, int64_t tile) {
  const int32_t *tokens = args[0];
  float *hidden = args[1];
  const float *table = args[2];
  int64_t end = (tile + 1) * TokensPerTile;
  for (int64_t t = tile * TokensPerTile; t < s->n_tokens && t < end; ++t)
    for (int h = 0; h < Hidden; ++h)
      hidden[t * Hidden + h] = table[(int64_t)tokens[t] * Hidden + h];
}

/* args: tokens, hidden, draft hidden, table; a tile is one token */
void test_draft(void *const *args, const retort_kernel_scalars *s,
                void *scratch, int64_t tile) {
  const int32_t *tokens = args[0];
  const float *hidden = (const float *)args[1] + tile * Hidden;
  float *draft = (float *)args[2] + tile * Hidden;
  const float *row = (const float *)args[3] + (int64_t)tokens[tile] * Hidden;
  for (int h = 0; h < Hidden; ++h)
    draft[h] = row[h] + hidden[h] / 64;
}

/* args: hidden, cache [position, Hidden]; a tile is one column */
void test_store(void *const *args, const retort_kernel_scalars *s,
                void *scratch, int64_t tile) {
  const float *hidden = args[0];
  float *cache = args[1];
  for (int64_t t = 0; t < s->n_tokens; ++t)
    cache[(s->position + t) * Hidden + tile] = hidden[t * Hidden + tile];
}

/* args: hidden, cache; a tile is one token */
void test_mix(void *const *args, const retort_kernel_scalars *s, void *scratch,
              int64_t tile) {
  float *row = (float *)args[0] + tile * Hidden;
  const float *cache = args[1];
  int64_t at = s->position + tile;
  float *sum = scratch;
  for (int h = 0; h < Hidden; ++h)
    sum[h] = 0;
  for (int64_t q = 0; q <= at; ++q)
    for (int h = 0; h < Hidden; ++h)
      sum[h] += cache[q * Hidden + h] / (float)(at - q + 1);
  for (int h = 0; h < Hidden; ++h)
    row[h] = row[h] * 0.25f + sum[(h + 1) % Hidden];
}

/* args: hidden, logits [tokens, VocabStride], matrix [Vocab, Hidden]; a tile is
 * RowsPerTile rows of the matrix */
void test_head(void *const *args, const retort_kernel_scalars *s, void *scratch,
               int64_t tile) {
  const float *hidden = args[0];
  float *logits = args[1];
  const float *matrix = args[2];
  for (int64_t t = 0; t < s->n_tokens; ++t)
    for (int64_t v = tile * RowsPerTile;
         v < Vocab && v < (tile + 1) * RowsPerTile; ++v) {
      float sum = 0;
      for (int h = 0; h < Hidden; ++h)
        sum += hidden[(s->first_row + t) * Hidden + h] * matrix[v * Hidden + h];
      logits[t * VocabStride + v] = sum;
    }
}
