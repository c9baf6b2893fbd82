//===- Status.h - Errors as values ------------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// `Status` and `Result<T>`: the way every fallible function of the runtime,
/// the checkpoint reader and the packer reports failure. No exception crosses
/// a public function of these libraries.
///
/// A message is lower case without a full stop and says what was expected,
/// what was found and where, e.g.
/// `model.safetensors: tensor 'lm_head.weight': data_offsets [8, 4] end before
/// they begin`. Callers add context as an error unwinds:
/// `return status.withContext("model.safetensors")` prefixes `context: `.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_STATUS_H
#define RETORT_RUNTIME_SUPPORT_STATUS_H

#include <cassert>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace retort {

/// What kind of failure it was; stable numbers, shared with the C API
/// (`retort_status_code` in runtime/api/retort.h).
enum class Code : int {
  Ok = 0,
  InvalidArgument = 1, ///< a flag, prompt or call argument is unusable
  InvalidData = 2,     ///< a file's bytes break its format's rules
  Unsupported = 3,     ///< well-formed, but not something Retort handles
  NotFound = 4,        ///< a file, tensor or symbol that must exist does not
  Io = 5,              ///< the operating system refused a read or a write
  OutOfMemory = 6,     ///< an allocation failed or a memory cap is too low
  Incompatible = 7,    ///< made for another CPU, device or version
  Cancelled = 8,       ///< the caller or a signal asked to stop
  Internal = 9,        ///< a broken invariant: a bug in Retort
};

/// Success, or a code with a message. Cheap to move; success holds no memory.
class [[nodiscard]] Status {
public:
  Status() = default;
  static Status ok() { return {}; }
  static Status error(Code code, std::string message) {
    assert(code != Code::Ok && "an error needs an error code");
    Status s;
    s.payload = std::make_unique<Payload>(Payload{code, std::move(message)});
    return s;
  }

  bool isOk() const { return !payload; }
  explicit operator bool() const { return isOk(); }
  Code code() const { return payload ? payload->code : Code::Ok; }
  const std::string &message() const {
    static const std::string none;
    return payload ? payload->message : none;
  }

  /// Prefixes `context: ` to the message of an error; success stays success.
  Status withContext(std::string_view context) && {
    if (payload)
      payload->message = std::string(context) + ": " + payload->message;
    return std::move(*this);
  }

private:
  struct Payload {
    Code code;
    std::string message;
  };
  std::unique_ptr<Payload> payload;
};

/// A value, or the error that kept it from being made.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : val(std::move(value)) {}
  Result(Status error) : err(std::move(error)) {
    assert(!err.isOk() && "a Result without a value needs an error");
  }

  bool isOk() const { return val.has_value(); }
  explicit operator bool() const { return isOk(); }

  T &operator*() & { return *val; }
  const T &operator*() const & { return *val; }
  T &&operator*() && { return std::move(*val); }
  T *operator->() { return &*val; }
  const T *operator->() const { return &*val; }

  const Status &status() const { return err; }
  Status takeStatus() { return std::move(err); }

private:
  std::optional<T> val;
  Status err;
};

namespace detail {
inline Status takeStatus(Status &&s) { return std::move(s); }
template <typename T> Status takeStatus(Result<T> &&r) {
  return r.takeStatus();
}
} // namespace detail

} // namespace retort

/// Returns the error of a `Status` expression to the caller, if it is one.
#define RETORT_RETURN_IF_ERROR(expr)                                           \
  do {                                                                         \
    if (auto retortStatus_ = (expr); !retortStatus_.isOk())                    \
      return ::retort::detail::takeStatus(std::move(retortStatus_));           \
  } while (false)

#define RETORT_CONCAT_IMPL_(a, b) a##b
#define RETORT_CONCAT_(a, b) RETORT_CONCAT_IMPL_(a, b)
#define RETORT_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr)                          \
  auto tmp = (expr);                                                           \
  if (!tmp.isOk())                                                             \
    return tmp.takeStatus();                                                   \
  lhs = std::move(*tmp)

/// `RETORT_ASSIGN_OR_RETURN(auto x, makeX());` declares `x`, or returns the
/// error to the caller.
#define RETORT_ASSIGN_OR_RETURN(lhs, expr)                                     \
  RETORT_ASSIGN_OR_RETURN_IMPL_(RETORT_CONCAT_(retortResult_, __LINE__), lhs,  \
                                expr)

#endif // RETORT_RUNTIME_SUPPORT_STATUS_H
