//===- TemplateParser.cpp - Template syntax -------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateAst.h"

#include <algorithm>

namespace retort::text::jinja {
namespace {

/// Nesting of brackets, operators and blocks; and the length of a chain of
/// postfix operators, each of which is a level of the tree.
constexpr int kMaxDepth = 120;

class Parser {
public:
  explicit Parser(std::vector<Token> tokens) : tokens(std::move(tokens)) {}

  Result<std::unique_ptr<SyntaxTree>> run() {
    tree = std::make_unique<SyntaxTree>();
    RETORT_RETURN_IF_ERROR(body(tree->body, {}));
    return std::move(tree);
  }

private:
  // Tokens.
  const Token &current() const { return tokens[at]; }
  const Token &ahead() const {
    return tokens[std::min(at + 1, tokens.size() - 1)];
  }
  void next() {
    if (at + 1 < tokens.size())
      ++at;
  }
  bool isOp(std::string_view op) const {
    return current().kind == Token::Operator && current().text == op;
  }
  bool isName(std::string_view name) const {
    return current().kind == Token::Name && current().text == name;
  }
  bool skipOp(std::string_view op) {
    if (!isOp(op))
      return false;
    next();
    return true;
  }
  bool skipName(std::string_view name) {
    if (!isName(name))
      return false;
    next();
    return true;
  }
  Status bad(const std::string &message) const {
    return Status::error(Code::InvalidData, "line " +
                                                std::to_string(current().line) +
                                                ": " + message);
  }
  Status expected(const std::string &what) const {
    return bad("expected " + what + ", found " + describe(current()));
  }
  Status expectOp(std::string_view op) {
    return skipOp(op) ? Status::ok() : expected("'" + std::string(op) + "'");
  }
  Status expectBlockEnd() {
    if (current().kind != Token::BlockEnd)
      return expected("'%}'");
    next();
    return Status::ok();
  }
  Result<std::string> expectName() {
    if (current().kind != Token::Name)
      return expected("a name");
    std::string name = current().text;
    next();
    return name;
  }

  // Nodes.
  Expr *make(Expr::Kind kind, std::vector<const Expr *> kids = {}) {
    Expr &e = tree->exprs.emplace_back();
    e.kind = kind;
    e.line = current().line;
    e.kids = std::move(kids);
    return &e;
  }
  Stmt *makeStmt(Stmt::Kind kind) {
    Stmt &s = tree->stmts.emplace_back();
    s.kind = kind;
    s.line = current().line;
    return &s;
  }

  struct DepthGuard {
    int &depth;
    explicit DepthGuard(int &depth) : depth(depth) { ++depth; }
    ~DepthGuard() { --depth; }
  };
  Status tooDeep() const { return bad("the template nests too deeply"); }

  // Statements.

  /// Parses up to a block whose name is in `ends`, and leaves the parser
  /// behind that name. An empty list means the end of the template.
  Status body(Body &out, std::vector<std::string_view> ends) {
    DepthGuard guard(depth);
    if (depth > kMaxDepth)
      return tooDeep();
    for (;;) {
      switch (current().kind) {
      case Token::End:
        if (ends.empty())
          return Status::ok();
        return expected("'" + std::string(ends.back()) + "'");
      case Token::Text: {
        Stmt *s = makeStmt(Stmt::Text);
        s->text = current().text;
        out.push_back(s);
        next();
        break;
      }
      case Token::PrintBegin: {
        Stmt *s = makeStmt(Stmt::Print);
        next();
        RETORT_ASSIGN_OR_RETURN(s->expr, tuple());
        if (current().kind != Token::PrintEnd)
          return expected("'}}'");
        next();
        out.push_back(s);
        break;
      }
      default: {
        next();
        RETORT_ASSIGN_OR_RETURN(std::string name, expectName());
        if (std::find(ends.begin(), ends.end(), name) != ends.end()) {
          endName = name;
          return Status::ok();
        }
        RETORT_RETURN_IF_ERROR(statement(name, out));
        break;
      }
      }
    }
  }

