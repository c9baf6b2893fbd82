//===- TemplateAst.h - Parsed templates -------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Tokens and syntax trees of the template language. Nodes belong to the
/// SyntaxTree and point to each other freely, so that freeing a deep tree does
/// not recurse.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEMPLATEAST_H
#define RETORT_RUNTIME_TEXT_TEMPLATEAST_H

#include "runtime/text/TemplateValue.h"

#include <deque>

namespace retort::text::jinja {

struct Token {
  enum Kind {
    Text,       ///< output between tags
    PrintBegin, ///< `{{`
    PrintEnd,
    BlockBegin, ///< `{%`
    BlockEnd,
    Name,
    String,
    Integer,
    Float,
    Operator,
    End,
  } kind = End;
  std::string text; ///< the decoded content of Text and String
  int line = 1;
  int64_t integer = 0;
  double number = 0;
};

/// How messages call a token.
std::string describe(const Token &token);

/// Splits a template into tokens, with `trim_blocks` and `lstrip_blocks` on,
/// as Hugging Face sets them.
Result<std::vector<Token>> tokenizeTemplate(std::string_view source);

struct Expr;

struct Argument {
  enum Kind { Positional, Keyword, Star, DoubleStar } kind = Positional;
  std::string name;
  const Expr *value = nullptr;
};

struct Expr {
  enum Kind {
    Constant,
    Name,
    ListLiteral,
    TupleLiteral,
    DictLiteral, ///< kids: key, value, key, value, ...
    Attribute,   ///< kids[0].name
    Item,        ///< kids[0][kids[1]]
    Slice,       ///< kids[0][kids[1]:kids[2]:kids[3]], absent ones are null
    Call,        ///< kids[0](arguments)
    Filter,      ///< kids[0] | name(arguments)
    Test,        ///< kids[0] is name(arguments)
    Not,
    Negate,
    Plus,
    Chain,   ///< kids[0] ops[0] kids[1] ops[1] ...: one level, left to right
    Concat,  ///< kids[0] ~ kids[1] ~ ...
    Compare, ///< kids[0] ops[0] kids[1] and kids[1] ops[1] kids[2] ...
    And,
    Or,
    Condition, ///< kids[1] if kids[0] else kids[2], which may be null
  } kind = Constant;
  int line = 1;
  std::string name;
  Value constant;
  std::vector<const Expr *> kids;
  std::vector<std::string> ops;
  std::vector<Argument> arguments;
};

/// What `set` and `for` assign to: a name, a namespace's attribute, or a
/// tuple of targets.
struct Target {
  std::string name;
  std::string attribute;
  std::vector<Target> parts; ///< not empty for a tuple
};

struct Stmt;
using Body = std::vector<const Stmt *>;

struct Parameter {
  std::string name;
  const Expr *fallback = nullptr;
};

struct Stmt {
  enum Kind {
    Text,
    Print,
    If,
    For,
    Set,
    SetBlock,
    Macro,
    CallBlock,
    FilterBlock,
    With,
    Scope, ///< `generation`
    Break,
    Continue,
  } kind = Text;
  int line = 1;
  std::string text;                 ///< output, or a macro's name
  const Expr *expr = nullptr;       ///< printed, assigned, iterated or called
  const Expr *filter = nullptr;     ///< of a loop
  std::vector<Target> targets;      ///< of `set`, `for` and `with`
  std::vector<const Expr *> values; ///< of `with`
  std::vector<std::pair<const Expr *, Body>> branches; ///< of `if`
  std::vector<Parameter> parameters;
  Body body;
  Body elseBody;
};

struct SyntaxTree {
  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;
  Body body;
};

/// Parses a template. Errors name the line.
Result<std::unique_ptr<SyntaxTree>> parseTemplate(std::string_view source);

/// True for the names that filters() and tests() know.
bool isFilter(std::string_view name);
bool isTest(std::string_view name);

} // namespace retort::text::jinja

#endif // RETORT_RUNTIME_TEXT_TEMPLATEAST_H
