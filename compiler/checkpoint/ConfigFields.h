//===- ConfigFields.h - Checked fields of a JSON object ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Reads the fields of a configuration with types, bounds and clear errors.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_CONFIGFIELDS_H
#define RETORT_COMPILER_CHECKPOINT_CONFIGFIELDS_H

#include "compiler/checkpoint/Json.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace retort::checkpoint {

/// Typed, bounded access to the fields of an object. The first error is kept
/// and later reads yield their fallback, so that a caller reads all it needs
/// and then asks status() once. A null field counts as absent.
class ConfigFields {
public:
  /// `prefix` is put before each name in messages, e.g. "rope_scaling.".
  explicit ConfigFields(const nlohmann::json &object, std::string prefix = {})
      : object(object), prefix(std::move(prefix)) {}

  /// The value of a field; null if it is absent or null.
  const nlohmann::json *find(std::string_view name) const;

  /// True if the field is present, be it null.
  bool has(std::string_view name) const {
    return object.contains(std::string(name));
  }

  /// An integer in [low, high]; absent is an error in the first form.
  int64_t integer(std::string_view name, int64_t low, int64_t high);
  int64_t integer(std::string_view name, int64_t low, int64_t high,
                  int64_t fallback);

  /// A number in (above, high]; absent is an error in the first form.
  double number(std::string_view name, double above, double high);
  double number(std::string_view name, double above, double high,
                double fallback);

  bool boolean(std::string_view name, bool fallback);
  std::string string(std::string_view name);
  std::string string(std::string_view name, std::string_view fallback);

  /// Records that `name` should have been `expected`; says what it is.
  void fail(std::string_view name, std::string_view expected,
            Code code = Code::InvalidData);

  bool isOk() const { return first.isOk(); }
  Status takeStatus() { return std::move(first); }

private:
  /// The field; records an error if it is absent and so is a fallback.
  const nlohmann::json *require(std::string_view name,
                                std::string_view expected, bool hasFallback);
  int64_t readInteger(std::string_view name, int64_t low, int64_t high,
                      std::optional<int64_t> fallback);
  double readNumber(std::string_view name, double above, double high,
                    std::optional<double> fallback);

  const nlohmann::json &object;
  std::string prefix;
  Status first;
};

/// A number without trailing zeros, for messages.
std::string formatNumber(double value);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_CONFIGFIELDS_H
