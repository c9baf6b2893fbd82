//===- Answers.h - Final answers and when they are right --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Finds the final answer in a reply and compares it with the right one.
/// docs/score.md lists the rules.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SCORE_ANSWERS_H
#define RETORT_RUNTIME_SCORE_ANSWERS_H

#include <optional>
#include <string>
#include <string_view>

namespace retort::score {

/// The final answer of a reply: what follows the last `</think>` is looked at,
/// and in it the last complete `\boxed{...}` or `\fbox{...}`, else what follows
/// the last `####`, else the last number. A reply whose thought has not ended
/// has none; `inThought` says that the prompt began one.
std::optional<std::string> extractAnswer(std::string_view reply,
                                         bool inThought = false);

/// The contents of the last `\boxed{...}` or `\fbox{...}` whose braces close.
std::optional<std::string> lastBoxed(std::string_view text);

/// The last number in a text, as it is written there: a sign, digits with
/// thousands separators, a decimal part, a fraction a/b.
std::optional<std::string> lastNumber(std::string_view text);

/// The spelling that equal answers share, if they aren't numbers.
std::string normalizeAnswer(std::string_view answer);

/// True if two answers mean the same.
bool equivalentAnswers(std::string_view a, std::string_view b);

} // namespace retort::score

#endif // RETORT_RUNTIME_SCORE_ANSWERS_H
