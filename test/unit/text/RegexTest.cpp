//===- RegexTest.cpp - Oniguruma patterns ---------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::text;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::vector<std::string> matches(std::string_view pattern,
                                 std::string_view subject) {
  auto regex = Regex::compile(pattern);
  if (!regex)
    return {"error: " + regex.status().message()};
  std::vector<Span> spans;
  Status status = regex->findAll(subject, spans);
  if (!status)
    return {"error: " + status.message()};
  std::vector<std::string> out;
  for (Span s : spans)
    out.emplace_back(subject.substr(s.begin, s.end - s.begin));
  return out;
}

std::string compileError(std::string_view pattern) {
  auto regex = Regex::compile(pattern);
  return regex ? "" : regex.status().message();
}

} // namespace

TEST(Regex, SpaceIsTheUnicodeProperty) {
  EXPECT_THAT(matches("\\s", "a\u0085b\u00a0c\u3000d"),
              ElementsAre("\u0085", "\u00a0", "\u3000"));
  // PCRE2's own \s takes the Mongolian vowel separator.
  EXPECT_THAT(matches("\\s", "\u180e"), ElementsAre());
  EXPECT_THAT(matches("[^\\s]+", "a\u180eb c"), ElementsAre("a\u180eb", "c"));
  EXPECT_THAT(matches("[\\S]+", "a\u180eb c"), ElementsAre("a\u180eb", "c"));
}

TEST(Regex, WordsHoldMarks) {
  EXPECT_THAT(matches("\\w+", "e\u0301_1-x"), ElementsAre("e\u0301_1", "x"));
  EXPECT_THAT(matches("\\bx", "e\u0301x x"), ElementsAre("x"));
}

TEST(Regex, CountedPlusRepeats) {
  // In PCRE2 `{1,3}+` would be possessive.
  EXPECT_THAT(matches("\\d{1,3}+", "1234567"), ElementsAre("1234567"));
  EXPECT_THAT(matches("a{,2}b", "aaab"), ElementsAre("aab"));
  EXPECT_THAT(matches("(?:ab){2}+", "ababab"), ElementsAre("abab"));
}

TEST(Regex, ReadsRubyFlagsAndClasses) {
  EXPECT_THAT(matches("(?m:a.b)", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(matches("(?i:'LL)", "i'll"), ElementsAre("'ll"));
  EXPECT_THAT(matches("[a[bc]]+", "abcd"), ElementsAre("abc"));
  EXPECT_THAT(matches("[[:space:]]", "a b"), ElementsAre(" "));
  EXPECT_THAT(matches("\\p{Han}+", "\u4e2d\u6587a"),
              ElementsAre("\u4e2d\u6587"));
  EXPECT_THAT(matches("\\p{^L}", "a1"), ElementsAre("1"));
  EXPECT_THAT(matches("\\h+", "xfF0g"), ElementsAre("fF0"));
  EXPECT_THAT(matches("\\u4e2d", "\u4e2d"), ElementsAre("\u4e2d"));
  EXPECT_THAT(matches("^b$", "a\nb\nc"), ElementsAre("b"));
}

TEST(Regex, PassesOverEmptyMatchesBehindOthers) {
  EXPECT_THAT(matches("a*", "baac"), ElementsAre("", "aa", ""));
}

TEST(Regex, LiteralsAreQuoted) {
  auto regex = Regex::literal("a.b\\E*");
  ASSERT_TRUE(regex) << regex.status().message();
  std::vector<Span> spans;
  ASSERT_TRUE(regex->findAll("axb a.b\\E*", spans));
  EXPECT_THAT(spans, ElementsAre(Span{4, 10}));
}

TEST(Regex, NamesWhatIsNotSupported) {
  EXPECT_THAT(compileError("[a&&b]"), HasSubstr("'&&' inside brackets"));
  EXPECT_THAT(compileError("\\y"), HasSubstr("'\\y'"));
  EXPECT_THAT(compileError("[[^a]b]"), HasSubstr("negated bracket"));
  EXPECT_THAT(compileError("(?~a)"), HasSubstr("byte offset 2"));
  EXPECT_THAT(compileError("[\\W]"), HasSubstr("inside brackets"));
}

TEST(Regex, RefusesBrokenPatterns) {
  EXPECT_THAT(compileError("(a"), HasSubstr("not closed"));
  EXPECT_THAT(compileError("a)"), HasSubstr("without its '('"));
  EXPECT_THAT(compileError("[a"), HasSubstr("not closed"));
  EXPECT_THAT(compileError("a\\"), HasSubstr("backslash"));
  EXPECT_THAT(compileError("*a"), HasSubstr("byte offset"));
  EXPECT_THAT(compileError("\\p{Nonsense}"), HasSubstr("Nonsense"));
  EXPECT_THAT(compileError("\xff"), HasSubstr("UTF-8"));
  EXPECT_THAT(compileError(std::string(10'000, '(')), HasSubstr("nesting"));
}

TEST(Regex, StopsExponentialSearches) {
  std::string subject(60, 'a');
  EXPECT_THAT(matches("(?:a|aa)+[bc]", subject),
              ElementsAre(HasSubstr("search failed")));
}
