//===- Regex.cpp - Compiled patterns --------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Regex.h"

#include "runtime/text/Unicode.h"

#include <algorithm>
#include <pcre2.h>

namespace retort::text {
namespace {

/// Longer patterns are refused, to bound what compiling one can cost.
constexpr size_t kMaxPattern = 1 << 16;

std::string errorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char *>(buffer);
}

template <auto Free> struct Deleter {
  template <typename T> void operator()(T *p) const { Free(p); }
};
using CodePtr = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using CompileContextPtr =
    std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>>;
using MatchContextPtr =
    std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using MatchDataPtr =
    std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;

} // namespace

struct Regex::Program {
  CodePtr code;
};

Result<Regex> Regex::compile(std::string_view pattern) {
  RETORT_ASSIGN_OR_RETURN(std::string translated, translateOniguruma(pattern));
  return compileTranslated(translated);
}

Result<Regex> Regex::literal(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    // PCRE2 takes a backslash before any ASCII punctuation literally.
    bool plain = static_cast<uint8_t>(c) >= 0x80 || (c >= '0' && c <= '9') ||
                 (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 static_cast<uint8_t>(c) <= ' ' || c == 0x7F;
    if (!plain)
      pattern += '\\';
    pattern += c;
  }
  return compileTranslated(pattern);
}

Result<Regex> Regex::compileTranslated(const std::string &pattern) {
  if (pattern.size() > kMaxPattern)
    return Status::error(Code::Unsupported, "pattern: expected at most " +
                                                std::to_string(kMaxPattern) +
                                                " bytes, found " +
                                                std::to_string(pattern.size()));
  CompileContextPtr context(pcre2_compile_context_create(nullptr));
  if (!context)
    return Status::error(Code::OutOfMemory, "no memory for a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePtr code(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
      &offset, context.get()));
  if (!code)
    return Status::error(Code::InvalidData,
                         "pattern '" + pattern + "': byte offset " +
                             std::to_string(offset) + ": " + errorText(error));
  // Without a just-in-time compiler the interpreter runs the same code.
  (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  auto program = std::make_shared<Program>();
  program->code = std::move(code);
  return Regex(std::move(program));
}

Status Regex::findAll(std::string_view subject,
                      std::vector<Span> &matches) const {
  matches.clear();
  const pcre2_code *code = program->code.get();
  MatchDataPtr data(pcre2_match_data_create(1, nullptr));
  MatchContextPtr context(pcre2_match_context_create(nullptr));
  if (!data || !context)
    return Status::error(Code::OutOfMemory, "no memory for a search");
  // A long run of spaces is backtracked over once, so the limit has to grow
  // with the subject; quadratic searches still exceed it.
  size_t limit = std::min<size_t>(1'000'000 + 16 * subject.size(), UINT32_MAX);
  pcre2_set_match_limit(context.get(), static_cast<uint32_t>(limit));
  pcre2_set_heap_limit(context.get(), 256 * 1024);

  PCRE2_SPTR text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  size_t start = 0, lastEnd = std::string_view::npos;
  while (start <= subject.size()) {
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code, text, subject.size(), start, options, data.get(),
                         context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
      rc = pcre2_match(code, text, subject.size(), start,
                       options | PCRE2_NO_JIT, data.get(), context.get());
    if (rc == PCRE2_ERROR_NOMATCH)
      break;
    if (rc < 0)
      return Status::error(
          Code::InvalidArgument,
          "byte offset " + std::to_string(start) +
              ": the pattern's search failed: " + errorText(rc));
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data.get());
    // `\K` in a lookahead can end a match before it begins.
    Span match{std::min(bounds[0], bounds[1]), bounds[1]};
    if (match.begin == match.end && match.end == lastEnd) {
      if (start == subject.size())
        break;
      decodeUtf8(subject, start);
      continue;
    }
    matches.push_back(match);
    start = lastEnd = match.end;
  }
  return Status::ok();
}

} // namespace retort::text
