#include "template/parser.h"

#include <algorithm>

#include "template/lexer.h"
#include "template/python_text.h"

namespace deeplora::jinja {
namespace {

using Kind = Token::Kind;
using E = Expr::Kind;
using S = Stmt::Kind;

constexpr int kDeepestExpression = 200;  ///< Python takes no deeper one either
constexpr int kDeepestStatement = 100;

std::string described(const Token& token) {
  switch (token.kind) {
    case Kind::data: return "text";
    case Kind::output_begin: return "'{{'";
    case Kind::output_end: return "'}}'";
    case Kind::block_begin: return "'{%'";
    case Kind::block_end: return "'%}'";
    case Kind::text: return "the text " + python_text::repr(token.text.substr(0, 40));
    case Kind::end: return "the end of the template";
    default: return "'" + token.text + "'";
  }
}

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokens_of(source)) {}

  SyntaxTree run() {
    SyntaxTree out;
    out.body = statements({});
    out.has_generation = has_generation_;
    return out;
  }

 private:
  // ---- tokens ----

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_symbol(std::string_view mark) const { return now().kind == Kind::symbol && now().text == mark; }
  bool is_name(std::string_view word) const { return now().kind == Kind::name && now().text == word; }
  bool skip_symbol(std::string_view mark) {
    const bool there = is_symbol(mark);
    if (there) take();
    return there;
  }
  bool skip_name(std::string_view word) {
    const bool there = is_name(word);
    if (there) take();
    return there;
  }

  template <class... Parts>
  [[noreturn]] void complain(Place place, const Parts&... parts) const {
    fail(jinja::at(place), parts...);
  }
  [[noreturn]] void unexpected(const std::string& wanted) const {
    complain(now().place, "expected ", wanted, ", found ", described(now()));
  }

  void expect_symbol(std::string_view mark) {
    if (!skip_symbol(mark)) unexpected(cat("'", mark, "'"));
  }
  std::string expect_name() {
    if (now().kind != Kind::name) unexpected("a name");
    return take().text;
  }
  void expect(Kind kind, const char* what) {
    if (now().kind != kind) unexpected(what);
    take();
  }

  // ---- nodes ----

  /// Counts how deep the parser itself recurses.
  struct Nested {
    Nested(Parser& parser, int& depth, int most) : depth_(depth) {
      if (++depth_ > most) parser.complain(parser.now().place, "nests deeper than ", most, " levels");
    }
    ~Nested() { --depth_; }
    int& depth_;
  };

  template <class... Parts>
  ExprPtr node(E kind, Place place, Parts... parts) {
    auto out = std::make_unique<Expr>(Expr{.kind = kind, .place = place});
    (out->parts.push_back(std::move(parts)), ...);
    return finished(std::move(out));
  }
  ExprPtr finished(ExprPtr out) const {
    const auto count = [&](const ExprPtr& part) {
      if (part) out->depth = std::max(out->depth, part->depth + 1);
    };
    for (const auto& part : out->parts) count(part);
    for (const auto& part : out->arguments.positional) count(part);
    for (const auto& part : out->arguments.named) count(part.second);
    count(out->arguments.list);
    count(out->arguments.dict);
    if (out->depth > kDeepestExpression)
      complain(out->place, "an expression nests deeper than ", kDeepestExpression, " levels");
    return out;
  }
  ExprPtr constant(Value value, Place place) {
    auto out = node(E::constant, place);
    out->value = std::move(value);
    return out;
  }

  // ---- statements ----

