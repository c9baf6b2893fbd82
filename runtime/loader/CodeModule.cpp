//===- CodeModule.cpp - Kernels of an artifact, callable --------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/loader/CodeModule.h"

#include "runtime/loader/Cpu.h"
#include "runtime/loader/Elf.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace retort {
namespace {

Status ioError(const char *what) {
  return Status::error(Code::Io, std::string("cannot ") + what + ": " +
                                     std::strerror(errno));
}

/// A memory file of these bytes that nobody can change any more.
Result<int> makeSealedFile(std::span<const std::byte> bytes) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create("retort-code", flags | MFD_EXEC);
  if (fd < 0 && errno == EINVAL) // kernels before 6.3 don't know the flag
    fd = ::memfd_create("retort-code", flags);
  if (fd < 0)
    return ioError("create a memory file for code");
  for (size_t done = 0; done < bytes.size();) {
    ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      Status error = ioError("write code to a memory file");
      ::close(fd);
      return error;
    }
    done += static_cast<size_t>(n);
  }
  if (::fcntl(fd, F_ADD_SEALS,
              F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    Status error = ioError("seal the memory file of code");
    ::close(fd);
    return error;
  }
  return fd;
}

Status checkObject(const ElfObject &object, const Cpu &cpu) {
  if (object.arch != cpu.arch)
    return Status::error(Code::InvalidData, "expected code for " + cpu.arch +
                                                ", found code for " +
                                                object.arch);
  for (const ElfSymbol &symbol : object.symbols)
    if (!symbol.defined)
      return Status::error(Code::InvalidData,
                           "expected code without imports, found '" +
                               symbol.name + "'");
  return Status::ok();
}

} // namespace

CodeModule::CodeModule(CodeModule &&other) noexcept
    : fd(std::exchange(other.fd, -1)),
      handle(std::exchange(other.handle, nullptr)), name(std::move(other.name)),
      kernels(std::move(other.kernels)) {}

CodeModule &CodeModule::operator=(CodeModule &&other) noexcept {
  std::swap(fd, other.fd);
  std::swap(handle, other.handle);
  std::swap(name, other.name);
  std::swap(kernels, other.kernels);
  return *this;
}

CodeModule::~CodeModule() {
  if (handle)
    ::dlclose(handle);
  if (fd >= 0)
    ::close(fd);
}

Result<CodeModule> CodeModule::load(const Artifact &artifact,
                                    std::string_view wanted) {
  auto chosen = chooseTarget(artifact.index(), hostCpu(), wanted);
  if (!chosen.isOk())
    return chosen.takeStatus().withContext(artifact.path());
  const abi::Target &target = *artifact.index().targets()->Get(*chosen);
  std::string where =
      artifact.path() + ": target '" + target.name()->str() + "'";
  auto bytes = artifact.section(target.section());
  auto object = readElf(bytes);
  if (!object.isOk())
    return object.takeStatus().withContext(where);
  if (Status good = checkObject(*object, hostCpu()); !good.isOk())
    return std::move(good).withContext(where);
  if (Status granted = requestFeatures(target); !granted.isOk())
    return std::move(granted).withContext(where);

  CodeModule module;
  module.name = target.name()->str();
  auto file = makeSealedFile(bytes);
  if (!file.isOk())
    return file.takeStatus().withContext(where);
  module.fd = *file;
  std::string path = "/proc/self/fd/" + std::to_string(module.fd);
  module.handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module.handle) {
    const char *why = ::dlerror();
    return Status::error(
        Code::InvalidData,
        where + ": cannot load its code: " + (why ? why : "no reason given"));
  }
  for (const abi::Kernel *kernel : *artifact.index().program()->kernels()) {
    void *symbol = ::dlsym(module.handle, kernel->symbol()->c_str());
    if (!symbol)
      return Status::error(Code::InvalidData, where + ": kernel '" +
                                                  kernel->symbol()->str() +
                                                  "' is not in its code");
    module.kernels.push_back(reinterpret_cast<retort_kernel_fn>(symbol));
  }
  return module;
}

} // namespace retort
