//===- Elf.h - Symbols of a code section ------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A bounds-checked reader of the dynamic symbols of a 64-bit little-endian
/// ELF shared object.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_ELF_H
#define RETORT_RUNTIME_LOADER_ELF_H

#include "runtime/support/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace retort {

struct ElfSymbol {
  std::string name;
  uint64_t address = 0; ///< in the object, before relocation
  uint64_t size = 0;    ///< bytes
  bool defined = false; ///< false for an import
  bool function = false;
  bool weak = false;
};

struct ElfObject {
  std::string arch;         ///< first part of a triple: "x86_64", "aarch64"
  uint64_t codeBytes = 0;   ///< of executable segments
  uint64_t mappedBytes = 0; ///< of all loaded segments
  std::vector<ElfSymbol> symbols; ///< dynamic symbols in table order
};

/// Reads header, loaded segments and dynamic symbols. Every offset is checked.
Result<ElfObject> readElf(std::span<const std::byte> bytes);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_ELF_H
