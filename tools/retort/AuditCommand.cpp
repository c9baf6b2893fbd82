//===- AuditCommand.cpp - retort audit --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/AuditCommand.h"

#include "compiler/pipelines/Audit.h"
#include "tools/common/Progress.h"

#include <nlohmann/json.hpp>
#include <random>

namespace retort::tools {
namespace {

struct AuditFlags {
  AuditOptions options;
  std::optional<uint64_t> seed;
  bool all = false, json = false;
};

std::string toJson(const AuditReport &report, const AuditOptions &options) {
  nlohmann::ordered_json json = {{"artifact", options.artifact},
                                 {"source", options.checkpoint},
                                 {"seed", options.seed},
                                 {"tensors", report.tensors},
                                 {"bytes", report.bytes},
                                 {"audited", report.audited},
                                 {"audited_bytes", report.auditedBytes},
                                 {"differing", report.differing},
                                 {"hashed_sources", report.hashed},
                                 {"other_sources", report.otherSources}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

Status audit(AuditFlags &flags) {
  AuditOptions &options = flags.options;
  if (flags.all)
    options.samples = 0;
  // Who made the artifact must not know which tensors will be looked at.
  options.seed = flags.seed ? *flags.seed : std::random_device{}();
  CancelFlag cancel;
  options.cancel = cancel.get();
  Progress progress(stderr);
  options.progress = [&](const std::string &name, uint64_t done,
                         uint64_t total) {
    progress.update("packing " + name + " (" + std::to_string(done + 1) +
                        " of " + std::to_string(total) + ")",
                    0, 0);
  };
  progress.update("compiling", 0, 0);
  Result<AuditReport> report = auditArtifact(options);
  progress.finish();
  if (!report.isOk())
    return report.takeStatus();
  if (flags.json)
    RETORT_RETURN_IF_ERROR(writeOut(toJson(*report, options)));
  if (!report->differing.empty()) {
    std::string names;
    for (const std::string &name : report->differing)
      names += (names.empty() ? "" : ", ") + name;
    return Status::error(Code::InvalidData,
                         options.artifact + ": " +
                             std::to_string(report->differing.size()) + " of " +
                             std::to_string(report->audited.size()) +
                             " tensors are not what packing " +
                             options.checkpoint + " gives: " + names);
  }
  if (!report->otherSources.empty()) {
    std::string names;
    for (const std::string &name : report->otherSources)
      names += (names.empty() ? "" : ", ") + name;
    return Status::error(
        Code::InvalidData,
        options.artifact +
            ": certificate: " + std::to_string(report->otherSources.size()) +
            " of " + std::to_string(report->hashed) + " tensors of " +
            options.checkpoint + " have other hashes: " + names);
  }
  if (flags.json)
    return Status::ok();
  if (report->hashed > 0)
    RETORT_RETURN_IF_ERROR(writeOut(
        std::to_string(report->hashed) + " tensors of " + options.checkpoint +
        " have the SHA-256 that the certificate names\n"));
  return writeOut(std::to_string(report->audited.size()) + " of " +
                  std::to_string(report->tensors) + " tensors, " +
                  fixed(static_cast<double>(report->auditedBytes) / 1e6, 1) +
                  " of " + fixed(static_cast<double>(report->bytes) / 1e6, 1) +
                  " MB, are byte by byte what packing " + options.checkpoint +
                  " gives (seed " + std::to_string(options.seed) + ")\n");
}

} // namespace

Action addAuditCommand(CLI::App &command) {
  auto flags = std::make_shared<AuditFlags>();
  AuditOptions &o = flags->options;
  command.add_option("MODEL", o.artifact, "compiled model")->required();
  command
      .add_option("--source", o.checkpoint,
                  "the checkpoint that it is said to come from")
      ->required();
  auto *samples = command
                      .add_option("--samples", o.samples,
                                  "tensors to pack again, chosen at random")
                      ->check(CLI::PositiveNumber)
                      ->capture_default_str();
  command.add_flag("--all", flags->all, "pack all of them again")
      ->excludes(samples);
  command
      .add_option("--seed", flags->seed,
                  "of the choice; default: drawn from the system")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max-ram", o.maxRam,
                  "resident memory to stay below, e.g. 512MB (default 2GB)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  command.add_option("--threads", o.threads, "default: all processors")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--json", flags->json, "report in JSON");
  return [flags] { return audit(*flags); };
}

} // namespace retort::tools
