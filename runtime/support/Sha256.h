//===- Sha256.h - A hash that nobody can aim at -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// SHA-256 (FIPS 180-4), for what people who don't trust each other compare:
/// tensors of a checkpoint and texts. What an artifact checks itself by is
/// hashed with XXH3, which is twenty times as fast and no proof.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_SUPPORT_SHA256_H
#define RETORT_RUNTIME_SUPPORT_SHA256_H

#include <sodium/crypto_hash_sha256.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace retort {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
public:
  Sha256();
  void add(std::span<const std::byte> bytes);
  /// Of all that was added; nothing may be added afterwards.
  Sha256Digest finish();

private:
  crypto_hash_sha256_state state;
};

Sha256Digest sha256(std::span<const std::byte> bytes);

/// Lower-case hexadecimal digits.
std::string formatHex(std::span<const uint8_t> bytes);

} // namespace retort

#endif // RETORT_RUNTIME_SUPPORT_SHA256_H
