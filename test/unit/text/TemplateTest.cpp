//===- TemplateTest.cpp - What templates render ---------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Template.h"
#include "runtime/text/JsonReader.h"

#include <gtest/gtest.h>

using namespace retort;
using namespace retort::text;

namespace {

std::string render(std::string_view source, const char *inputs = "{}") {
  auto parsed = Template::parse(source);
  if (!parsed)
    return "error: " + parsed.status().message();
  std::tm now{};
  now.tm_year = 124;
  now.tm_mon = 6;
  now.tm_mday = 26;
  auto out = parsed->render(Json::parse(inputs), now);
  return out ? *out : "error: " + out.status().message();
}

struct Case {
  const char *source, *expected;
  const char *inputs = "{}";
};

void check(std::initializer_list<Case> cases) {
  for (const Case &c : cases)
    EXPECT_EQ(render(c.source, c.inputs), c.expected) << c.source;
}

} // namespace

TEST(Template, ControlsWhiteSpace) {
  check({
      {"a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"},
      {"a \n {%- if true -%}\n b {%- endif %}", "ab"},
      {"a\n  {{ 1 }}\nb", "a\n  1\nb"},
      {"a {{- 1 -}} b", "a1b"},
      {"  {#- note -#}  x", "x"},
      {"a\n  {%+ if true %}b{% endif %}", "a\n  b"},
      {"{% if true +%}\nb{% endif %}", "\nb"},
      {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
      {"a\r\nb\r\n", "a\nb"},
  });
}

TEST(Template, EvaluatesOperatorsAsPython) {
  check({
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "3 -4 2 3.5"},
      {"{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}", "64 4"},
      {"{{ 1 + 2 * 3 - 4 }}", "3"},
      {"{{ 1 ~ 2 + 3 ~ 'x' }}", "123x"},
      {"{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }}", "True False"},
      {"{{ not false and true or false }}", "True"},
      {"{{ 'a' in 'cat' }} {{ 1 not in [2] }} {{ 'k' in {'k': 1} }}",
       "True True True"},
      {"{{ 'x' if false }}|{{ 1 if false else 2 if true else 3 }}", "|2"},
      {"{{ '' or 'b' }} {{ 0 and 1 }}", "b 0"},
      {"{{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'ab' * 2 }}",
       "[1, 2] (1, 2) abab"},
      {"{{ 1.0 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 3e0 // 2 }}",
       "1.0 1e+16 0.30000000000000004 1e-05 1.0"},
      {"{{ 1 == 1.0 == true }}", "True"},
      {"{{ '%s-%03d' % ('a', 7) }}", "a-007"},
  });
}

TEST(Template, PrintsValuesAsPython) {
  check({
      {"{{ none }} {{ true }} {{ x }}|", "None True |"},
      {"{{ {'a': [1, none, \"it's\"], 'b': 'q'} }}",
       "{'a': [1, None, \"it's\"], 'b': 'q'}"},
      {"{{ ('a\\n',) }}", "('a\\n',)"},
  });
}

TEST(Template, IndexesAndSlices) {
  check({
      {"{{ 'h\u00e9llo'[1] }} {{ 'abc'[-1] }} {{ [1,2,3][::-1] }}",
       "\u00e9 c [3, 2, 1]"},
      {"{{ 'abcdef'[1:-1:2] }} {{ 'abc'[5:] }}|{{ [1,2,3][-2:] }}",
       "bd |[2, 3]"},
      {"{{ m.items()|list }} {{ m['items'] }} {{ m.x.y }}",
       "[('items', 5), ('x', {'y': 1})] 5 1",
       R"({"m": {"items": 5, "x": {"y": 1}}})"},
      {"{{ l.0 }} {{ l[9] is defined }}", "4 False", R"({"l": [4]})"},
  });
}

TEST(Template, Loops) {
  check({
      {"{% for x in [1,2,3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}"
       "{{ loop.last }}{{ loop.length }} {% endfor %}",
       "10TrueFalse3 21FalseFalse3 32FalseTrue3 "},
      {"{% for x in [1,2,3] if x != 2 %}{{ x }}{{ loop.length }}{% endfor %}",
       "1232"},
      {"{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=2;",
       R"({"m": {"b": 1, "a": 2}})"},
      {"{% for x in [] %}a{% else %}none{% endfor %}", "none"},
      {"{% for x in range(9) %}{% if x == 1 %}{% continue %}{% endif %}"
       "{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
       "02"},
      {"{% for x in [1] %}{% break %}{% else %}cut{% endfor %}", "cut"},
      {"{% for x in 'ab' %}{{ loop.previtem }}{{ loop.nextitem }}-{% endfor %}",
       "b-a-"},
      {"{% for x in 'abc' %}{{ loop.cycle('o', 'e') }}{% endfor %}", "oeo"},
      {"{% for a in [1,2] %}{% set outer = loop %}{% for b in [1] %}"
       "{{ outer.index }}{% endfor %}{% endfor %}",
       "12"},
      {"{% for x in missing %}a{% endfor %}b", "b"},
  });
}