  /// A body whose only end is `end`, with the end tag.
  Status bodyTo(Body &out, std::string_view end) {
    RETORT_RETURN_IF_ERROR(expectBlockEnd());
    RETORT_RETURN_IF_ERROR(body(out, {end}));
    return expectBlockEnd();
  }

  Status statement(const std::string &name, Body &out) {
    if (name == "if")
      return ifStatement(out);
    if (name == "for")
      return forStatement(out);
    if (name == "set")
      return setStatement(out);
    if (name == "macro")
      return macroStatement(out);
    if (name == "call")
      return callStatement(out);
    if (name == "with")
      return withStatement(out);
    if (name == "filter") {
      Stmt *s = makeStmt(Stmt::FilterBlock);
      RETORT_ASSIGN_OR_RETURN(s->expr, filters(nullptr, true));
      RETORT_RETURN_IF_ERROR(bodyTo(s->body, "endfilter"));
      out.push_back(s);
      return Status::ok();
    }
    if (name == "generation") {
      Stmt *s = makeStmt(Stmt::Scope);
      RETORT_RETURN_IF_ERROR(bodyTo(s->body, "endgeneration"));
      out.push_back(s);
      return Status::ok();
    }
    if (name == "break" || name == "continue") {
      if (loops == 0)
        return bad("'" + name + "' outside of a loop");
      out.push_back(makeStmt(name == "break" ? Stmt::Break : Stmt::Continue));
      return expectBlockEnd();
    }
    return bad("unknown tag '" + name + "'");
  }

  Status ifStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::If);
    out.push_back(s);
    for (;;) {
      Body branch;
      RETORT_ASSIGN_OR_RETURN(const Expr *condition, tupleOf(false));
      RETORT_RETURN_IF_ERROR(expectBlockEnd());
      RETORT_RETURN_IF_ERROR(body(branch, {"elif", "else", "endif"}));
      s->branches.emplace_back(condition, std::move(branch));
      if (endName == "elif")
        continue;
      if (endName == "else")
        return bodyTo(s->elseBody, "endif");
      return expectBlockEnd();
    }
  }

