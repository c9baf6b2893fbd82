//===- Link.cpp - Link objects with LLD -----------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Link.h"

#include "lld/Common/Driver.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace llvm;

namespace retort {

static Status ioError(const Twine &path, std::error_code ec) {
  return Status::error(Code::Io, (path + ": " + ec.message()).str());
}

Result<std::vector<char>> linkSharedObject(ArrayRef<std::string> objects) {
  SmallString<128> dir;
  if (auto ec = sys::fs::createUniqueDirectory("retort", dir))
    return ioError("temporary directory", ec);
  llvm::scope_exit cleanup([&] { sys::fs::remove_directories(dir); });

  std::vector<std::string> args = {
      "ld.lld",          "-shared",          "-zdefs",        "-znoexecstack",
      "--build-id=none", "--hash-style=gnu", "--gc-sections", "-O2",
      "--strip-all",     "-Bsymbolic"};
  for (auto [i, object] : enumerate(objects)) {
    SmallString<128> path(dir);
    sys::path::append(path, Twine(i) + ".o");
    std::error_code ec;
    raw_fd_ostream out(path, ec);
    if (!ec) {
      out << object;
      out.close();
      ec = out.error();
      out.clear_error();
    }
    if (ec)
      return ioError(path, ec);
    args.push_back(path.str().str());
  }
  SmallString<128> output(dir);
  sys::path::append(output, "code.so");
  args.push_back("-o");
  args.push_back(output.str().str());

  std::vector<const char *> argv;
  for (const std::string &arg : args)
    argv.push_back(arg.c_str());
  std::string text;
  raw_string_ostream messages(text);
  {
    // LLD keeps its state in globals, and after a crash cannot run again.
    static std::mutex mutex;
    static bool usable = true;
    std::lock_guard lock(mutex);
    if (!usable)
      return Status::error(Code::Internal, "the linker has crashed before");
    lld::Result result =
        lld::lldMain(argv, messages, messages, {{lld::Gnu, &lld::elf::link}});
    usable = result.canRunAgain;
    if (result.retCode)
      return Status::error(Code::Internal, "cannot link the kernels: " +
                                               StringRef(text).rtrim().str());
  }
  auto file = MemoryBuffer::getFile(output, /*IsText=*/false,
                                    /*RequiresNullTerminator=*/false);
  if (!file)
    return ioError(output, file.getError());
  StringRef bytes = (*file)->getBuffer();
  return std::vector<char>(bytes.begin(), bytes.end());
}

} // namespace retort
