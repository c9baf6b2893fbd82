//===- Json.h - Bounded JSON parsing ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// JSON of untrusted files: depth is bounded and duplicate keys are refused.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_JSON_H
#define RETORT_COMPILER_CHECKPOINT_JSON_H

#include "runtime/support/Status.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace retort::checkpoint {

/// `text` in single quotes, with control characters escaped and the middle of
/// long text left out, so that a message stays one readable line.
std::string quote(std::string_view text);

/// What a parse error of the JSON library says, as one line of plain ASCII.
std::string describeJsonError(const nlohmann::json::exception &error);

/// Fails if `text` holds a NUL byte, which JSON never does and which the JSON
/// library takes for the end, so that what follows would be ignored.
Status refuseNul(std::string_view text);

/// Parses one JSON document. Nesting past `maxDepth` and duplicate keys of an
/// object are errors, since readers disagree on what they mean.
Result<nlohmann::json> parseJson(std::string_view text, size_t maxDepth = 64);

/// Names a value's kind or, for a scalar, the value: for "found ...".
std::string describeJson(const nlohmann::json &value);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_JSON_H