  /// Until a tag named in `ends` (which is not taken), or the end of the template where there are none.
  Body statements(const std::vector<std::string>& ends) {
    const Nested nested(*this, statement_depth_, kDeepestStatement);
    const Place opened = now().place;
    Body body;
    while (now().kind != Kind::end) {
      if (now().kind == Kind::block_begin) {
        take();
        if (now().kind == Kind::name && std::find(ends.begin(), ends.end(), now().text) != ends.end()) return body;
        body.push_back(statement(ends));
        expect(Kind::block_end, "'%}'");
        continue;
      }
      if (body.empty() || body.back()->kind != S::output || body.back()->name == "print")
        body.push_back(std::make_unique<Stmt>(Stmt{.kind = S::output, .place = now().place}));
      body.back()->parts.push_back(output());
    }
    if (!ends.empty())
      complain(now().place, "the template ends without {% ", join(ends, " %} or {% "), " %} for the tag of ",
               jinja::at(opened), "every tag must be closed");
    return body;
  }

  ExprPtr output() {
    if (now().kind == Kind::data) {
      const Token& token = take();
      return constant(Value(token.text), token.place);
    }
    expect(Kind::output_begin, "'{{'");
    auto value = tuple();
    expect(Kind::output_end, "'}}'");
    return value;
  }

  /// The body of a tag, up to one of `ends`, which is taken; `end` gets its name.
  Body body(const std::vector<std::string>& ends, std::string* end = nullptr) {
    skip_symbol(":");
    expect(Kind::block_end, "'%}'");
    Body out = statements(ends);
    const std::string name = take().text;
    if (end) *end = name;
    return out;
  }

  std::unique_ptr<Stmt> statement(const std::vector<std::string>& ends) {
    if (now().kind != Kind::name) unexpected("the name of a tag");
    const Token token = take();
    auto out = std::make_unique<Stmt>(Stmt{.kind = S::output, .place = token.place});
    using Read = void (Parser::*)(Stmt&);
    static const std::pair<const char*, Read> kTags[] = {{"for", &Parser::read_for},
                                                         {"if", &Parser::read_if},
                                                         {"set", &Parser::read_set},
                                                         {"macro", &Parser::read_macro},
                                                         {"call", &Parser::read_call},
                                                         {"filter", &Parser::read_filter},
                                                         {"with", &Parser::read_with},
                                                         {"print", &Parser::read_print},
                                                         {"generation", &Parser::read_generation},
                                                         {"block", &Parser::read_block},
                                                         {"autoescape", &Parser::read_autoescape}};
    for (const auto& [name, read] : kTags)
      if (token.text == name) {
        (this->*read)(*out);
        return out;
      }
    if (token.text == "break" || token.text == "continue") {
      out->kind = token.text == "break" ? S::break_loop : S::continue_loop;
      return out;
    }
    for (const char* tag : {"include", "import", "from", "extends"})
      if (token.text == tag) complain(token.place, "{% ", tag, " %} is not supported: a chat template is one file");
    complain(token.place, "unknown tag '", token.text, "'",
             ends.empty() ? "" : cat("; looking for ", join(ends, " or ")));
  }

  void read_for(Stmt& out) {
    out.kind = S::loop;
    auto target = assigned(tuple_of_targets(/*in=*/true, false));
    if (!skip_name("in")) unexpected("'in'");
    auto iterable = tuple(/*conditional=*/false, "recursive");
    auto test = skip_name("if") ? expression() : nullptr;
    out.recursive = skip_name("recursive");
    out.parts.push_back(std::move(target));
    out.parts.push_back(std::move(iterable));
    out.parts.push_back(std::move(test));
    std::string end;
    out.bodies.push_back(body({"endfor", "else"}, &end));
    out.bodies.push_back(end == "else" ? body({"endfor"}) : Body());
  }

  void read_if(Stmt& out) {
    out.kind = S::branch;
    for (std::string end = "elif"; end != "endif";) {
      if (end == "else") {
        out.bodies.push_back(body({"endif"}, &end));
        return;
      }
      out.parts.push_back(tuple(/*conditional=*/false));
      out.bodies.push_back(body({"elif", "else", "endif"}, &end));
    }
  }

