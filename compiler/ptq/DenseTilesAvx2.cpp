//===- DenseTilesAvx2.cpp - Tiles for AVX2 and FMA ------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#if defined(__x86_64__)
// The templates of this file must not be taken for those of others.
#define Eigen EigenAvx2
#define RETORT_TILES kAvx2Tiles
#include "compiler/ptq/DenseTiles.inc"
#endif
