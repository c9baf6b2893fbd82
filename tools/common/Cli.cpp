//===- Cli.cpp - What the command line tools share --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Cli.h"

#include "runtime/engine/Memory.h"
#include "runtime/support/File.h"
#include "runtime/text/Unicode.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <unistd.h>

namespace retort::tools {
namespace {

/// Prompts and token lists are read whole.
constexpr size_t kMaxInput = 1ull << 30;

std::atomic<void (*)(void *)> cancelFunction{nullptr};
std::atomic<void *> cancelArgument{nullptr};
std::atomic<int> caught{0};
/// The signal that ended a generation, for the exit code.
std::atomic<int> lastSignal{0};

void onSignal(int number) {
  auto cancel = cancelFunction.load();
  if (cancel && caught.exchange(number) == 0) {
    lastSignal.store(number);
    cancel(cancelArgument.load());
    return;
  }
  removeUnfinishedOutputs();
  ::_exit(128 + number);
}

int reportError(const Status &status) {
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return 1;
}

Status fileError(const char *what, const char *verb) {
  return Status::error(Code::Io, std::string(what) + ": cannot " + verb + ": " +
                                     std::strerror(errno));
}

} // namespace

int runTool(CLI::App &app, int argc, char **argv, const Action &action) {
  installSignalHandlers();
  try {
    app.parse(argc, argv);
    Status status = action();
    if (!status.isOk() && status.code() != Code::Cancelled)
      return reportError(status);
    if (int number = lastSignal.load())
      return 128 + number;
    return status.isOk() ? 0 : reportError(status);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const UsageError &error) {
    std::fprintf(stderr, "%s\nRun with --help for more information.\n",
                 error.what());
    return 2;
  } catch (const DifferenceFound &) {
    return 3;
  } catch (const std::bad_alloc &) {
    return reportError(Status::error(Code::OutOfMemory, "out of memory"));
  } catch (const std::exception &error) {
    return reportError(Status::error(Code::Internal, error.what()));
  }
}

Status writeOut(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
      std::fflush(stdout) != 0)
    return fileError("standard output", "write");
  return Status::ok();
}

Result<std::string> readInput(const std::string &path) {
  if (path != "-")
    return readFile(path, kMaxInput);
  std::string out;
  char buffer[65536];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) {
    out.append(buffer, n);
    if (out.size() > kMaxInput)
      return Status::error(Code::InvalidArgument,
                           "standard input: expected at most " +
                               std::to_string(kMaxInput) + " bytes");
  }
  if (std::ferror(stdin))
    return fileError("standard input", "read");
  return out;
}

Result<std::vector<int32_t>> parseIds(const std::string &text) {
  std::string list = text;
  if (text.starts_with('@')) {
    RETORT_ASSIGN_OR_RETURN(list, readInput(text.substr(1)));
  }
  std::vector<int32_t> ids;
  const char *at = list.data(), *end = at + list.size();
  auto isSeparator = [](char c) {
    return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
  };
  while (true) {
    while (at != end && isSeparator(*at))
      ++at;
    if (at == end)
      return ids;
    int32_t id;
    auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || (next != end && !isSeparator(*next)))
      return Status::error(
          Code::InvalidArgument,
          "tokens: expected numbers separated by commas, found '" +
              std::string(at, std::min<size_t>(end - at, 20)) + "' at byte " +
              std::to_string(at - list.data()));
    ids.push_back(id);
    at = next;
  }
}

std::string formatIds(std::span<const int32_t> ids) {
  std::string out;
  for (int32_t id : ids)
    out += (out.empty() ? "" : ",") + std::to_string(id);
  return out;
}

Status checkUtf8(std::string_view what, std::string_view text) {
  size_t at = text::findInvalidUtf8(text);
  if (at == std::string_view::npos)
    return Status::ok();
  return Status::error(
      Code::InvalidArgument,
      std::string(what) + ": expected UTF-8, found an invalid byte at offset " +
          std::to_string(at));
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void noteUnverifiedWeights(uint64_t weights, uint64_t memory) {
  std::fprintf(stderr,
               "weights take %s of %s memory: read from disk as needed; retort "
               "check verifies them\n",
               formatBytes(weights).c_str(), formatBytes(memory).c_str());
}

CancelScope::CancelScope(void (*cancel)(void *), void *argument) {
  caught.store(0);
  cancelArgument.store(argument);
  cancelFunction.store(cancel);
}

CancelScope::~CancelScope() { cancelFunction.store(nullptr); }

int CancelScope::pendingSignal() { return lastSignal.load(); }

void CancelScope::takeSignal() { lastSignal.store(0); }

void installSignalHandlers() {
  struct sigaction action{};
  action.sa_handler = onSignal;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGHUP, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void addPlacement(CLI::App &command, const std::string &name,
                  Placement &placement, const std::string &help) {
  const std::map<std::string, Placement> names = {{"auto", Placement::Auto},
                                                  {"on", Placement::On},
                                                  {"off", Placement::Off}};
  command.add_option(name, placement, help + ": auto, on or off")
      ->transform(CLI::CheckedTransformer(names))
      ->type_name("WHEN")
      ->default_str("auto");
}

} // namespace retort::tools