  Status forStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::For);
    out.push_back(s);
    RETORT_ASSIGN_OR_RETURN(Target target, targetList());
    s->targets.push_back(std::move(target));
    if (!skipName("in"))
      return expected("'in'");
    RETORT_ASSIGN_OR_RETURN(s->expr, tupleOf(false));
    if (skipName("if")) {
      RETORT_ASSIGN_OR_RETURN(s->filter, expression());
    }
    if (isName("recursive"))
      return bad("'recursive' loops are not supported");
    RETORT_RETURN_IF_ERROR(expectBlockEnd());
    ++loops;
    Status status = body(s->body, {"else", "endfor"});
    --loops;
    RETORT_RETURN_IF_ERROR(std::move(status));
    if (endName == "else")
      return bodyTo(s->elseBody, "endfor");
    return expectBlockEnd();
  }

  Status setStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::Set);
    out.push_back(s);
    RETORT_ASSIGN_OR_RETURN(Target target, targetList());
    s->targets.push_back(std::move(target));
    if (skipOp("=")) {
      RETORT_ASSIGN_OR_RETURN(s->expr, tuple());
      return expectBlockEnd();
    }
    s->kind = Stmt::SetBlock;
    if (isOp("|")) {
      RETORT_ASSIGN_OR_RETURN(s->expr, filters(nullptr, false));
    }
    return bodyTo(s->body, "endset");
  }

  Status parameters(std::vector<Parameter> &out) {
    RETORT_RETURN_IF_ERROR(expectOp("("));
    while (!skipOp(")")) {
      if (!out.empty())
        RETORT_RETURN_IF_ERROR(expectOp(","));
      if (skipOp(")"))
        return Status::ok();
      Parameter p;
      RETORT_ASSIGN_OR_RETURN(p.name, expectName());
      if (skipOp("=")) {
        RETORT_ASSIGN_OR_RETURN(p.fallback, expression());
      } else if (!out.empty() && out.back().fallback) {
        return bad("parameter '" + p.name +
                   "' without a default follows one with a default");
      }
      out.push_back(std::move(p));
    }
    return Status::ok();
  }

  Status macroStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::Macro);
    out.push_back(s);
    RETORT_ASSIGN_OR_RETURN(s->text, expectName());
    RETORT_RETURN_IF_ERROR(parameters(s->parameters));
    return isolatedBody(s->body, "endmacro");
  }

  Status callStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::CallBlock);
    out.push_back(s);
    if (isOp("("))
      RETORT_RETURN_IF_ERROR(parameters(s->parameters));
    RETORT_ASSIGN_OR_RETURN(s->expr, expression());
    if (s->expr->kind != Expr::Call)
      return bad("expected a call");
    return isolatedBody(s->body, "endcall");
  }

  /// A body that runs as a function, out of which a loop can't be left.
  Status isolatedBody(Body &out, std::string_view end) {
    int outer = std::exchange(loops, 0);
    Status status = bodyTo(out, end);
    loops = outer;
    return status;
  }

  Status withStatement(Body &out) {
    Stmt *s = makeStmt(Stmt::With);
    out.push_back(s);
    while (current().kind != Token::BlockEnd) {
      if (!s->targets.empty())
        RETORT_RETURN_IF_ERROR(expectOp(","));
      Target target;
      RETORT_ASSIGN_OR_RETURN(target.name, expectName());
      s->targets.push_back(std::move(target));
      RETORT_RETURN_IF_ERROR(expectOp("="));
      RETORT_ASSIGN_OR_RETURN(const Expr *value, expression());
      s->values.push_back(value);
    }
    return bodyTo(s->body, "endwith");
  }

  Result<Target> oneTarget() {
    DepthGuard guard(depth);
    if (depth > kMaxDepth)
      return tooDeep();
    if (skipOp("(")) {
      RETORT_ASSIGN_OR_RETURN(Target inner, targetList());
      RETORT_RETURN_IF_ERROR(expectOp(")"));
      return inner;
    }
    Target target;
    RETORT_ASSIGN_OR_RETURN(target.name, expectName());
    constexpr std::string_view kReserved[] = {"true", "false", "none",
                                              "True", "False", "None"};
    for (std::string_view word : kReserved)
      if (target.name == word)
        return bad("cannot assign to '" + target.name + "'");
    if (skipOp(".")) {
      RETORT_ASSIGN_OR_RETURN(target.attribute, expectName());
    }
    return target;
  }

  Result<Target> targetList() {
    RETORT_ASSIGN_OR_RETURN(Target first, oneTarget());
    if (!isOp(","))
      return first;
    Target tuple;
    tuple.parts.push_back(std::move(first));
    while (skipOp(",")) {
      if (current().kind != Token::Name && !isOp("("))
        break;
      if (isName("in"))
        break;
      RETORT_ASSIGN_OR_RETURN(Target part, oneTarget());
      tuple.parts.push_back(std::move(part));
    }
    return tuple;
  }

  // Expressions, from the loosest operator to the tightest.
  using ExprResult = Result<const Expr *>;

  ExprResult tuple() { return tupleOf(true); }

  /// One expression, or a tuple without parentheses.
  ExprResult tupleOf(bool conditional) {
    auto element = [&] { return conditional ? expression() : orExpr(); };
    RETORT_ASSIGN_OR_RETURN(const Expr *first, element());
    if (!isOp(","))
      return first;
    Expr *e = make(Expr::TupleLiteral, {first});
    while (skipOp(",")) {
      if (current().kind == Token::PrintEnd ||
          current().kind == Token::BlockEnd || isOp(")"))
        break;
      RETORT_ASSIGN_OR_RETURN(const Expr *item, element());
      e->kids.push_back(item);
    }
    return e;
  }

  ExprResult expression() {
    DepthGuard guard(depth);
    if (depth > kMaxDepth)
      return tooDeep();
    RETORT_ASSIGN_OR_RETURN(const Expr *value, orExpr());
    while (skipName("if")) {
      if (++chain > kMaxDepth)
        return tooDeep();
      Expr *e = make(Expr::Condition);
      RETORT_ASSIGN_OR_RETURN(const Expr *condition, orExpr());
      const Expr *otherwise = nullptr;
      if (skipName("else")) {
        RETORT_ASSIGN_OR_RETURN(otherwise, expression());
      }
      e->kids = {condition, value, otherwise};
      value = e;
    }
    chain = 0;
    return value;
  }

  ExprResult orExpr() {
    RETORT_ASSIGN_OR_RETURN(const Expr *first, andExpr());
    if (!isName("or"))
      return first;
    Expr *e = make(Expr::Or, {first});
    while (skipName("or")) {
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, andExpr());
      e->kids.push_back(kid);
    }
    return e;
  }

  ExprResult andExpr() {
    RETORT_ASSIGN_OR_RETURN(const Expr *first, notExpr());
    if (!isName("and"))
      return first;
    Expr *e = make(Expr::And, {first});
    while (skipName("and")) {
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, notExpr());
      e->kids.push_back(kid);
    }
    return e;
  }

  ExprResult notExpr() {
    if (!isName("not"))
      return compare();
    DepthGuard guard(depth);
    if (depth > kMaxDepth)
      return tooDeep();
    Expr *e = make(Expr::Not);
    next();
    RETORT_ASSIGN_OR_RETURN(const Expr *kid, notExpr());
    e->kids.push_back(kid);
    return e;
  }

  ExprResult compare() {
    RETORT_ASSIGN_OR_RETURN(const Expr *first, sum());
    Expr *e = nullptr;
    for (;;) {
      std::string op;
      if (current().kind == Token::Operator &&
          (isOp("==") || isOp("!=") || isOp("<") || isOp("<=") || isOp(">") ||
           isOp(">=")))
        op = current().text;
      else if (isName("in"))
        op = "in";
      else if (isName("not") && ahead().kind == Token::Name &&
               ahead().text == "in")
        op = "not in";
      else
        return e ? e : first;
      if (!e)
        e = make(Expr::Compare, {first});
      next();
      if (op == "not in")
        next();
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, sum());
      e->ops.push_back(op);
      e->kids.push_back(kid);
    }
  }

  /// Operators of one level, which join from left to right.
  template <typename Operand>
  ExprResult leftChain(std::initializer_list<std::string_view> ops,
                       Operand operand) {
    RETORT_ASSIGN_OR_RETURN(const Expr *first, operand());
    Expr *e = nullptr;
    for (;;) {
      if (current().kind != Token::Operator ||
          std::find(ops.begin(), ops.end(), current().text) == ops.end())
        return e ? e : first;
      if (!e)
        e = make(Expr::Chain, {first});
      e->ops.push_back(current().text);
      next();
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, operand());
      e->kids.push_back(kid);
    }
  }

  ExprResult sum() {
    return leftChain({"+", "-"}, [&] { return concat(); });
  }

  ExprResult concat() {
    RETORT_ASSIGN_OR_RETURN(const Expr *first, product());
    if (!isOp("~"))
      return first;
    Expr *e = make(Expr::Concat, {first});
    while (skipOp("~")) {
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, product());
      e->kids.push_back(kid);
    }
    return e;
  }

  ExprResult product() {
    return leftChain({"*", "/", "//", "%"}, [&] { return power(); });
  }

  ExprResult power() {
    return leftChain({"**"}, [&] { return unary(true); });
  }

  ExprResult unary(bool withFilters) {
    DepthGuard guard(depth);
    if (depth > kMaxDepth)
      return tooDeep();
    const Expr *node = nullptr;
    if (isOp("-") || isOp("+")) {
      Expr *e = make(isOp("-") ? Expr::Negate : Expr::Plus);
      next();
      RETORT_ASSIGN_OR_RETURN(const Expr *kid, unary(false));
      e->kids.push_back(kid);
      node = e;
    } else {
      RETORT_ASSIGN_OR_RETURN(node, primary());
    }
    RETORT_ASSIGN_OR_RETURN(node, postfix(node));
    return withFilters ? filters(node, false) : ExprResult(node);
  }

  ExprResult constant(Value value) {
    Expr *e = make(Expr::Constant);
    e->constant = std::move(value);
    next();
    return e;
  }

  ExprResult primary() {
    const Token &token = current();
    switch (token.kind) {
    case Token::Name:
      if (token.text == "true" || token.text == "True")
        return constant(Value(true));
      if (token.text == "false" || token.text == "False")
        return constant(Value(false));
      if (token.text == "none" || token.text == "None")
        return constant(Value(nullptr));
      {
        Expr *e = make(Expr::Name);
        e->name = token.text;
        next();
        return e;
      }
    case Token::String: {
      std::string text = token.text;
      while (ahead().kind == Token::String) {
        next();
        text += current().text;
      }
      return constant(Value(std::move(text)));
    }
    case Token::Integer:
      return constant(Value(token.integer));
    case Token::Float:
      return constant(Value(token.number));
    default:
      break;
    }
    if (isOp("("))
      return parenthesis();
    if (isOp("["))
      return listLiteral();
    if (isOp("{"))
      return dictLiteral();
    return expected("an expression");
  }

  ExprResult parenthesis() {
    next();
    if (isOp(")")) {
      Expr *e = make(Expr::TupleLiteral);
      next();
      return e;
    }
    RETORT_ASSIGN_OR_RETURN(const Expr *inner, tuple());
    RETORT_RETURN_IF_ERROR(expectOp(")"));
    return inner;
  }

  ExprResult listLiteral() {
    Expr *e = make(Expr::ListLiteral);
    next();
    while (!skipOp("]")) {
      if (!e->kids.empty()) {
        RETORT_RETURN_IF_ERROR(expectOp(","));
        if (skipOp("]"))
          break;
      }
      RETORT_ASSIGN_OR_RETURN(const Expr *item, expression());
      e->kids.push_back(item);
    }
    return e;
  }

  ExprResult dictLiteral() {
    Expr *e = make(Expr::DictLiteral);
    next();
    while (!skipOp("}")) {
      if (!e->kids.empty()) {
        RETORT_RETURN_IF_ERROR(expectOp(","));
        if (skipOp("}"))
          break;
      }
      RETORT_ASSIGN_OR_RETURN(const Expr *key, expression());
      RETORT_RETURN_IF_ERROR(expectOp(":"));
      RETORT_ASSIGN_OR_RETURN(const Expr *value, expression());
      e->kids.push_back(key);
      e->kids.push_back(value);
    }
    return e;
  }

  ExprResult postfix(const Expr *node) {
    for (int length = 0;; ++length) {
      if (length > kMaxDepth)
        return tooDeep();
      if (isOp(".") || isOp("[")) {
        RETORT_ASSIGN_OR_RETURN(node, subscript(node));
      } else if (isOp("(")) {
        RETORT_ASSIGN_OR_RETURN(node, call(node));
      } else {
        return node;
      }
    }
  }

  ExprResult subscript(const Expr *node) {
    if (skipOp(".")) {
      if (current().kind == Token::Integer) {
        Expr *e = make(Expr::Item, {node});
        RETORT_ASSIGN_OR_RETURN(const Expr *index,
                                constant(Value(current().integer)));
        e->kids.push_back(index);
        return e;
      }
      Expr *e = make(Expr::Attribute, {node});
      RETORT_ASSIGN_OR_RETURN(e->name, expectName());
      return e;
    }
    next();
    Expr *e = make(Expr::Item, {node});
    const Expr *parts[3] = {nullptr, nullptr, nullptr};
    int count = 0;
    bool isSlice = false;
    for (; count < 3; ++count) {
      if (!isOp(":") && !isOp("]")) {
        RETORT_ASSIGN_OR_RETURN(parts[count], expression());
      }
      if (!isOp(":"))
        break;
      isSlice = true;
      if (count == 2)
        break;
      next();
    }
    RETORT_RETURN_IF_ERROR(expectOp("]"));
    if (isSlice) {
      e->kind = Expr::Slice;
      e->kids.insert(e->kids.end(), {parts[0], parts[1], parts[2]});
      return e;
    }
    if (!parts[0])
      return bad("expected an index");
    e->kids.push_back(parts[0]);
    return e;
  }

  ExprResult call(const Expr *callee) {
    Expr *e = make(Expr::Call, {callee});
    RETORT_RETURN_IF_ERROR(arguments(e->arguments));
    return e;
  }

  Status arguments(std::vector<Argument> &out) {
    RETORT_RETURN_IF_ERROR(expectOp("("));
    bool keywords = false;
    while (!skipOp(")")) {
      if (!out.empty()) {
        RETORT_RETURN_IF_ERROR(expectOp(","));
        if (skipOp(")"))
          break;
      }
      Argument a;
      if (skipOp("*")) {
        a.kind = Argument::Star;
      } else if (skipOp("**")) {
        a.kind = Argument::DoubleStar;
        keywords = true;
      } else if (current().kind == Token::Name &&
                 ahead().kind == Token::Operator && ahead().text == "=") {
        a.kind = Argument::Keyword;
        a.name = current().text;
        keywords = true;
        next();
        next();
      } else if (keywords) {
        return bad("a positional argument follows a keyword argument");
      }
      RETORT_ASSIGN_OR_RETURN(a.value, expression());
      out.push_back(std::move(a));
    }
    return Status::ok();
  }

  /// Filters, tests and calls behind a node. `node` is null for the filters of
  /// a block, and `bare` says that the first has no bar before it.
  ExprResult filters(const Expr *node, bool bare) {
    for (int length = 0;; ++length) {
      if (length > kMaxDepth)
        return tooDeep();
      if (bare || isOp("|")) {
        if (!bare)
          next();
        bare = false;
        Expr *e = make(Expr::Filter, {node});
        RETORT_ASSIGN_OR_RETURN(e->name, dottedName());
        if (!isFilter(e->name))
          return bad("unknown filter '" + e->name + "'");
        if (isOp("("))
          RETORT_RETURN_IF_ERROR(arguments(e->arguments));
        node = e;
      } else if (node && isName("is")) {
        RETORT_ASSIGN_OR_RETURN(node, test(node));
      } else if (node && node->kind != Expr::Constant && isOp("(")) {
        RETORT_ASSIGN_OR_RETURN(node, call(node));
      } else {
        return node;
      }
    }
  }

  Result<std::string> dottedName() {
    RETORT_ASSIGN_OR_RETURN(std::string name, expectName());
    while (isOp(".") && ahead().kind == Token::Name) {
      next();
      name += '.' + current().text;
      next();
    }
    return name;
  }

  ExprResult test(const Expr *node) {
    next();
    bool negated = skipName("not");
    Expr *e = make(Expr::Test, {node});
    RETORT_ASSIGN_OR_RETURN(e->name, dottedName());
    if (!isTest(e->name))
      return bad("unknown test '" + e->name + "'");
    const Token &t = current();
    bool operand = t.kind == Token::String || t.kind == Token::Integer ||
                   t.kind == Token::Float || isOp("[") || isOp("{") ||
                   (t.kind == Token::Name && t.text != "else" &&
                    t.text != "or" && t.text != "and" && t.text != "if" &&
                    t.text != "not" && t.text != "in");
    if (isOp("(")) {
      RETORT_RETURN_IF_ERROR(arguments(e->arguments));
    } else if (operand) {
      if (isName("is"))
        return bad("tests with 'is' cannot be chained");
      Argument a;
      RETORT_ASSIGN_OR_RETURN(const Expr *value, primary());
      RETORT_ASSIGN_OR_RETURN(a.value, postfix(value));
      e->arguments.push_back(std::move(a));
    }
    if (!negated)
      return e;
    return make(Expr::Not, {e});
  }

  std::vector<Token> tokens;
  size_t at = 0;
  std::unique_ptr<SyntaxTree> tree;
  std::string endName; ///< the name of the tag that ended the last body
  int depth = 0;
  int chain = 0;
  int loops = 0;
};

} // namespace

Result<std::unique_ptr<SyntaxTree>> parseTemplate(std::string_view source) {
  RETORT_ASSIGN_OR_RETURN(std::vector<Token> tokens, tokenizeTemplate(source));
  return Parser(std::move(tokens)).run();
}

} // namespace retort::text::jinja
