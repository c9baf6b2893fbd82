//===- DenseTilesBaseline.cpp - Tiles for any processor -------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#define RETORT_TILES kBaselineTiles
#include "compiler/ptq/DenseTiles.inc"
