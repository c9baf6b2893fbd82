//===- Template.h - Chat templates ------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The template language of Hugging Face chat templates (Jinja, with the
/// settings, filters and globals that they are rendered with), in a bounded
/// interpreter: a template sees its inputs and nothing else, and can't take
/// more steps, memory or recursion than its limits.
///
/// Not supported, as errors naming it: template inheritance and inclusion,
/// recursive loops, `loop.changed`, integers of more than 64 bits.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_TEMPLATE_H
#define RETORT_RUNTIME_TEXT_TEMPLATE_H

#include "runtime/support/Status.h"

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace retort::text {

/// What one rendering may use. Chats of thousands of messages stay far below.
struct TemplateLimits {
  uint64_t steps = 5'000'000;    ///< less than a second
  size_t outputBytes = 32 << 20; ///< of the output, and of any string
  int depth = 400;               ///< nested calls, blocks and expressions
};

/// A parsed template. Immutable, so that any number of threads can render.
class Template {
public:
  /// Parses `source`. Errors name the line.
  static Result<Template> parse(std::string_view source);

  Template(Template &&) noexcept;
  Template &operator=(Template &&) noexcept;
  ~Template();

  /// Renders with the members of `inputs` as variables. `now` is what
  /// `strftime_now` tells, so that rendering depends on nothing else. Errors,
  /// those that the template raises included, name the line.
  Result<std::string> render(const nlohmann::ordered_json &inputs,
                             const std::tm &now,
                             const TemplateLimits &limits = {}) const;

private:
  struct Impl;
  explicit Template(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_TEMPLATE_H
