//===- Sha256.cpp - A hash that nobody can aim at ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/Sha256.h"

namespace retort {

// These cannot fail and need no sodium_init().
Sha256::Sha256() { crypto_hash_sha256_init(&state); }

void Sha256::add(std::span<const std::byte> bytes) {
  crypto_hash_sha256_update(
      &state, reinterpret_cast<const unsigned char *>(bytes.data()),
      bytes.size());
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest;
  static_assert(digest.size() == crypto_hash_sha256_BYTES);
  crypto_hash_sha256_final(&state, digest.data());
  return digest;
}

Sha256Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

std::string formatHex(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

} // namespace retort
