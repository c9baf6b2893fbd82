//===- WeightPlan.h - An encoding for each matrix ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A file that says for every matrix of a checkpoint how it is stored:
/// ```
/// {
///   "format": "retort-weight-plan",
///   "version": 1,
///   "weights": [
///     {"tensor": "model.embed_tokens.weight", "encoding": "int8<32>"},
///     {"tensor": "model.layers.0.mlp.down_proj.weight",
///      "encoding": "int4<32, zero_points>"},
///     {"tensor": "model.layers.0.self_attn.o_proj.weight",
///      "encoding": "keep"}
///   ]
/// }
/// ```
/// Encodings are those of PackedEncoding, or "keep" for what the checkpoint
/// has. An optional "note" is for people.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_QUANTIZE_WEIGHTPLAN_H
#define RETORT_COMPILER_QUANTIZE_WEIGHTPLAN_H

#include "compiler/encoding/PackedEncoding.h"
#include "runtime/support/Status.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

struct PlannedWeight {
  std::string tensor;
  std::optional<PackedEncoding> encoding; ///< absent: as the checkpoint has it
  bool operator==(const PlannedWeight &) const = default;
};

struct WeightPlan {
  std::vector<PlannedWeight> weights; ///< no tensor twice
  std::string note;

  /// Whether every matrix is stored as the checkpoint has it, or in f32.
  bool isExact() const;
};

/// "int4<32>" or "keep".
std::string encodingName(const std::optional<PackedEncoding> &encoding);

/// Parses a plan from untrusted text. InvalidData names the tensor or the
/// entry, what was expected and what was found.
Result<WeightPlan> parseWeightPlan(std::string_view text);

/// The text that parseWeightPlan() reads, one matrix a line.
std::string formatWeightPlan(const WeightPlan &plan);

/// Marks each model.weight of the plan with the encoding that quantize-weights
/// is to give it (kPlannedEncodingAttr). InvalidArgument names the tensor: one
/// that is no matrix of the model, is a router, is missing from the plan, or
/// can't be stored so.
Status applyWeightPlan(mlir::ModuleOp module, const WeightPlan &plan);

} // namespace retort

#endif // RETORT_COMPILER_QUANTIZE_WEIGHTPLAN_H
