//===- Emulation.cpp - Kernels of other CPUs on this one ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/Emulation.h"

#include "compiler/codegen/Link.h"
#include "compiler/targets/Target.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

#include <cassert>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <regex>
#include <sstream>

namespace retort::test {
namespace {

//===----------------------------------------------------------------------===//
// Instructions on vectors: acc (and the result), a, b
//===----------------------------------------------------------------------===//

/// Sums of `kPart` products for each of `kLanes` lanes.
template <typename A, typename B, int kLanes, int kPart>
void dot(int32_t *acc, const A *a, const B *b) {
  for (int lane = 0; lane < kLanes; ++lane)
    for (int i = 0; i < kPart; ++i)
      acc[lane] += int32_t(a[lane * kPart + i]) * int32_t(b[lane * kPart + i]);
}

/// Two rows of 8 by two rows of 8.
template <typename A> void mmla(int32_t *acc, const A *a, const int8_t *b) {
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j)
      for (int c = 0; c < 8; ++c)
        acc[2 * i + j] += int32_t(a[8 * i + c]) * int32_t(b[8 * j + c]);
}

/// Bytes of a table of 16, by index, in each 16 bytes by themselves; the result
/// takes the place of the tables.
template <int kBytes> void lookUp(int8_t *tables, const uint8_t *indices) {
  int8_t from[kBytes];
  std::memcpy(from, tables, kBytes);
  for (int i = 0; i < kBytes; ++i)
    tables[i] = indices[i] < 16 ? from[i / 16 * 16 + indices[i]] : int8_t(0);
}

//===----------------------------------------------------------------------===//
// AMX
//===----------------------------------------------------------------------===//

struct TileRegister {
  uint8_t rows[16][64] = {};
};

/// Values of tiles live for a few instructions only.
TileRegister *newTile() {
  static thread_local TileRegister ring[64];
  static thread_local unsigned next = 0;
  TileRegister *tile = &ring[next++ % 64];
  *tile = {};
  return tile;
}

TileRegister *tileZero(int16_t, int16_t) { return newTile(); }

TileRegister *tileLoad(int16_t rows, int16_t bytes, const uint8_t *from,
                       int64_t stride) {
  TileRegister *tile = newTile();
  for (int16_t r = 0; r < rows; ++r)
    std::memcpy(tile->rows[r], from + r * stride, size_t(bytes));
  return tile;
}

void tileStore(int16_t rows, int16_t bytes, uint8_t *to, int64_t stride,
               const TileRegister *tile) {
  for (int16_t r = 0; r < rows; ++r)
    std::memcpy(to + r * stride, tile->rows[r], size_t(bytes));
}

/// C[m][n] += A[m][4k + i] * B[k][4n + i], with `bytes` bytes in a row of A.
template <typename A, typename B>
TileRegister *tileDot(int16_t m, int16_t n, int16_t bytes,
                      const TileRegister *acc, const TileRegister *a,
                      const TileRegister *b) {
  TileRegister *tile = newTile();
  for (int row = 0; row < m; ++row)
    for (int col = 0; col < n / 4; ++col) {
      int32_t sum;
      std::memcpy(&sum, acc->rows[row] + 4 * col, 4);
      for (int i = 0; i < bytes; ++i)
        sum += int32_t(static_cast<A>(a->rows[row][i])) *
               int32_t(static_cast<B>(b->rows[i / 4][4 * col + i % 4]));
      std::memcpy(tile->rows[row] + 4 * col, &sum, 4);
    }
  return tile;
}

using Function = const void *;
template <typename F> Function addressOf(F *f) {
  return reinterpret_cast<Function>(f);
}

/// Functions that take vectors by address.
const std::map<std::string, Function> &vectorInstructions() {
  static const std::map<std::string, Function> all = {
      {"llvm.x86.avx512.vpdpbusd.512", addressOf(dot<uint8_t, int8_t, 16, 4>)},
      {"llvm.x86.avx512.vpdpwssd.512", addressOf(dot<int16_t, int16_t, 16, 2>)},
      {"llvm.aarch64.neon.sdot.v4i32.v16i8",
       addressOf(dot<int8_t, int8_t, 4, 4>)},
      {"llvm.aarch64.neon.usdot.v4i32.v16i8",
       addressOf(dot<uint8_t, int8_t, 4, 4>)},
      {"llvm.aarch64.neon.smmla.v4i32.v16i8", addressOf(mmla<int8_t>)},
      {"llvm.aarch64.neon.usmmla.v4i32.v16i8", addressOf(mmla<uint8_t>)},
      {"llvm.x86.avx512.pshuf.b.512", addressOf(lookUp<64>)},
      {"llvm.aarch64.neon.tbl1.v16i8", addressOf(lookUp<16>)},
  };
  return all;
}

/// Functions that are called as the instruction is, tiles by address.
const std::map<std::string, Function> &tileInstructions() {
  static const std::map<std::string, Function> all = {
      {"llvm.x86.tilezero.internal", addressOf(tileZero)},
      {"llvm.x86.tileloadd64.internal", addressOf(tileLoad)},
      {"llvm.x86.tilestored64.internal", addressOf(tileStore)},
      {"llvm.x86.tdpbssd.internal", addressOf(tileDot<int8_t, int8_t>)},
      {"llvm.x86.tdpbusd.internal", addressOf(tileDot<uint8_t, int8_t>)},
  };
  return all;
}

//===----------------------------------------------------------------------===//
// The text of a module
//===----------------------------------------------------------------------===//

void replaceAll(std::string &text, const std::string &from,
                const std::string &to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
       at += to.size())
    text.replace(at, from.size(), to);
}