  void read_set(Stmt& out) {
    auto target = assigned(tuple_of_targets(false, /*namespaces=*/true));
    out.parts.push_back(std::move(target));
    if (skip_symbol("=")) {
      out.kind = S::set;
      out.parts.push_back(tuple());
      return;
    }
    out.kind = S::set_block;
    out.parts.push_back(is_symbol("|") ? filters(nullptr) : nullptr);
    out.bodies.push_back(body({"endset"}));
  }

  void signature(Stmt& out) {
    expect_symbol("(");
    while (!is_symbol(")")) {
      if (!out.values.empty()) expect_symbol(",");
      const Place place = now().place;
      auto parameter = node(E::name, place);
      parameter->name = expect_name();
      parameter->parameter = true;
      if (skip_symbol("=")) out.defaults.push_back(expression());
      else if (!out.defaults.empty()) complain(place, "a parameter without a default behind one with a default");
      out.values.push_back(assigned(std::move(parameter)));
    }
    expect_symbol(")");
  }

  void read_macro(Stmt& out) {
    out.kind = S::macro;
    const Place place = now().place;
    out.name = expect_name();
    check_assignable(out.name, place);
    signature(out);
    out.bodies.push_back(body({"endmacro"}));
  }

  void read_call(Stmt& out) {
    out.kind = S::call_block;
    if (is_symbol("(")) signature(out);
    const Place place = now().place;
    out.parts.push_back(expression());
    if (out.parts[0]->kind != E::call) complain(place, "{% call %} needs a call of a macro");
    out.bodies.push_back(body({"endcall"}));
  }

  void read_generation(Stmt& out) {
    has_generation_ = true;
    out.kind = S::call_block;
    out.parts.push_back(node(E::mark_generation, out.place));
    out.bodies.push_back(body({"endgeneration"}));
  }

  void read_filter(Stmt& out) {
    out.kind = S::filter_block;
    out.parts.push_back(filters(nullptr, /*first=*/true));
    out.bodies.push_back(body({"endfilter"}));
  }

  void read_with(Stmt& out) {
    out.kind = S::with;
    while (now().kind != Kind::block_end) {
      if (!out.parts.empty()) expect_symbol(",");
      auto target = assigned(tuple_of_targets(false, false));
      mark_parameters(*target);
      out.parts.push_back(std::move(target));
      expect_symbol("=");
      out.values.push_back(expression());
    }
    out.bodies.push_back(body({"endwith"}));
  }

  void read_print(Stmt& out) {
    out.name = "print";
    while (now().kind != Kind::block_end) {
      if (!out.parts.empty()) expect_symbol(",");
      out.parts.push_back(expression());
    }
  }

  void read_block(Stmt& out) {
    out.kind = S::block;
    out.name = expect_name();
    out.scoped = skip_name("scoped");
    out.required = skip_name("required");
    if (out.required) complain(out.place, "required blocks are not supported: a chat template is one file");
    out.bodies.push_back(body({"endblock"}));
    skip_name(out.name);
  }

  void read_autoescape(Stmt& out) {
    out.kind = S::scope;
    const auto value = expression();
    if (value->kind != E::constant || truth(value->value))
      complain(out.place, "{% autoescape %} is supported with false only");
    out.bodies.push_back(body({"endautoescape"}));
  }

  // ---- targets of assignments ----

  void check_assignable(const std::string& name, Place place) const {
    for (const char* word : {"true", "false", "none", "True", "False", "None"})
      if (name == word) complain(place, "'", name, "' cannot be assigned to");
  }

  ExprPtr assigned(ExprPtr target) const {
    if (target->kind == E::tuple) {
      for (auto& part : target->parts) part = assigned(std::move(part));
      return target;
    }
    if (target->kind == E::namespace_attribute) return target;
    if (target->kind != E::name) complain(target->place, "this cannot be assigned to; expected a name");
    target->stored = true;
    return target;
  }

  static void mark_parameters(Expr& target) {
    target.parameter = true;
    for (auto& part : target.parts) mark_parameters(*part);
  }

