//===- LoadedCode.cpp - Run compiled kernels in this process --------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/LoadedCode.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#endif
#include <unistd.h>

namespace retort {

Result<LoadedCode> LoadedCode::load(std::span<const char> object) {
#if defined(__x86_64__)
  // AMX's tiles (ARCH_REQ_XCOMP_PERM, state 18), in case the code uses them;
  // whether there are any, hostTarget() knows.
  ::syscall(SYS_arch_prctl, 0x1023, 18);
#endif
  int fd = memfd_create("retort-code", MFD_CLOEXEC);
  if (fd < 0)
    return Status::error(Code::Io,
                         std::string("memory file: ") + std::strerror(errno));
  size_t done = 0;
  while (done < object.size()) {
    ssize_t n = write(fd, object.data() + done, object.size() - done);
    if (n <= 0) {
      std::string why = std::strerror(errno);
      close(fd);
      return Status::error(Code::Io, "memory file: " + why);
    }
    done += static_cast<size_t>(n);
  }
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *why = dlerror();
    close(fd);
    return Status::error(Code::InvalidData, why ? why : "dlopen failed");
  }
  return LoadedCode(handle, fd);
}

LoadedCode::~LoadedCode() {
  if (handle)
    dlclose(handle);
  if (fd >= 0)
    close(fd);
}

retort_kernel_fn LoadedCode::find(const std::string &symbol) const {
  return reinterpret_cast<retort_kernel_fn>(dlsym(handle, symbol.c_str()));
}

} // namespace retort
