//===- DType.h - Element types of stored tensors ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The element types that safetensors files spell, with their sizes.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_DTYPE_H
#define RETORT_RUNTIME_SUPPORT_DTYPE_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace retort {

/// How one element of a stored tensor is encoded; little-endian throughout.
enum class DType : uint8_t {
  Bool,
  U8,
  I8,
  F8E4M3, ///< OCP FP8 E4M3 "fn": no infinities, 0x7f and 0xff are NaN
  F8E5M2,
  F8E8M0, ///< an exponent alone: scales of microscaling formats
  U16,
  I16,
  F16,
  BF16,
  U32,
  I32,
  F32,
  U64,
  I64,
  F64,
  C64, ///< two F32: real, imaginary
};

/// What safetensors calls the type and what one element takes.
struct DTypeInfo {
  DType dtype;
  std::string_view name;
  size_t bytes;
};

/// One row per DType, in the enum's order.
inline constexpr DTypeInfo kDTypes[] = {
    {DType::Bool, "BOOL", 1},      {DType::U8, "U8", 1},
    {DType::I8, "I8", 1},          {DType::F8E4M3, "F8_E4M3", 1},
    {DType::F8E5M2, "F8_E5M2", 1}, {DType::F8E8M0, "F8_E8M0", 1},
    {DType::U16, "U16", 2},        {DType::I16, "I16", 2},
    {DType::F16, "F16", 2},        {DType::BF16, "BF16", 2},
    {DType::U32, "U32", 4},        {DType::I32, "I32", 4},
    {DType::F32, "F32", 4},        {DType::U64, "U64", 8},
    {DType::I64, "I64", 8},        {DType::F64, "F64", 8},
    {DType::C64, "C64", 8},
};

/// Bytes of one element.
constexpr size_t dtypeBytes(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].bytes;
}

/// The name in safetensors' spelling, e.g. "BF16".
constexpr std::string_view dtypeName(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].name;
}

/// The type of that safetensors spelling, if it is one of the above.
constexpr std::optional<DType> parseDType(std::string_view name) {
  for (const DTypeInfo &info : kDTypes)
    if (info.name == name)
      return info.dtype;
  return std::nullopt;
}

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_DTYPE_H
