//===- KeptEncoding.cpp - What holds quantized matrices -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/KeptEncoding.h"

namespace retort {
namespace {

using checkpoint::QuantizedMatrix;

ScaleKind scaleKindOf(DType dtype) {
  return dtype == DType::BF16  ? ScaleKind::BF16
         : dtype == DType::F16 ? ScaleKind::F16
                               : ScaleKind::F32;
}

/// The largest block of columns that share a scale; 0 if there is none.
int32_t blockOf(const QuantizedMatrix &matrix) {
  for (int32_t block : {128, 64, 32})
    if (matrix.groups == 1 || matrix.groupSize % block == 0)
      return block;
  return 0;
}

} // namespace

KeptEncoding keptEncoding(const QuantizedMatrix &matrix) {
  if (matrix.actOrder)
    return {{}, "groups in activation order"};
  if (matrix.bits == 8 && matrix.hasZeros)
    return {{}, "zero points of 8-bit integers"};
  int32_t block = blockOf(matrix);
  if (block == 0)
    return {{},
            "groups of " + std::to_string(matrix.groupSize) +
                ", which are no multiple of 32"};
  return {{matrix.bits == 8 ? EncodingKind::Int8 : EncodingKind::Int4, block,
           matrix.hasZeros, scaleKindOf(matrix.scales.dtype)},
          ""};
}

bool holdsExactly(const PackedEncoding &encoding,
                  const QuantizedMatrix &matrix) {
  PackedEncoding kept = keptEncoding(matrix).encoding;
  return kept.isInteger() && kept.kind == encoding.kind &&
         kept.groupSize % encoding.groupSize == 0 &&
         (encoding.zeroPoints || !kept.zeroPoints) &&
         (encoding.scales == kept.scales || encoding.scales == ScaleKind::F32);
}

} // namespace retort
