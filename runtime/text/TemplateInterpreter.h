//===- TemplateInterpreter.h - Running templates ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Walks the syntax tree of a template.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEMPLATEINTERPRETER_H
#define RETORT_RUNTIME_TEXT_TEMPLATEINTERPRETER_H

#include "runtime/text/Template.h"
#include "runtime/text/TemplateRuntime.h"

#include <ctime>

namespace retort::text::jinja {

/// Where a loop stands.
struct LoopState {
  const std::vector<Value> *items;
  size_t index;
  int depth; ///< 1 for the outermost loop
};

/// The variables of a block. Macros keep a pointer to the scope that they are
/// defined in, so scopes live until the rendering ends.
struct Scope {
  Scope *parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
  const LoopState *loop = nullptr;
  bool captured = false; ///< a macro refers to it
  Value *find(std::string_view name);
  void set(std::string_view name, Value value);
};

class Interpreter {
public:
  Interpreter(const TemplateLimits &limits, const std::tm &now)
      : limits(limits), now(now), budget(limits.steps, limits.outputBytes) {}
  ~Interpreter();

  Result<std::string> run(const SyntaxTree &tree, const Dict &inputs);

private:
  enum class Flow { Next, Break, Continue };

  // Statements.
  Result<Flow> execute(const Body &body);
  Result<Flow> execute(const Stmt &stmt);
  Result<Flow> executeIf(const Stmt &stmt);
  Result<Flow> executeFor(const Stmt &stmt);
  Result<Flow> executeWith(const Stmt &stmt);
  Status executeSet(const Stmt &stmt);
  Status executeCallBlock(const Stmt &stmt);
  Status executeFilterBlock(const Stmt &stmt);
  Status assign(const Target &target, const Value &value);
  Status write(std::string_view text);
  /// Runs a body in a scope of its own and returns what it writes.
  Result<std::string> capture(const Body &body);

  // Expressions.
  ValueResult evaluate(const Expr *expr);
  ValueResult evaluateNode(const Expr &expr);
  ValueResult evaluateChain(const Expr &expr);
  ValueResult evaluateConcat(const Expr &expr);
  ValueResult evaluateCompare(const Expr &expr);
  ValueResult evaluateDict(const Expr &expr);
  ValueResult evaluateAttribute(const Expr &expr);
  ValueResult evaluateCall(const Expr &expr);
  ValueResult evaluateFilter(const Expr &expr, Value value);
  Result<Arguments> evaluateArguments(const std::vector<Argument> &arguments);
  ValueResult lookUp(const std::string &name);
  Value loopAttribute(const LoopState &loop, std::string_view name);
  ValueResult loopObject(const LoopState &loop);
  const LoopState *currentLoop() const;

  // Calls.
  ValueResult call(const Value &callee, Arguments args);
  ValueResult callMacro(const Callable &macro, Arguments args);
  ValueResult callGlobal(const std::string &name, const Arguments &args);
  ValueResult range(const Arguments &args);
  ValueResult timeNow(const Arguments &args);
  Value makeMacro(const Stmt &stmt, std::string name);

  Scope *pushScope(Scope *parent);
  void popScope(Scope *previous);
  Status atLine(Status status, int line);

  const TemplateLimits &limits;
  const std::tm &now;
  Budget budget;
  Scope *scope = nullptr;
  std::vector<std::unique_ptr<Scope>> stack; ///< scopes that are open
  std::vector<std::unique_ptr<Scope>> kept;  ///< closed, but captured
  std::vector<NamespacePtr> namespaces;
  std::string output;
  int depth = 0;
  int loopDepth = 0;
  bool located = false; ///< the error under way names its line already
};

} // namespace retort::text::jinja

#endif // RETORT_RUNTIME_TEXT_TEMPLATEINTERPRETER_H