  ExprPtr tuple_of_targets(bool in, bool namespaces) {
    const Place place = now().place;
    std::vector<ExprPtr> parts;
    bool several = false;
    while (!at_tuple_end() && !(in && is_name("in"))) {
      parts.push_back(primary(namespaces));
      if (!is_symbol(",")) break;
      several = true;
      take();
    }
    return tuple_of(std::move(parts), several, false, place);
  }

  // ---- expressions ----

  bool at_tuple_end() const {
    return now().kind == Kind::output_end || now().kind == Kind::block_end || is_symbol(")");
  }

  ExprPtr tuple_of(std::vector<ExprPtr> parts, bool several, bool parentheses, Place place) {
    if (!several && !parts.empty()) return std::move(parts.front());
    if (!several && !parentheses) unexpected("an expression");
    auto out = node(E::tuple, place);
    out->parts = std::move(parts);
    return finished(std::move(out));
  }

  ExprPtr tuple(bool conditional = true, std::string_view end = {}, bool parentheses = false) {
    const Place place = now().place;
    std::vector<ExprPtr> parts;
    bool several = false;
    while (!at_tuple_end() && (end.empty() || !is_name(end))) {
      parts.push_back(conditional ? expression() : either());
      if (!is_symbol(",")) break;
      several = true;
      take();
    }
    return tuple_of(std::move(parts), several, parentheses, place);
  }

  ExprPtr expression() {
    const Nested nested(*this, expression_depth_, kDeepestExpression);
    auto value = either();
    while (is_name("if")) {
      const Place place = take().place;
      auto test = either();
      auto other = skip_name("else") ? expression() : nullptr;
      value = node(E::conditional, place, std::move(test), std::move(value), std::move(other));
    }
    return value;
  }

  ExprPtr either() {
    auto left = both();
    while (is_name("or")) {
      const Place place = take().place;
      left = node(E::either, place, std::move(left), both());
    }
    return left;
  }

  ExprPtr both() {
    auto left = negation();
    while (is_name("and")) {
      const Place place = take().place;
      left = node(E::both, place, std::move(left), negation());
    }
    return left;
  }

  ExprPtr negation() {
    if (!is_name("not")) return comparison();
    const Nested nested(*this, expression_depth_, kDeepestExpression);
    const Place place = take().place;
    return node(E::negation, place, negation());
  }

  ExprPtr comparison() {
    const Place place = now().place;
    auto first = sum();
    ExprPtr out;
    const auto extend = [&](const std::string& op) {
      if (!out) out = node(E::compare, place, std::move(first));
      out->operators.push_back(op);
      out->parts.push_back(sum());
    };
    for (;;) {
      static const char* kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
      const auto* found =
          std::find_if(std::begin(kOperators), std::end(kOperators), [&](const char* op) { return is_symbol(op); });
      if (found != std::end(kOperators)) {
        take();
        extend(*found);
      } else if (skip_name("in")) {
        extend("in");
      } else if (is_name("not") && ahead().kind == Kind::name && ahead().text == "in") {
        take();
        take();
        extend("not in");
      } else {
        break;
      }
    }
    return out ? finished(std::move(out)) : std::move(first);
  }

  ExprPtr sum() {
    auto left = concat();
    while (is_symbol("+") || is_symbol("-")) {
      const Token op = take();
      left = node(op.text == "+" ? E::add : E::subtract, op.place, std::move(left), concat());
    }
    return left;
  }

  ExprPtr concat() {
    auto first = product();
    if (!is_symbol("~")) return first;
    auto out = node(E::concat, now().place, std::move(first));
    while (skip_symbol("~")) out->parts.push_back(product());
    return finished(std::move(out));
  }

