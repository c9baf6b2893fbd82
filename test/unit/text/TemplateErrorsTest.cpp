//===- TemplateErrorsTest.cpp - Templates that must fail ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/JsonReader.h"
#include "runtime/text/Template.h"

#include <chrono>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::text;
using testing::HasSubstr;

namespace {

std::string errorOf(std::string_view source, Json inputs = Json::object()) {
  auto parsed = Template::parse(source);
  if (!parsed)
    return parsed.status().message();
  auto out = parsed->render(inputs, std::tm{});
  return out ? "no error" : out.status().message();
}

} // namespace

TEST(TemplateErrors, Syntax) {
  EXPECT_THAT(errorOf("a\n{% if %}"),
              HasSubstr("line 2: expected an expression"));
  EXPECT_THAT(errorOf("{% if x %}"), HasSubstr("'endif'"));
  EXPECT_THAT(errorOf("{{ x"), HasSubstr("expected '}}'"));
  EXPECT_THAT(errorOf("{{ 'x }}"), HasSubstr("string is not closed"));
  EXPECT_THAT(errorOf("{# x"), HasSubstr("comment is not closed"));
  EXPECT_THAT(errorOf("{% raw %}x"), HasSubstr("'endraw'"));
  EXPECT_THAT(errorOf("{% nonsense %}"), HasSubstr("unknown tag 'nonsense'"));
  EXPECT_THAT(errorOf("{% include 'x' %}"), HasSubstr("unknown tag 'include'"));
  EXPECT_THAT(errorOf("{{ x|nonsense }}"), HasSubstr("unknown filter"));
  EXPECT_THAT(errorOf("{{ x is nonsense }}"), HasSubstr("unknown test"));
  EXPECT_THAT(errorOf("{% endfor %}"), HasSubstr("unknown tag 'endfor'"));
  EXPECT_THAT(errorOf("{% break %}"), HasSubstr("outside of a loop"));
  EXPECT_THAT(errorOf("{{ (1] }}"), HasSubstr("unexpected ']'"));
  EXPECT_THAT(errorOf("{{ 99999999999999999999 }}"), HasSubstr("out of range"));
  EXPECT_THAT(errorOf("{{ '\\ud800' }}"), HasSubstr("no character"));
  EXPECT_THAT(errorOf("\xff"), HasSubstr("byte offset 0"));
  EXPECT_THAT(errorOf("{% set none = 1 %}"), HasSubstr("cannot assign"));
}

TEST(TemplateErrors, NameTheLineAtRunTime) {
  EXPECT_EQ(errorOf("\n\n{{ raise_exception('no system role') }}"),
            "line 3: no system role");
  EXPECT_EQ(errorOf("{{ a.b.c }}", {{"a", Json::object()}}),
            "line 1: 'dict object' has no attribute 'b'");
  EXPECT_EQ(errorOf("{{ x.y }}"), "line 1: 'x' is undefined");
  EXPECT_THAT(errorOf("{{ 'a' + 1 }}"), HasSubstr("'str' and 'int'"));
  EXPECT_THAT(errorOf("{{ 1 < 'a' }}"), HasSubstr("unsupported operand"));
  EXPECT_THAT(errorOf("{{ 1 // 0 }}"), HasSubstr("division by zero"));
  EXPECT_THAT(errorOf("{{ x() }}"), HasSubstr("'x' is undefined"));
  EXPECT_THAT(errorOf("{% for x in 1 %}{% endfor %}"), HasSubstr("iterated"));
  EXPECT_THAT(errorOf("{% set a, b = [1] %}"), HasSubstr("unpack"));
  EXPECT_THAT(errorOf("{% set x = {} %}{% set x.y = 1 %}"),
              HasSubstr("non-namespace"));
  EXPECT_THAT(errorOf("{{ x|tojson }}"), HasSubstr("no JSON form"));
  EXPECT_THAT(errorOf("{{ [1,2][::0] }}"), HasSubstr("zero"));
  EXPECT_THAT(errorOf("{{ {[1]: 2} }}"), HasSubstr("cannot be a key"));
}

TEST(TemplateErrors, TheSandboxForbidsChangesAndPrivateNames) {
  EXPECT_THAT(errorOf("{{ [].append(1) }}"), HasSubstr("unsafe"));
  EXPECT_THAT(errorOf("{{ {}.update({}) }}"), HasSubstr("unsafe"));
  EXPECT_THAT(errorOf("{{ ''.__class__.__mro__ }}"), HasSubstr("unsafe"));
}

TEST(TemplateErrors, BoundsHoldQuickly) {
  const char *bombs[] = {
      "{% for i in range(10**9) %}x{% endfor %}",
      "{% for a in range(100000) %}{% for b in range(100000) %}"
      "{% endfor %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for i in range(99) %}"
      "{% set n.s = n.s + n.s %}{% endfor %}",
      "{% set n = namespace(s=[1]) %}{% for i in range(99) %}"
      "{% set n.s = n.s + n.s %}{% endfor %}",
      "{{ 'x' * 10**12 }}",
      "{{ [0] * 10**12 }}",
      "{{ 10 ** 10 ** 10 }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
      "{% set n.l = [n.l] %}{% endfor %}",
      "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
      "{% set n.l = [n.l.count] %}{% endfor %}",
      "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(90) %}"
      "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
      "{{ n.a == n.b }}",
      "{% set n = namespace(a=[1]) %}{% for i in range(90) %}"
      "{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}",
      "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
      "{{ 'x' | replace('', 'y' * 30000000) }}",
      "{{ 'a\nb' | indent(10**11) }}",
      "{{ '%99999d' % 1 }}",
      "{{ ''.join(['x' * 20000000, 'x' * 20000000]) }}",
  };
  for (const char *bomb : bombs) {
    auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(errorOf(bomb), testing::StartsWith("line ")) << bomb;
    EXPECT_LT(std::chrono::steady_clock::now() - begin,
              std::chrono::seconds(20))
        << bomb;
  }
}

TEST(TemplateErrors, DeepSyntaxIsRefused) {
  EXPECT_THAT(errorOf("{{ " + std::string(100'000, '(') +
                      std::string(100'000, ')') + "}}"),
              HasSubstr("deep"));
  EXPECT_THAT(errorOf("{{ " + std::string(100'000, '-') + "1 }}"),
              HasSubstr("deep"));
  std::string dots = "{{ a", nots = "{{ ", blocks;
  for (int i = 0; i < 50'000; ++i) {
    dots += ".a";
    nots += "not ";
    blocks += "{% if a %}";
  }
  EXPECT_THAT(errorOf(dots + " }}"), HasSubstr("deep"));
  EXPECT_THAT(errorOf(nots + "a }}"), HasSubstr("deep"));
  EXPECT_THAT(errorOf(blocks), HasSubstr("deep"));
}

TEST(TemplateErrors, InputsMustBeUtf8) {
  EXPECT_THAT(errorOf("{{ x }}", {{"x", "a\xff"}}), HasSubstr("byte offset 1"));
}
