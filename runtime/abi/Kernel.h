/*===- Kernel.h - The kernel calling convention ------------------*- C -*-===*\
|*
|* Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
|*
\*===----------------------------------------------------------------------===*/
/**
 * How compiled code is called. A code section is an ELF shared object that
 * imports nothing and exports one function of type retort_kernel_fn per kernel
 * of the program. A call computes one tile; the calls of a launch may run in
 * any order and at the same time, each on a worker with its own scratch.
 */
#ifndef RETORT_RUNTIME_ABI_KERNEL_H
#define RETORT_RUNTIME_ABI_KERNEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What every launch of a phase is told. Where the tokens belong to several
 *  sequences, launches that read the position are called for one token at a
 *  time (see Launch.reads_position), the others for all with position 0. */
typedef struct retort_kernel_scalars {
  int64_t n_tokens;  /**< tokens of this chunk, at least 1 */
  int64_t position;  /**< position of the chunk's first token in the context */
  int64_t first_row; /**< Head phases: first row of `hidden` to read; else 0 */
} retort_kernel_scalars;

/**
 * Computes tile number `tile` of a launch, or, with tile -1, what all tiles
 * need in scratch (see Kernel.prepares). args:    the launch's buffers and
 * weights in order, 64-byte aligned; rows of buffers, which launches that read
 * the position may be given, where they lie in the buffer scratch: the kernel's
 * scratch_bytes, 64-byte aligned, contents undefined but for what tile -1 left
 * there
 */
typedef void (*retort_kernel_fn)(void *const *args,
                                 const retort_kernel_scalars *scalars,
                                 void *scratch, int64_t tile);

#ifdef __cplusplus
}
#endif

#endif /* RETORT_RUNTIME_ABI_KERNEL_H */
