//===- Template.cpp - Chat templates --------------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Template.h"

#include "runtime/text/TemplateInterpreter.h"

namespace retort::text {

struct Template::Impl {
  std::unique_ptr<jinja::SyntaxTree> tree;
};

Template::Template(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Template::Template(Template &&) noexcept = default;
Template &Template::operator=(Template &&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source) {
  constexpr size_t kMaxSource = 4 << 20;
  if (source.size() > kMaxSource)
    return Status::error(Code::InvalidData, "expected a template of at most " +
                                                std::to_string(kMaxSource) +
                                                " bytes, found " +
                                                std::to_string(source.size()));
  auto impl = std::make_unique<Impl>();
  RETORT_ASSIGN_OR_RETURN(impl->tree, jinja::parseTemplate(source));
  return Template(std::move(impl));
}

Result<std::string> Template::render(const nlohmann::ordered_json &inputs,
                                     const std::tm &now,
                                     const TemplateLimits &limits) const {
  RETORT_ASSIGN_OR_RETURN(jinja::Value values, jinja::fromJson(inputs));
  if (!values.isDict())
    return Status::error(Code::InvalidArgument,
                         std::string("template inputs: expected an object, "
                                     "found ") +
                             describeKind(inputs));
  jinja::Interpreter interpreter(limits, now);
  return interpreter.run(*impl->tree, values.asDict());
}

} // namespace retort::text
