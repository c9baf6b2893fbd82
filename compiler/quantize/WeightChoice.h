//===- WeightChoice.h - What --weights asks for -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The text of `--weights` and of the option of quantize-weights: an encoding,
/// and others for classes of weights, e.g. "int4,attention=int8".
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_QUANTIZE_WEIGHTCHOICE_H
#define RETORT_COMPILER_QUANTIZE_WEIGHTCHOICE_H

#include "compiler/encoding/PackedEncoding.h"
#include "runtime/support/Status.h"

#include <array>
#include <optional>
#include <string_view>

namespace retort {

/// What a matrix is for. Routers have no class: they are never made less exact
/// than the checkpoint has them.
enum class WeightClass {
  Attention, ///< queries, keys, values, output; all of latent attention
  Experts,   ///< routed and shared
  Dense,     ///< every other matrix of the layers: the plain MLPs
  Embedding, ///< unless it is the head too
  Head,      ///< gives the logits
};
inline constexpr size_t kWeightClasses = 5;

/// "attention", "experts", "dense", "embedding", "head".
std::string_view weightClassName(WeightClass weightClass);

/// How a matrix is stored.
struct WeightWish {
  std::optional<EncodingKind> kind; ///< absent: as the checkpoint has it
  bool operator==(const WeightWish &) const = default;
};

struct WeightChoice {
  WeightWish base; ///< of classes that are not named
  std::array<std::optional<WeightWish>, kWeightClasses> named;

  const std::optional<WeightWish> &namedFor(WeightClass weightClass) const {
    return named[static_cast<size_t>(weightClass)];
  }
  /// What is asked of a class. Embedding and head that are not named get int8
  /// where fewer bits are asked for: every token meets their errors at full
  /// size.
  WeightWish wishFor(WeightClass weightClass) const;
  /// Whether any class is stored as integers, so that group sizes matter.
  bool usesIntegers() const;
  /// Whether every class is stored as the checkpoint has it, or in f32.
  bool isExact() const;
};

/// Parses "ENCODING[,CLASS=ENCODING]..." with the encodings keep, f32, f16,
/// bf16 and the integers of PackedEncoding.h. InvalidArgument says what was
/// expected and found, for an unknown or repeated class, an unknown encoding,
/// or no encoding in front.
Result<WeightChoice> parseWeightChoice(std::string_view text);

} // namespace retort

#endif // RETORT_COMPILER_QUANTIZE_WEIGHTCHOICE_H
