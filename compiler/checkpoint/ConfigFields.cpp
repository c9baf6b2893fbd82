//===- ConfigFields.cpp - Checked fields of a JSON object -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/ConfigFields.h"

#include <cmath>
#include <cstdio>

namespace retort::checkpoint {

using nlohmann::json;

std::string formatNumber(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

const json *ConfigFields::find(std::string_view name) const {
  auto it = object.find(std::string(name));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

void ConfigFields::fail(std::string_view name, std::string_view expected,
                        Code code) {
  if (!first.isOk())
    return;
  auto it = object.find(std::string(name));
  first = Status::error(
      code, "field " + quote(prefix + std::string(name)) + ": expected " +
                std::string(expected) + ", found " +
                (it == object.end() ? "no such field" : describeJson(*it)));
}

const json *ConfigFields::require(std::string_view name,
                                  std::string_view expected, bool hasFallback) {
  const json *value = find(name);
  if (!value && !hasFallback)
    fail(name, expected);
  return value;
}

int64_t ConfigFields::readInteger(std::string_view name, int64_t low,
                                  int64_t high,
                                  std::optional<int64_t> fallback) {
  std::string expected =
      low == 1 ? "a positive integer up to "
               : "an integer from " + std::to_string(low) + " to ";
  expected += std::to_string(high);
  const json *value = require(name, expected, fallback.has_value());
  if (!value)
    return fallback.value_or(low);
  // An unsigned value past INT64_MAX must not wrap to a negative one.
  bool fits = value->is_number_unsigned()
                  ? value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                  : value->is_number_integer();
  int64_t number = fits ? value->get<int64_t>() : 0;
  if (fits && number >= low && number <= high)
    return number;
  fail(name, expected);
  return fallback.value_or(low);
}

int64_t ConfigFields::integer(std::string_view name, int64_t low,
                              int64_t high) {
  return readInteger(name, low, high, std::nullopt);
}

int64_t ConfigFields::integer(std::string_view name, int64_t low, int64_t high,
                              int64_t fallback) {
  return readInteger(name, low, high, fallback);
}

double ConfigFields::readNumber(std::string_view name, double above,
                                double high, std::optional<double> fallback) {
  std::string expected = "a number above " + formatNumber(above) +
                         " and up to " + formatNumber(high);
  const json *value = require(name, expected, fallback.has_value());
  if (!value)
    return fallback.value_or(high);
  double number = value->is_number() ? value->get<double>() : NAN;
  if (number > above && number <= high)
    return number;
  fail(name, expected);
  return fallback.value_or(high);
}

double ConfigFields::number(std::string_view name, double above, double high) {
  return readNumber(name, above, high, std::nullopt);
}

double ConfigFields::number(std::string_view name, double above, double high,
                            double fallback) {
  return readNumber(name, above, high, fallback);
}

bool ConfigFields::boolean(std::string_view name, bool fallback) {
  const json *value = find(name);
  if (value && !value->is_boolean())
    fail(name, "true or false");
  return value && value->is_boolean() ? value->get<bool>() : fallback;
}

std::string ConfigFields::string(std::string_view name) {
  const json *value = require(name, "a string", false);
  if (value && !value->is_string())
    fail(name, "a string");
  return value && value->is_string() ? value->get<std::string>()
                                     : std::string();
}

std::string ConfigFields::string(std::string_view name,
                                 std::string_view fallback) {
  return find(name) ? string(name) : std::string(fallback);
}

} // namespace retort::checkpoint