  ExprPtr product() {
    auto left = power();
    for (;;) {
      const E kind = is_symbol("*")    ? E::multiply
                     : is_symbol("/")  ? E::divide
                     : is_symbol("//") ? E::floor_divide
                     : is_symbol("%")  ? E::modulo
                                       : E::name;
      if (kind == E::name) return left;
      const Place place = take().place;
      left = node(kind, place, std::move(left), power());
    }
  }

  ExprPtr power() {
    auto left = unary();
    while (is_symbol("**")) {
      const Place place = take().place;
      left = node(E::power, place, std::move(left), unary());
    }
    return left;
  }

  ExprPtr unary(bool with_filters = true) {
    const Nested nested(*this, expression_depth_, kDeepestExpression);
    ExprPtr out;
    if (is_symbol("-") || is_symbol("+")) {
      const Token sign = take();
      out = node(sign.text == "-" ? E::negative : E::positive, sign.place, unary(false));
    } else {
      out = primary(false);
    }
    out = postfix(std::move(out));
    return with_filters ? filters_and_tests(std::move(out)) : std::move(out);
  }

  ExprPtr primary(bool namespaces) {
    const Token token = now();
    if (token.kind == Kind::name) return name(namespaces);
    if (token.kind == Kind::text) {
      std::string text;
      while (now().kind == Kind::text) text += take().text;
      return constant(Value(std::move(text)), token.place);
    }
    if (token.kind == Kind::integer || token.kind == Kind::real) {
      take();
      return constant(token.kind == Kind::integer ? Value(token.integer) : Value(token.real), token.place);
    }
    if (skip_symbol("(")) {
      auto out = tuple(true, {}, /*parentheses=*/true);
      expect_symbol(")");
      return out;
    }
    if (is_symbol("[")) return list();
    if (is_symbol("{")) return dict();
    unexpected("an expression");
  }

  ExprPtr name(bool namespaces) {
    const Token token = take();
    if (token.text == "true" || token.text == "True") return constant(Value(true), token.place);
    if (token.text == "false" || token.text == "False") return constant(Value(false), token.place);
    if (token.text == "none" || token.text == "None") return constant(Value::None{}, token.place);
    const bool attribute = namespaces && skip_symbol(".");
    auto out = node(attribute ? E::namespace_attribute : E::name, token.place);
    out->name = token.text;
    if (attribute) out->attribute = expect_name();
    return out;
  }

  ExprPtr list() {
    auto out = node(E::list, take().place);
    while (!is_symbol("]")) {
      if (!out->parts.empty()) expect_symbol(",");
      if (is_symbol("]")) break;
      out->parts.push_back(expression());
    }
    expect_symbol("]");
    return finished(std::move(out));
  }

  ExprPtr dict() {
    auto out = node(E::dict, take().place);
    while (!is_symbol("}")) {
      if (!out->parts.empty()) expect_symbol(",");
      if (is_symbol("}")) break;
      out->parts.push_back(expression());
      expect_symbol(":");
      out->parts.push_back(expression());
    }
    expect_symbol("}");
    return finished(std::move(out));
  }

  ExprPtr postfix(ExprPtr out) {
    for (;;) {
      if (is_symbol(".")) out = attribute(std::move(out));
      else if (is_symbol("[")) out = item(std::move(out));
      else if (is_symbol("(")) out = call(std::move(out));
      else return out;
    }
  }

  ExprPtr filters_and_tests(ExprPtr out) {
    for (;;) {
      if (is_symbol("|")) out = filters(std::move(out));
      else if (is_name("is")) out = test(std::move(out));
      else if (is_symbol("(")) out = call(std::move(out));
      else return out;
    }
  }

  ExprPtr attribute(ExprPtr of) {
    const Place place = take().place;
    if (now().kind == Kind::integer) {
      const Token token = take();
      return node(E::item, place, std::move(of), constant(Value(token.integer), token.place));
    }
    if (now().kind != Kind::name) unexpected("a name or a number");
    auto out = node(E::attribute, place, std::move(of));
    out->name = take().text;
    return out;
  }

