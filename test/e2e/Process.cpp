//===- Process.cpp - Programs as tests run them ---------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/e2e/Process.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace retort::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  int ends[2];
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0)
      throw std::runtime_error("cannot make a pipe");
  }
  ~Pipe() {
    close(0);
    close(1);
  }
  void close(int end) {
    if (ends[end] >= 0)
      ::close(ends[end]);
    ends[end] = -1;
  }
};

void limit(int resource, const std::optional<uint64_t> &bytes) {
  if (!bytes)
    return;
  rlimit value = {static_cast<rlim_t>(*bytes), static_cast<rlim_t>(*bytes)};
  ::setrlimit(static_cast<decltype(RLIMIT_AS)>(resource), &value);
}

[[noreturn]] void runChild(const std::vector<std::string> &command,
                           const ProcessOptions &options, Pipe &in, Pipe &out,
                           Pipe &err) {
  ::dup2(in.ends[0], 0);
  int output = out.ends[1];
  if (!options.outputPath.empty())
    output = ::open(options.outputPath.c_str(), O_WRONLY | O_CREAT, 0644);
  ::dup2(output, 1);
  ::dup2(err.ends[1], 2);
  ::signal(SIGPIPE, SIG_DFL);
  // Ignored, the signal of a file that grows too large becomes an error of the
  // write, as a full disk is.
  if (options.fileSizeLimit)
    ::signal(SIGXFSZ, SIG_IGN);
  limit(RLIMIT_FSIZE, options.fileSizeLimit);
  limit(RLIMIT_AS, options.memoryLimit);
  std::vector<char *> arguments;
  for (const std::string &word : command)
    arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  const char message[] = "cannot execute the program\n";
  (void)!::write(2, message, sizeof(message) - 1);
  ::_exit(127);
}

/// Appends what is there. False at the end of the stream.
bool drain(int fd, std::string &to) {
  char buffer[1 << 16];
  ssize_t size = ::read(fd, buffer, sizeof(buffer));
  if (size > 0)
    to.append(buffer, static_cast<size_t>(size));
  return size > 0;
}

} // namespace

std::string ProcessResult::describe() const {
  std::string text = "exit code " + std::to_string(exitCode);
  if (signal)
    text += ", ended by signal " + std::to_string(signal);
  if (timedOut)
    text += ", timed out";
  return text + "\n--- stdout\n" + out.substr(0, 4000) + "\n--- stderr\n" +
         err.substr(0, 4000);
}

ProcessResult runProcess(const std::vector<std::string> &command,
                         const ProcessOptions &options) {
  ::signal(SIGPIPE, SIG_IGN);
  Pipe in, out, err;
  Clock::time_point start = Clock::now();
  pid_t child = ::fork();
  if (child < 0)
    throw std::runtime_error("cannot fork");
  if (child == 0)
    runChild(command, options, in, out, err);
  in.close(0);
  out.close(1);
  err.close(1);

  ProcessResult result;
  size_t written = 0;
  bool interrupted = false;
  while (out.ends[0] >= 0 || err.ends[0] >= 0) {
    double elapsed =
        std::chrono::duration<double>(Clock::now() - start).count();
    if (elapsed > options.timeoutSeconds) {
      result.timedOut = true;
      ::kill(child, SIGKILL);
      break;
    }
    if (options.interruptSignal && !interrupted &&
        (options.interruptWhen ? options.interruptWhen()
                               : elapsed >= options.interruptSeconds)) {
      ::kill(child, *options.interruptSignal);
      interrupted = true;
    }
    if (written == options.input.size())
      in.close(1);
    pollfd polled[3] = {{out.ends[0], POLLIN, 0},
                        {err.ends[0], POLLIN, 0},
                        {in.ends[1], POLLOUT, 0}};
    ::poll(polled, 3, 5);
    if (polled[0].revents && !drain(out.ends[0], result.out))
      out.close(0);
    if (polled[1].revents && !drain(err.ends[0], result.err))
      err.close(0);
    if (polled[2].revents) {
      ssize_t size =
          ::write(in.ends[1], options.input.data() + written,
                  std::min<size_t>(options.input.size() - written, 4096));
      if (size < 0)
        in.close(1);
      else
        written += static_cast<size_t>(size);
    }
  }
  int status = 0;
  rusage usage = {};
  ::wait4(child, &status, 0, &usage);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  result.peakBytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  if (WIFEXITED(status))
    result.exitCode = WEXITSTATUS(status);
  else
    result.signal = WTERMSIG(status);
  return result;
}

} // namespace retort::test
