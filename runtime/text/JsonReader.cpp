//===- JsonReader.cpp - JSON with bounds ----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/JsonReader.h"

namespace retort::text {

bool JsonBuilder::fail(std::string message) {
  failure = Status::error(Code::InvalidData, std::move(message));
  return false;
}

bool JsonBuilder::key(string_t &v) {
  currentKey = std::move(v);
  return true;
}

Json *JsonBuilder::place(Json v) {
  if (stack.empty()) {
    document = std::move(v);
    return &document;
  }
  Json &parent = *stack.back();
  if (parent.is_array()) {
    parent.push_back(std::move(v));
    return &parent.back();
  }
  // Python keeps the last of several equal keys, in the place of the first.
  Json &slot = parent[currentKey];
  slot = std::move(v);
  return &slot;
}

bool JsonBuilder::open(Json v) {
  if (stack.size() >= kMaxJsonDepth)
    return fail("expected at most " + std::to_string(kMaxJsonDepth) +
                " levels of nesting, found more");
  stack.push_back(place(std::move(v)));
  return true;
}

bool JsonBuilder::close() {
  stack.pop_back();
  return true;
}

bool JsonBuilder::parse_error(size_t position, const std::string &lastToken,
                              const nlohmann::detail::exception &error) {
  std::string what = error.what();
  // The library's prefix repeats the position in its own form.
  if (size_t colon = what.find(": "); colon != std::string::npos)
    what = what.substr(colon + 2);
  constexpr size_t kLongest = 200;
  if (what.size() > kLongest)
    what = what.substr(0, kLongest);
  return fail("byte offset " + std::to_string(position) +
              ": malformed JSON: " + what);
}

Status JsonBuilder::parse(std::string_view text) {
  try {
    bool finished =
        Json::sax_parse(text.data(), text.data() + text.size(), this);
    if (!finished && failure.isOk())
      (void)fail("malformed JSON");
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory, "no memory for the document");
  } catch (const nlohmann::json::exception &error) {
    (void)fail(std::string("malformed JSON: ") + error.what());
  }
  return std::move(failure);
}

Result<Json> parseJson(std::string_view text) {
  JsonBuilder builder;
  RETORT_RETURN_IF_ERROR(builder.parse(text));
  return std::move(builder.root());
}

const char *describeKind(const Json &value) {
  switch (value.type()) {
  case Json::value_t::null:
    return "null";
  case Json::value_t::object:
    return "an object";
  case Json::value_t::array:
    return "an array";
  case Json::value_t::string:
    return "a string";
  case Json::value_t::boolean:
    return "a boolean";
  default:
    return "a number";
  }
}

Result<FieldReader> FieldReader::create(const Json &object, std::string where) {
  if (!object.is_object())
    return Status::error(Code::InvalidData, where +
                                                ": expected an object, found " +
                                                describeKind(object));
  return FieldReader(object, std::move(where));
}

const Json *FieldReader::find(std::string_view name) const {
  auto it = object->find(std::string(name));
  return it == object->end() || it->is_null() ? nullptr : &*it;
}

std::string FieldReader::pathOf(std::string_view name) const {
  return where.empty() ? std::string(name) : where + '.' + std::string(name);
}

Status FieldReader::expected(std::string_view name,
                             std::string_view what) const {
  const Json *field = find(name);
  return Status::error(Code::InvalidData,
                       pathOf(name) + ": expected " + std::string(what) +
                           ", found " +
                           (field ? describeKind(*field) : "nothing"));
}

Status FieldReader::error(Code code, const std::string &message) const {
  return Status::error(code, where + ": " + message);
}

Result<std::string> FieldReader::requireString(std::string_view name) const {
  const Json *field = find(name);
  if (!field || !field->is_string())
    return expected(name, "a string");
  return field->get<std::string>();
}

Result<const Json *> FieldReader::requireArray(std::string_view name) const {
  const Json *field = find(name);
  if (!field || !field->is_array())
    return expected(name, "an array");
  return field;
}

Result<bool> FieldReader::boolean(std::string_view name, bool fallback) const {
  const Json *field = find(name);
  if (!field)
    return fallback;
  if (!field->is_boolean())
    return expected(name, "a boolean");
  return field->get<bool>();
}

Result<std::string> FieldReader::string(std::string_view name) const {
  const Json *field = find(name);
  if (!field)
    return std::string();
  if (!field->is_string())
    return expected(name, "a string");
  return field->get<std::string>();
}

} // namespace retort::text
