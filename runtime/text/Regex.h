//===- Regex.h - Oniguruma patterns on PCRE2 --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `tokenizer.json` writes its patterns in Oniguruma's Ruby syntax. Regex runs
/// them on PCRE2 after translateOniguruma() has rewritten what the two engines
/// read differently.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_REGEX_H
#define RETORT_RUNTIME_TEXT_REGEX_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

/// A half-open range of bytes.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span &) const = default;
};

/// Rewrites an Oniguruma pattern (Ruby syntax, Unicode) for PCRE2 in UTF mode:
/// - `\s`, `\d`, `\w`, `\h`, `\b` and POSIX brackets become explicit classes,
///   because PCRE2 counts U+180E as a space and leaves marks out of words;
/// - `{n,m}+` repeats the repetition; in PCRE2 it would be possessive;
/// - `(?m)` means that `.` matches a line feed;
/// - `\p{Han}` is the script, not the script extension.
/// Syntax that has no counterpart is an error naming it and its byte offset.
Result<std::string> translateOniguruma(std::string_view pattern);

/// A compiled pattern. Immutable, so that any number of threads can search.
class Regex {
public:
  /// Translates and compiles an Oniguruma pattern.
  static Result<Regex> compile(std::string_view pattern);
  /// A pattern that matches `text` and nothing else.
  static Result<Regex> literal(std::string_view text);

  /// All matches in `subject`, which must be valid UTF-8, from left to right.
  /// An empty match directly behind another match is passed over. Fails when
  /// a search takes more steps than is sane for the subject's length.
  Status findAll(std::string_view subject, std::vector<Span> &matches) const;

private:
  struct Program;
  explicit Regex(std::shared_ptr<const Program> program)
      : program(std::move(program)) {}
  static Result<Regex> compileTranslated(const std::string &pattern);
  std::shared_ptr<const Program> program;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_REGEX_H
