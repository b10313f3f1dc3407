// Oracles: texts worked out by hand; tests/python/test_templates.py compares with jinja2,
// tests/golden/chat_templates.json with transformers.
#include "template/template.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/errors.h"

namespace deeplora::jinja {
namespace {

using deeplora::testing::error_of;

std::string rendered(const std::string& source, const Variables& variables = {}) {
  return Template::parse(source).render(variables).text;
}
std::string error_in(const std::string& source) {
  return error_of([&] { rendered(source); });
}
std::string parse_error(const std::string& source) {
  return error_of([&] { Template::parse(source); });
}

TEST(TemplateTest, WhiteSpaceGoesAsTrimBlocksAndLstripBlocksSay) {
  EXPECT_EQ(rendered("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(rendered("a \n {%- if true -%}\n b \n{%- endif %} c"), "ab c");
  EXPECT_EQ(rendered("  {%+ if true +%}\nx{% endif %}\r\ny"), "  \nxy");
  EXPECT_EQ(rendered("{# c #}\nx {{- ' y ' -}} z\n\n"), "x y z\n");
}

TEST(TemplateTest, ValuesPrintAsInPython) {
  EXPECT_EQ(rendered("{{ [none, true, 1, 2.0, 1e16, 'a\\'b', ('x',), {'k': []}] }}"),
            "[None, True, 1, 2.0, 1e+16, \"a'b\", ('x',), {'k': []}]");
  EXPECT_EQ(
      rendered("{{ 7 // -2 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** -1 }} {{ 'ß'|upper }} {{ 'äöü'[::-1] }}"),
      "-4 -2 3.5 3.0 0.5 SS üöä");
  EXPECT_EQ(rendered("{{ {'b': 1, 'a': 'ü<'} | tojson(sort_keys=true, ensure_ascii=true) }}"),
            "{\"a\": \"\\u00fc<\", \"b\": 1}");
}

TEST(TemplateTest, ScopesAreJinjas) {
  EXPECT_EQ(rendered("{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}"), "231");
  EXPECT_EQ(rendered("{% if true %}{% set y = 5 %}{% endif %}{{ y }}"), "5");
  EXPECT_EQ(rendered("{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}"), "2");
  // A name that is assigned first hides the variable that the template is given.
  EXPECT_EQ(rendered("{% for i in [1] %}[{{ x }}]{% endfor %}{% set x = 1 %}", {{"x", Value(7)}}), "[]");
  EXPECT_EQ(
      rendered("{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
      "6");
}

TEST(TemplateTest, GenerationBlocksAreFound) {
  const auto out =
      Template::parse("ä{% generation %}öü{% endgeneration %}x{% generation %}y{% endgeneration %}").render({});
  EXPECT_EQ(out.text, "äöüxy");
  EXPECT_EQ(out.generations, (std::vector<std::pair<size_t, size_t>>{{2, 6}, {7, 8}}));
  EXPECT_FALSE(out.hidden_generation);
  EXPECT_TRUE(Template::parse("{% filter upper %}{% generation %}y{% endgeneration %}{% endfilter %}")
                  .render({})
                  .hidden_generation);
}

TEST(TemplateTest, MalformedTemplatesAreNamedWithLineAndColumn) {
  EXPECT_EQ(
      parse_error("a\n{% if x %}\n").rfind("template, line 2, column 11: the template ends without {% elif %} or", 0),
      0u)
      << parse_error("a\n{% if x %}\n");
  EXPECT_EQ(parse_error("ä {{ 1 + }}"), "template, line 1, column 10: expected an expression, found '}}'");
  EXPECT_NE(parse_error("{{ 'a }}").find("line 1, column 4: a text without its closing '"), std::string::npos);
  EXPECT_NE(parse_error("{% for %}").find("column 8"), std::string::npos);
  EXPECT_NE(parse_error("{{ x|uper }}").find("no filter named 'uper' (did you mean 'upper'?)"), std::string::npos);
  EXPECT_NE(parse_error("{{ x is defind }}").find("no test named 'defind' (did you mean 'defined'?)"),
            std::string::npos);
  EXPECT_NE(parse_error("{% include 'x' %}").find("{% include %} is not supported"), std::string::npos);
  EXPECT_NE(parse_error("{{ [1, 2) }}").find("unexpected ')', expected ']'"), std::string::npos);
  EXPECT_NE(parse_error("{# a").find("a comment {# without its end #}"), std::string::npos);
  EXPECT_NE(parse_error("{% break %}").find("belong into a loop"), std::string::npos);
  EXPECT_NE(parse_error("x\n{{ a b }}").find("line 2, column 6: expected '}}', found 'b'"), std::string::npos)
      << parse_error("x\n{{ a b }}");
  for (const char* source :
       {"\xFF", "{{", "{%", "{% raw %} ", "{% set %}", "{% endfor %}", "{{ 99999999999999999999 }}"})
    EXPECT_NE(parse_error(source), "no error") << source;
}

TEST(TemplateTest, MistakesOfARunningTemplateAreNamedWithTheirPlace) {
  EXPECT_EQ(error_in("\n{{ raise_exception('roles must alternate') }}"),
            "template, line 2, column 19: roles must alternate");
  EXPECT_NE(error_in("{{ x.y }}").find("'x' is undefined"), std::string::npos);
  EXPECT_NE(error_in("{{ 'a' + 1 }}").find("unsupported operand type(s) for +: 'str' and 'int'"), std::string::npos);
  EXPECT_NE(error_in("{{ strftime_now('%Y') }}").find("data.chat_date"), std::string::npos);
  EXPECT_NE(error_in("{{ dict(x) }}").find("'x' is undefined"), std::string::npos);
  EXPECT_NE(error_in("{{ [].append(1) }}").find("unsafe"), std::string::npos);
  EXPECT_NE(error_in("{{ 9223372036854775807 + 1 }}").find("beyond 64 bits"), std::string::npos);
  EXPECT_EQ(rendered("{{ ''.__class__ }}{{ x }}{{ [].append is defined }}"), "False");
}

TEST(TemplateTest, NoTemplateRunsOnOrFillsTheMemory) {
  for (const char* source :
       {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{{ 'a' * 1000000000 }}", "{{ [1] * 100000000000 }}", "{{ 'a'|center(100000000) }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = ns.x|map('string') %}{% endfor %}{{ "
        "ns.x|list }}",
        "{{ '%1000000000d' % 1 }}", "{{ '{:1000000000}'.format(1) }}", "{{ range(1000000000)|length }}",
        "{% for i in range(99999) %}{{ 'abcdefgh' * 1000 }}{% endfor %}"})
    EXPECT_NE(error_in(source), "no error") << source;
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "(";
  EXPECT_NE(parse_error("{{ " + deep), "no error");
  std::string ifs;
  for (int i = 0; i < 5000; ++i) ifs += "{% if x %}";
  EXPECT_NE(parse_error(ifs), "no error");
  std::string chain = "x";
  for (int i = 0; i < 100000; ++i) chain += ".y";
  EXPECT_NE(parse_error("{{ " + chain + " }}"), "no error");
}

TEST(TemplateTest, ValuesThatHoldEachOtherAreLetGo) {
  EXPECT_EQ(rendered("{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{{ ns is defined }}{% endmacro %}{% "
                     "set ns.f = f %}{{ ns.f() }}"
                     "{% for i in [1, 2] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.index }}{% set c = cycler(1, 2) "
                     "%}{% set ns.n = c.next %}{% set c = 1 %}{{ ns.n() }}"),
            "True21");
}

TEST(TemplateTest, ADayIsTold) {
  EXPECT_EQ(clock_of("2024-02-29")("%A, %d %B %Y %j"), "Thursday, 29 February 2024 060");
  EXPECT_NE(error_of([] { clock_of("2023-02-29"); }).find("no day 2023-02-29"), std::string::npos);
  EXPECT_NE(error_of([] { clock_of("today"); }).find("YYYY-MM-DD"), std::string::npos);
}

}  // namespace
}  // namespace deeplora::jinja
