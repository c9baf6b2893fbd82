//===- Elf.cpp - Symbols of a code section ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/Elf.h"

#include "runtime/support/CheckedMath.h"

#include <cstring>
#include <elf.h>

namespace retort {
namespace {

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, "elf object: " + std::move(message));
}

/// Copies a record out of the bytes, which need not be aligned.
template <typename T>
bool load(std::span<const std::byte> bytes, uint64_t offset, T &out) {
  auto end = checkedAdd(offset, uint64_t(sizeof(T)));
  if (!end || *end > bytes.size())
    return false;
  std::memcpy(&out, bytes.data() + offset, sizeof(T));
  return true;
}

bool within(std::span<const std::byte> bytes, uint64_t offset, uint64_t size) {
  auto end = checkedAdd(offset, size);
  return end && *end <= bytes.size();
}

Status readSegments(std::span<const std::byte> bytes, const Elf64_Ehdr &header,
                    ElfObject &object) {
  if (header.e_phentsize != sizeof(Elf64_Phdr))
    return invalid("expected program headers of " +
                   std::to_string(sizeof(Elf64_Phdr)) + " bytes, found " +
                   std::to_string(header.e_phentsize));
  bool loaded = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    auto offset =
        checkedAdd<uint64_t>(header.e_phoff, uint64_t(i) * sizeof segment);
    if (!offset || !load(bytes, *offset, segment))
      return invalid("the program headers go past its end");
    if (segment.p_type == PT_INTERP)
      return invalid("expected a shared object, found a program interpreter");
    if (segment.p_type != PT_LOAD)
      continue;
    loaded = true;
    if (!within(bytes, segment.p_offset, segment.p_filesz) ||
        segment.p_memsz < segment.p_filesz || segment.p_memsz > 1ull << 40)
      return invalid("segment " + std::to_string(i) + " goes past its end");
    object.mappedBytes += segment.p_memsz;
    if (segment.p_flags & PF_X)
      object.codeBytes += segment.p_memsz;
  }
  if (!loaded)
    return invalid("expected a segment to load, found none");
  return Status::ok();
}

Status readSymbols(std::span<const std::byte> bytes, const Elf64_Shdr &table,
                   const Elf64_Shdr &strings, ElfObject &object) {
  if (table.sh_entsize != sizeof(Elf64_Sym) ||
      !within(bytes, table.sh_offset, table.sh_size) ||
      !within(bytes, strings.sh_offset, strings.sh_size))
    return invalid("the dynamic symbol table goes past its end");
  std::string_view names(
      reinterpret_cast<const char *>(bytes.data() + strings.sh_offset),
      strings.sh_size);
  uint64_t count = table.sh_size / sizeof(Elf64_Sym);
  for (uint64_t i = 1; i < count; ++i) { // the first is reserved
    Elf64_Sym symbol;
    if (!load(bytes, table.sh_offset + i * sizeof symbol, symbol))
      return invalid("the dynamic symbol table goes past its end");
    size_t end = symbol.st_name < names.size()
                     ? names.find('\0', symbol.st_name)
                     : std::string_view::npos;
    if (end == std::string_view::npos)
      return invalid("symbol " + std::to_string(i) +
                     ": its name goes past the string table");
    ElfSymbol out;
    out.name = names.substr(symbol.st_name, end - symbol.st_name);
    out.address = symbol.st_value;
    out.size = symbol.st_size;
    out.defined = symbol.st_shndx != SHN_UNDEF;
    out.function = ELF64_ST_TYPE(symbol.st_info) == STT_FUNC;
    out.weak = ELF64_ST_BIND(symbol.st_info) == STB_WEAK;
    object.symbols.push_back(std::move(out));
  }
  return Status::ok();
}

} // namespace

Result<ElfObject> readElf(std::span<const std::byte> bytes) {
  Elf64_Ehdr header;
  if (!load(bytes, 0, header) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return invalid("it does not begin as one");
  if (header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB)
    return invalid("expected 64 bits, little-endian");
  if (header.e_type != ET_DYN)
    return invalid("expected a shared object, found type " +
                   std::to_string(header.e_type));
  ElfObject object;
  object.arch = header.e_machine == EM_X86_64    ? "x86_64"
                : header.e_machine == EM_AARCH64 ? "aarch64"
                                                 : "";
  if (object.arch.empty())
    return invalid("machine " + std::to_string(header.e_machine) +
                   " is not one that Retort compiles for");
  RETORT_RETURN_IF_ERROR(readSegments(bytes, header, object));
  if (header.e_shentsize != sizeof(Elf64_Shdr))
    return invalid("expected section headers, found none");
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section, strings;
    auto at =
        checkedAdd<uint64_t>(header.e_shoff, uint64_t(i) * sizeof section);
    if (!at || !load(bytes, *at, section))
      return invalid("the section headers go past its end");
    if (section.sh_type != SHT_DYNSYM)
      continue;
    auto stringsAt = checkedAdd<uint64_t>(
        header.e_shoff, uint64_t(section.sh_link) * sizeof strings);
    if (section.sh_link >= header.e_shnum || !stringsAt ||
        !load(bytes, *stringsAt, strings))
      return invalid("the dynamic symbol table has no string table");
    RETORT_RETURN_IF_ERROR(readSymbols(bytes, section, strings, object));
  }
  return object;
}

} // namespace retort