std::vector<std::string> typesOf(const std::string &list) {
  std::vector<std::string> types;
  std::istringstream in(list);
  for (std::string type; std::getline(in, type, ',');) {
    type.erase(0, type.find_first_not_of(' '));
    // Attributes follow the type.
    size_t end = type.starts_with('<') ? type.find('>') + 1 : type.find(' ');
    types.push_back(type.substr(0, end));
  }
  return types;
}

/// A function of the instruction's signature that calls the address.
std::string define(const std::string &name, const std::string &result,
                   const std::vector<std::string> &types, bool byAddress,
                   Function address) {
  std::string head = "define internal " + result + " @" + name + "(", body,
              args;
  for (size_t i = 0; i < types.size(); ++i) {
    std::string n = std::to_string(i);
    head += (i ? ", " : "") + types[i] + " %a" + n;
    if (byAddress)
      body += "  %p" + n + " = alloca " + types[i] + "\n  store " + types[i] +
              " %a" + n + ", ptr %p" + n + "\n";
    args += (i ? ", " : "") + (byAddress ? "ptr %p" : types[i] + " %a") + n;
  }
  std::string called = "inttoptr (i64 " +
                       std::to_string(reinterpret_cast<uintptr_t>(address)) +
                       " to ptr)(" + args + ")\n";
  if (byAddress)
    body += "  call void " + called + "  %r = load " + result +
            ", ptr %p0\n  ret " + result + " %r\n";
  else if (result == "void")
    body += "  call void " + called + "  ret void\n";
  else
    body +=
        "  %r = call " + result + " " + called + "  ret " + result + " %r\n";
  return head + ") noinline {\n" + body + "}\n";
}

Status replaceInstructions(std::string &ir) {
  static const std::regex declaration(
      R"(\ndeclare ([^@]*) @(llvm\.(?:x86|aarch64)\.[\w.]*)\(([^)]*)\)[^\n]*)");
  replaceAll(ir, "x86_amx", "ptr");
  std::string definitions;
  for (std::smatch match; std::regex_search(ir, match, declaration);) {
    std::string result = match[1], name = match[2];
    std::vector<std::string> types = typesOf(match[3]);
    auto vector = vectorInstructions().find(name);
    auto tile = tileInstructions().find(name);
    bool byAddress = vector != vectorInstructions().end();
    if (!byAddress && tile == tileInstructions().end())
      return Status::error(Code::Unsupported, "no emulation of " + name);
    ir.replace(size_t(match.position(0)), size_t(match.length(0)), "\n");
    // Attributes of the result stand before its type.
    size_t at = result.starts_with('<') || result.find(' ') == std::string::npos
                    ? 0
                    : result.find_last_of(' ', result.find('<')) + 1;
    std::string emulated = "emulated" + name.substr(4);
    definitions += define(emulated, result.substr(at), types, byAddress,
                          byAddress ? vector->second : tile->second);
    replaceAll(ir, "@" + name + "(", "@" + emulated + "(");
  }
  ir += definitions;
  return Status::ok();
}

} // namespace

Result<std::vector<char>> emulateCode(std::string ir) {
  RETORT_RETURN_IF_ERROR(replaceInstructions(ir));
  ir = std::regex_replace(
      ir, std::regex(R"re("target-(cpu|features)"="[^"]*")re"), "");
  ir = std::regex_replace(
      ir, std::regex(R"re(\ntarget (datalayout|triple) = "[^"]*")re"), "");

  const Target &host = *hostTarget();
  llvm::LLVMContext context;
  llvm::SMDiagnostic problem;
  auto module = llvm::parseAssemblyString(ir, problem, context);
  if (!module)
    return Status::error(Code::Internal, problem.getMessage().str() + ": " +
                                             problem.getLineContents().str());
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  std::string error;
  llvm::Triple triple(host.triple);
  const llvm::Target *backend =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return Status::error(Code::Internal, error);
  std::unique_ptr<llvm::TargetMachine> machine(backend->createTargetMachine(
      triple, host.cpu, host.features, {}, llvm::Reloc::PIC_));
  module->setTargetTriple(triple);
  module->setDataLayout(machine->createDataLayout());
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream out(bytes);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, out, nullptr,
                                   llvm::CodeGenFileType::ObjectFile))
    return Status::error(Code::Internal, "cannot emit an object");
  passes.run(*module);
  return linkSharedObject({std::string(bytes.begin(), bytes.end())});
}

} // namespace retort::test