TEST(Template, ScopesVariables) {
  check({
      {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}",
       "1"},
      {"{% set n = namespace(x=1) %}{% for i in [1] %}{% set n.x = 2 %}"
       "{% endfor %}{{ n.x }}",
       "2"},
      {"{% if true %}{% set x = 3 %}{% endif %}{{ x }}", "3"},
      {"{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"},
      {"{% set x %}a{{ 1 }}{% endset %}{{ x }}", "a1"},
      {"{% set x | upper | trim %} ab {% endset %}{{ x }}", "AB"},
      {"{% with y = 2 %}{{ y }}{% endwith %}{{ y }}", "2"},
      {"{% generation %}a{% endgeneration %}", "a"},
      {"{% filter upper %}ab{% endfilter %}", "AB"},
  });
}

TEST(Template, Macros) {
  check({
      {"{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}"
       "{{ m(1) }} {{ m(1, c=3) }}",
       "121 123"},
      {"{% macro m() %}<{{ caller() }}>{% endmacro %}"
       "{% call m() %}x{% endcall %}",
       "<x>"},
      {"{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro "
       "%}"
       "{{ f(3) }}",
       "321"},
  });
}

TEST(Template, Filters) {
  check({
      {"{{ m|tojson }}", R"({"a": "é\n", "b": [1, 2.0, null, true]})",
       R"({"m": {"a": "é\n", "b": [1, 2.0, null, true]}})"},
      {"{{ {'a': [1], 'b': {}}|tojson(indent=2) }}",
       "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"},
      {"{{ ' a '|trim }}{{ 'ab'|length }}{{ [1,2]|join('-') }}", "a21-2"},
      {"{{ ['a','b']|map('upper')|list }}", "['A', 'B']"},
      {"{{ [{'r': 1}, {'r': 2}]|selectattr('r', 'equalto', 2)|list }}",
       "[{'r': 2}]"},
      {"{{ [{'r': 1}]|map(attribute='r')|first }}", "1"},
      {"{{ [1,2,3]|reject('odd')|list }} {{ [3,1]|sort }} {{ [1,1]|unique|list "
       "}}",
       "[2] [1, 3] [1]"},
      {"{{ ['b1','B0','a']|sort }} {{ [2,1,3]|sort(reverse=true) }}",
       "['a', 'B0', 'b1'] [3, 2, 1]"},
      {"{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}", "{\"a\": 2, \"b\": 1}"},
      {"{{ {'b': 1, 'a': 2}|dictsort }}", "[('a', 2), ('b', 1)]"},
      {"{{ x|default('d') }} {{ ''|default('d', true) }}", "d d"},
      {"{{ 'hello world'|title }} {{ 'aB'|capitalize }}", "Hello World Ab"},
      {"{{ '12'|int + 1 }} {{ 'x'|int }} {{ '1.5'|float }} {{ 2.5|round }}",
       "13 0 1.5 2.0"},
      {"{{ 'a\nb'|indent(2) }}", "a\n  b"},
      {"{{ [1,2]|last }} {{ 'ab'|reverse }} {{ -3|abs }}", "2 ba 3"},
      {"{{ 'aXbX'|replace('X', '-') }}", "a-b-"},
  });
}

TEST(Template, Tests) {
  check({
      {"{{ x is defined }} {{ x is not defined }} {{ none is none }}",
       "False True True"},
      {"{{ 'a' is string }} {{ {} is mapping }} {{ 1 is number }}",
       "True True True"},
      {"{{ [] is iterable and [] is sequence }} {{ true is boolean }}",
       "True True"},
      {"{{ 4 is divisibleby 2 }} {{ 1 is in [1] }} {{ 2 is eq(2) }}",
       "True True True"},
  });
}

TEST(Template, Methods) {
  check({
      {"{{ ' a '.strip() }}{{ 'xxa'.lstrip('x') }}{{ 'a,b'.split(',') }}",
       "aa['a', 'b']"},
      {"{{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }}",
       "['a', 'b'] ['a', 'b c']"},
      {"{{ 'abc'.startswith('ab') }} {{ 'abc'.find('c') }}", "True 2"},
      {"{{ {'a': 1}.get('b', 2) }} {{ {'a': 1}.keys()|list }}", "2 ['a']"},
      {"{{ 'x</think>y'.split('</think>')[-1] }}", "y"},
      {"{{ 'ab'.replace('a', 'c').upper() }}", "CB"},
  });
}

TEST(Template, TellsTheTimeItIsGiven) {
  check({{"{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"}});
}
