//===- JsonReader.h - JSON with bounds --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// nlohmann-json behind a depth limit, and fields read with errors that name
/// them. Objects keep the order of their keys, as Python's do.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_JSONREADER_H
#define RETORT_RUNTIME_TEXT_JSONREADER_H

#include "runtime/support/Status.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

using Json = nlohmann::ordered_json;

/// Deeper documents are refused: what walks them recurses.
constexpr int kMaxJsonDepth = 100;

/// Receives a document's events. Its functions return false to stop, after
/// calling fail(). Subclasses see every event and may keep some to themselves.
class JsonBuilder : public nlohmann::json_sax<Json> {
public:
  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_unsigned(number_unsigned_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t &) override {
    return value(v);
  }
  bool string(string_t &v) override { return value(std::move(v)); }
  bool binary(binary_t &) override { return fail("unexpected binary value"); }
  bool key(string_t &v) override;
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position, const std::string &lastToken,
                   const nlohmann::detail::exception &error) override;

  /// Parses `text`; afterwards root() is the document.
  Status parse(std::string_view text);
  Json &root() { return document; }

protected:
  bool fail(std::string message);
  /// The number of objects and arrays that are open.
  size_t depth() const { return stack.size(); }
  /// The key that the next value belongs to, at the innermost level.
  const std::string &pendingKey() const { return currentKey; }

private:
  bool value(Json v) { return place(std::move(v)) != nullptr; }
  Json *place(Json v);
  bool open(Json v);
  bool close();

  Json document;
  std::vector<Json *> stack;
  std::string currentKey;
  Status failure;
};

/// Parses a document of at most kMaxJsonDepth levels.
Result<Json> parseJson(std::string_view text);

/// "a number", "an object", ...: for messages.
const char *describeKind(const Json &value);

/// Reads the fields of one object; `where` is its path, for messages.
class FieldReader {
public:
  /// `object` must outlive the reader.
  static Result<FieldReader> create(const Json &object, std::string where);

  /// The field, or nullptr if it is missing or null.
  const Json *find(std::string_view name) const;
  /// A string field that must be there.
  Result<std::string> requireString(std::string_view name) const;
  /// An array field that must be there.
  Result<const Json *> requireArray(std::string_view name) const;
  /// A field that is `fallback` when missing or null.
  Result<bool> boolean(std::string_view name, bool fallback) const;
  /// A string field that is empty when missing or null.
  Result<std::string> string(std::string_view name) const;

  /// An error at field `name`: what was expected and the kind that was found.
  Status expected(std::string_view name, std::string_view what) const;
  /// An error at this object.
  Status error(Code code, const std::string &message) const;
  std::string pathOf(std::string_view name) const;

private:
  FieldReader(const Json &object, std::string where)
      : object(&object), where(std::move(where)) {}
  const Json *object;
  std::string where;
};

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_JSONREADER_H