  ExprPtr item(ExprPtr of) {
    const Place place = take().place;
    std::vector<ExprPtr> keys;
    while (!is_symbol("]")) {
      if (!keys.empty()) expect_symbol(",");
      keys.push_back(key());
    }
    expect_symbol("]");
    if (keys.size() == 1) return node(E::item, place, std::move(of), std::move(keys.front()));
    for (const auto& one : keys)
      if (one->kind == E::slice) complain(place, "a slice among several keys");
    auto tuple = node(E::tuple, place);
    tuple->parts = std::move(keys);
    return node(E::item, place, std::move(of), finished(std::move(tuple)));
  }

  ExprPtr key() {
    const Place place = now().place;
    ExprPtr first, second, third;
    if (!is_symbol(":")) {
      first = expression();
      if (!is_symbol(":")) return first;
    }
    take();
    const auto is_end = [&] { return is_symbol("]") || is_symbol(",") || is_symbol(":"); };
    if (!is_end()) second = expression();
    if (skip_symbol(":") && !is_end()) third = expression();
    return node(E::slice, place, std::move(first), std::move(second), std::move(third));
  }

  CallArguments arguments() {
    CallArguments out;
    const Place place = now().place;
    expect_symbol("(");
    const auto ensure = [&](bool ok) {
      if (!ok) complain(place, "the arguments of this call are out of order");
    };
    for (bool comma = false; !is_symbol(")"); comma = true) {
      if (comma) {
        expect_symbol(",");
        if (is_symbol(")")) break;
      }
      if (skip_symbol("*")) {
        ensure(!out.list && !out.dict);
        out.list = expression();
      } else if (skip_symbol("**")) {
        ensure(!out.dict);
        out.dict = expression();
      } else if (now().kind == Kind::name && ahead().kind == Kind::symbol && ahead().text == "=") {
        ensure(!out.dict);
        const Token name = take();
        take();
        for (const auto& [other, value] : out.named)
          if (other == name.text) complain(name.place, "the argument '", name.text, "' is given twice");
        out.named.emplace_back(name.text, expression());
      } else {
        ensure(!out.list && !out.dict && out.named.empty());
        out.positional.push_back(expression());
      }
    }
    expect_symbol(")");
    return out;
  }

  ExprPtr call(ExprPtr function) {
    auto out = node(E::call, now().place, std::move(function));
    out->arguments = arguments();
    return finished(std::move(out));
  }

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_symbol(".")) name += "." + expect_name();
    return name;
  }

  ExprPtr filters(ExprPtr of, bool first = false) {
    while (first || is_symbol("|")) {
      if (!first) take();
      first = false;
      const Place place = now().place;
      const std::string name = dotted_name();
      auto out = node(E::filter, place, std::move(of));
      out->name = name;
      if (is_symbol("(")) out->arguments = arguments();
      of = finished(std::move(out));
    }
    return of;
  }

  ExprPtr test(ExprPtr of) {
    const Place place = take().place;
    const bool negated = skip_name("not");
    auto out = node(E::test, place, std::move(of));
    out->name = dotted_name();
    const bool opens = now().kind == Kind::name || now().kind == Kind::text || now().kind == Kind::integer ||
                       now().kind == Kind::real || is_symbol("[") || is_symbol("{");
    if (is_symbol("(")) {
      out->arguments = arguments();
    } else if (opens && !is_name("else") && !is_name("or") && !is_name("and")) {
      if (is_name("is")) complain(now().place, "tests cannot be chained with 'is'");
      out->arguments.positional.push_back(postfix(primary(false)));
    }
    out = finished(std::move(out));
    return negated ? node(E::negation, place, std::move(out)) : std::move(out);
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int statement_depth_ = 0, expression_depth_ = 0;
  bool has_generation_ = false;
};

}  // namespace

SyntaxTree parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace deeplora::jinja
