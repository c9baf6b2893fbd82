//===- Handles.h - What the C API's files share -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_API_HANDLES_H
#define RETORT_RUNTIME_API_HANDLES_H

#include "runtime/api/ModelText.h"
#include "runtime/api/retort.h"
#include "runtime/engine/Generator.h"

#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace retort::api {

/// What a model handle stands for; sessions keep it alive.
/// As the C API spells it; what it doesn't know is Auto.
inline Placement toPlacement(retort_placement value) {
  return value == RETORT_PLACE_ON    ? Placement::On
         : value == RETORT_PLACE_OFF ? Placement::Off
                                     : Placement::Auto;
}

struct ModelState {
  std::shared_ptr<const Model> model;
  ModelText text;
  GenerationDefaults defaults;
};

} // namespace retort::api

struct retort_model {
  std::shared_ptr<const retort::api::ModelState> state;
};

namespace retort::api {

/// Sets retort_last_error() and returns the code.
retort_status_code fail(Code code, std::string_view message);
retort_status_code report(const Status &status);

/// Runs a call's body; nothing that the standard library throws gets out.
template <typename Fn> retort_status_code guarded(Fn &&body) {
  try {
    return report(body());
  } catch (const std::bad_alloc &) {
    return fail(Code::OutOfMemory, "out of memory");
  } catch (const std::exception &error) {
    return fail(Code::Internal, error.what());
  } catch (...) {
    return fail(Code::Internal, "unknown exception");
  }
}

Status nullArgument(const char *name);

#define RETORT_REQUIRE(argument)                                               \
  do {                                                                         \
    if (!(argument))                                                           \
      return nullArgument(#argument);                                          \
  } while (false)

/// The protocol of functions that fill a buffer.
template <typename T>
Status fill(std::span<const T> values, T *out, size_t capacity,
            size_t *length) {
  if (!length)
    return nullArgument("length");
  if (values.size() <= capacity && !values.empty()) {
    if (!out)
      return nullArgument("output");
    std::memcpy(out, values.data(), values.size_bytes());
  }
  *length = values.size();
  return Status::ok();
}

Result<std::span<const int32_t>> tokenSpan(const int32_t *tokens, size_t count);

SamplerOptions fromC(const retort_sampling &sampling);

} // namespace retort::api

#endif // RETORT_RUNTIME_API_HANDLES_H
