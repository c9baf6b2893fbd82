//===- KeptEncoding.h - What holds quantized matrices -----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Which encoding holds a checkpoint's integers, scales and zero points as they
/// are.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_KEPTENCODING_H
#define RETORT_COMPILER_PACK_KEPTENCODING_H

#include "compiler/checkpoint/QuantizedMatrix.h"
#include "compiler/encoding/PackedEncoding.h"

#include <string>

namespace retort {

struct KeptEncoding {
  PackedEncoding encoding; ///< f32 if no other holds the matrix exactly
  /// Why it is f32, e.g. "groups of 48, which are no multiple of 32"; empty if
  /// it is integers.
  std::string reason;
};

KeptEncoding keptEncoding(const checkpoint::QuantizedMatrix &matrix);

/// Whether integers, scales and zero points can be copied to that encoding,
/// whatever chose it.
bool holdsExactly(const PackedEncoding &encoding,
                  const checkpoint::QuantizedMatrix &matrix);

} // namespace retort

#endif // RETORT_COMPILER_PACK_KEPTENCODING_H
