//===- Json.cpp - Bounded JSON parsing --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Json.h"

#include <unordered_set>
#include <vector>

namespace retort::checkpoint {
namespace {

using nlohmann::json;

/// Walks a document without building it, and stops at the first thing that
/// parseJson refuses.
class Checker : public nlohmann::json_sax<json> {
public:
  explicit Checker(size_t maxDepth) : maxDepth(maxDepth) {}

  std::string error;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t &) override { return true; }
  bool string(string_t &) override { return true; }
  bool binary(binary_t &) override { return true; }
  bool start_object(size_t) override { return push(); }
  bool start_array(size_t) override { return push(); }
  bool end_object() override { return pop(); }
  bool end_array() override { return pop(); }
  bool key(string_t &name) override {
    if (keys.back().insert(name).second)
      return true;
    error = "duplicate key " + quote(name);
    return false;
  }
  bool parse_error(size_t, const std::string &,
                   const json::exception &e) override {
    error = describeJsonError(e);
    return false;
  }

private:
  bool push() {
    keys.emplace_back();
    if (keys.size() <= maxDepth)
      return true;
    error = "expected JSON nested at most " + std::to_string(maxDepth) +
            " deep, found deeper nesting";
    return false;
  }
  bool pop() {
    keys.pop_back();
    return true;
  }

  size_t maxDepth;
  /// The keys seen so far of each open object; empty for an array.
  std::vector<std::unordered_set<std::string>> keys;
};

/// The text with its middle left out if it is long. Cuts between characters of
/// valid UTF-8.
std::string shortened(std::string_view text) {
  constexpr size_t kLimit = 160, kHead = 110, kTail = 40;
  if (text.size() <= kLimit)
    return std::string(text);
  auto isContinuation = [&](size_t i) { return (text[i] & 0xc0) == 0x80; };
  size_t head = kHead, tail = text.size() - kTail;
  while (head > 0 && isContinuation(head))
    --head;
  while (tail < text.size() && isContinuation(tail))
    ++tail;
  return std::string(text.substr(0, head)) + "..." +
         std::string(text.substr(tail));
}

} // namespace

std::string quote(std::string_view text) {
  std::string out = "'";
  for (char c : shortened(text)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
      continue;
    }
    constexpr char kHex[] = "0123456789abcdef";
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out + "'";
}

std::string describeJsonError(const json::exception &error) {
  std::string_view what = error.what();
  // The library starts with "[json.exception.<kind>.<id>] ".
  if (size_t end = what.find("] ");
      what.starts_with("[json.exception") && end != std::string_view::npos)
    what.remove_prefix(end + 2);
  std::string out = shortened(what);
  for (char &c : out)
    if (static_cast<unsigned char>(c) < 0x20 ||
        static_cast<unsigned char>(c) >= 0x7f)
      c = '?';
  return out;
}

Status refuseNul(std::string_view text) {
  size_t at = text.find('\0');
  if (at == std::string_view::npos)
    return Status::ok();
  return Status::error(Code::InvalidData,
                       "parse error: NUL byte at offset " + std::to_string(at));
}

Result<json> parseJson(std::string_view text, size_t maxDepth) {
  RETORT_RETURN_IF_ERROR(refuseNul(text));
  Checker checker(maxDepth);
  if (!json::sax_parse(text.begin(), text.end(), &checker))
    return Status::error(Code::InvalidData, std::move(checker.error));
  return json::parse(text.begin(), text.end(), nullptr,
                     /*allow_exceptions=*/false);
}

std::string describeJson(const json &value) {
  switch (value.type()) {
  case json::value_t::object:
    return "an object";
  case json::value_t::array:
    return "an array";
  case json::value_t::string:
    return "the string " + quote(value.get_ref<const std::string &>());
  default:
    return value.dump();
  }
}

} // namespace retort::checkpoint
