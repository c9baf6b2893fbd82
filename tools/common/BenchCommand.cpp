//===- BenchCommand.cpp - Speed of a model ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Bench.h"

#include "runtime/api/ModelText.h"
#include "runtime/engine/Batch.h"
#include "runtime/engine/Session.h"
#include "tools/common/Commands.h"

#include <algorithm>
#include <charconv>

namespace retort::tools {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Result<std::shared_ptr<const Model>> openModel(const BenchOptions &o) {
  OpenOptions open;
  open.threads = o.threads;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(o.model, open));
  RETORT_RETURN_IF_ERROR(placeWeights(*artifact, o.interleave));
  RETORT_ASSIGN_OR_RETURN(ModelText text, ModelText::read(*artifact));
  RETORT_ASSIGN_OR_RETURN(auto model, Model::load(artifact, o.target));
  uint64_t needed = uint64_t(o.before()) + o.gen;
  if (needed > model->info().max_context())
    return Status::error(Code::InvalidArgument,
                         "context and generated tokens: expected at most " +
                             std::to_string(model->info().max_context()) +
                             ", the model's context, found " +
                             std::to_string(needed));
  return model;
}

std::vector<int32_t> promptTokens(uint32_t count, uint32_t vocab,
                                  uint32_t sequence) {
  std::vector<int32_t> tokens(count);
  for (uint64_t i = 0; i < count; ++i)
    tokens[i] = static_cast<int32_t>((i * 7919 + 17 + sequence * 101) % vocab);
  return tokens;
}

namespace {

struct Numbers {
  std::vector<double> prefillTps, decodeTps, loadMs;
  uint64_t bytesPerToken = 0;
  uint64_t prefillFlops = 0; ///< of the whole prompt
  /// In turn with the model, since what else the machine does comes and goes.
  std::vector<MachinePeaks> machine;
};

Result<std::unique_ptr<Session>> openSession(const BenchOptions &o,
                                             bool ledger) {
  RETORT_ASSIGN_OR_RETURN(auto model, openModel(o));
  SessionOptions options;
  options.threads = o.threads;
  options.pin = o.pin;
  options.prefillChunk = o.prefillChunk;
  options.ledger = ledger;
  options.context = o.before() + o.gen;
  return Session::create(model, options);
}

Status prefill(Session &session, const BenchOptions &o, Numbers &out) {
  auto tokens = promptTokens(o.prompt, session.model().info().vocab_size(), 0);
  Clock::time_point begin = Clock::now();
  RETORT_RETURN_IF_ERROR(session.feed(tokens));
  out.prefillTps.push_back(o.prompt / secondsSince(begin));
  return Status::ok();
}

Status decode(Session &session, const BenchOptions &o, Numbers &out) {
  if (o.gen == 0)
    return Status::ok();
  if (o.before() > o.prompt)
    RETORT_RETURN_IF_ERROR(session.repeatContext(o.before()));
  Sampler sampler(SamplerOptions{});
  Clock::time_point begin = Clock::now();
  for (uint32_t i = 0; i < o.gen; ++i) {
    RETORT_ASSIGN_OR_RETURN(int32_t token, sampler.sample(session.logits()));
    RETORT_RETURN_IF_ERROR(session.feed({&token, 1}));
  }
  out.decodeTps.push_back(o.gen / secondsSince(begin));
  return Status::ok();
}

uint64_t meanBytes(const abi::Program &program, const BenchOptions &o) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < o.gen; ++i)
    sum += stepWork(program, 1, o.before() + i).bytes;
  return o.gen ? sum / o.gen : 0;
}

/// Of the prompt in the chunks that it is computed in.
uint64_t prefillFlops(const Session &session, const BenchOptions &o) {
  const abi::Program &program = *session.model().index().program();
  uint64_t sum = phaseWork(program, abi::PhaseKind::Head, 1, 0).flops;
  for (uint64_t at = 0; at < o.prompt; at += session.prefillChunk())
    sum +=
        phaseWork(program, abi::PhaseKind::Body,
                  std::min<uint64_t>(session.prefillChunk(), o.prompt - at), at)
            .flops;
  return sum;
}

/// A run of its own, since taking times at each launch costs some: the prompt
/// and, if any tokens are generated, these.
Result<std::vector<LedgerPart>> takeLedger(const BenchOptions &o) {
  RETORT_ASSIGN_OR_RETURN(auto session, openSession(o, true));
  const abi::Program &program = *session->model().index().program();
  Numbers numbers;
  std::vector<LedgerPart> parts;
  RETORT_RETURN_IF_ERROR(prefill(*session, o, numbers));
  parts.push_back({"prefill", o.prompt, o.prompt / numbers.prefillTps.back(),
                   summarize(session->ledger(), program)});
  if (o.gen == 0)
    return parts;
  session->resetLedger();
  RETORT_RETURN_IF_ERROR(decode(*session, o, numbers));
  parts.push_back({"decode", o.gen, o.gen / numbers.decodeTps.back(),
                   summarize(session->ledger(), program)});
  return parts;
}

Status bench(const BenchOptions &o) {
  Numbers numbers;
  for (uint32_t rep = 0; rep < o.reps; ++rep) {
    Clock::time_point begin = Clock::now();
    RETORT_ASSIGN_OR_RETURN(auto session, openSession(o, false));
    const Artifact &artifact = session->model().artifact();
    if (rep == 0 && !artifact.weightsVerified())
      noteUnverifiedWeights(artifact.weightBytes(), artifact.physicalMemory());
    numbers.loadMs.push_back(secondsSince(begin) * 1e3);
    RETORT_RETURN_IF_ERROR(prefill(*session, o, numbers));
    RETORT_RETURN_IF_ERROR(decode(*session, o, numbers));
    if (rep == 0) {
      numbers.bytesPerToken = meanBytes(*session->model().index().program(), o);
      numbers.prefillFlops = prefillFlops(*session, o);
    }
    uint32_t threads = session->threads();
    session.reset(); // its workers wait spinning
    RETORT_ASSIGN_OR_RETURN(auto workers, Workers::create(threads));
    RETORT_ASSIGN_OR_RETURN(MachinePeaks peaks, measureMachine(*workers));
    numbers.machine.push_back(peaks);
  }
  MachinePeaks machine = medianOf(numbers.machine);
  std::vector<LedgerPart> ledger;
  if (o.ledger) {
    RETORT_ASSIGN_OR_RETURN(ledger, takeLedger(o));
  }
  double decodeTps = median(numbers.decodeTps);
  double gbps = numbers.bytesPerToken * decodeTps / 1e9;
  double prefillGflops = static_cast<double>(numbers.prefillFlops) / o.prompt *
                         median(numbers.prefillTps) / 1e9;
  if (o.json) {
    Json out = {{"context", o.before()},
                {"prefill_tps", median(numbers.prefillTps)},
                {"decode_tps", decodeTps},
                {"load_ms", median(numbers.loadMs)},
                {"bytes_per_token", numbers.bytesPerToken},
                {"read_gbps", gbps},
                {"machine_gbps", machine.readGbps},
                {"prefill_gflops", prefillGflops},
                {"machine_gflops", machine.gflops},
                {"machine_int8_gops", machine.int8Gops}};
    for (const LedgerPart &part : ledger) {
      for (Json &line : ledgerJson(part, machine))
        out["ledger"].push_back(std::move(line));
      out["ledger_sums"].push_back(ledgerSumJson(part, machine));
    }
    return writeOut(out.dump(2) + "\n");
  }
  char text[768];
  std::snprintf(text, sizeof text,
                "load     %9.1f ms\n"
                "prefill  %9.1f t/s  (%u tokens)\n"
                "decode   %9.1f t/s  (%u tokens behind %u, %.1f MB each)\n"
                "read     %9.1f GB/s in decode (%.0f%% of this machine's %.1f "
                "GB/s)\n"
                "compute  %9.1f GFLOP/s in prefill (%.0f%% of this machine's "
                "%.0f in f32, %.0f%% of %.0f in int8)\n",
                median(numbers.loadMs), median(numbers.prefillTps), o.prompt,
                decodeTps, o.gen, o.before(), numbers.bytesPerToken / 1e6, gbps,
                100 * gbps / machine.readGbps, machine.readGbps, prefillGflops,
                100 * prefillGflops / machine.gflops, machine.gflops,
                100 * prefillGflops / std::max(machine.int8Gops, 1.0),
                machine.int8Gops);
  std::string tables;
  for (const LedgerPart &part : ledger)
    tables += "\n" + ledgerTable(part, machine);
  return writeOut(text + tables);
}

/// Throws what CLI11 makes a usage error of.
std::vector<uint32_t> parseBatch(const std::string &text) {
  std::vector<uint32_t> numbers;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    uint32_t number = 0;
    auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc() || (next != end && *next != ',') || number < 1 ||
        number > Batch::kMaxSequences)
      throw CLI::ValidationError(
          "--batch", "expected numbers from 1 to " +
                         std::to_string(Batch::kMaxSequences) +
                         " separated by commas, found '" + text + "'");
    numbers.push_back(number);
    if (next == end)
      return numbers;
    at = next + 1;
  }
}

} // namespace

Action addBenchCommand(CLI::App &command) {
  auto o = std::make_shared<BenchOptions>();
  command.add_option("MODEL", o->model, "Compiled model")->required();
  command.add_option("--prompt", o->prompt, "Tokens of the prompt")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
  CLI::Option *context =
      command
          .add_option("--context", o->context,
                      "Positions before the first generated token, if that is "
                      "more than the prompt, whose cache is then repeated")
          ->check(CLI::Range(1, 1 << 24));
  command.add_option("--gen", o->gen, "Tokens to generate")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 24));
  command.add_option("--reps", o->reps, "Repetitions; medians are printed")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command
      .add_option("--threads", o->threads, "Threads; default: all processors")
      ->check(CLI::Range(1, INT32_MAX));
  addPlacement(command, "--pin", o->pin, kPinHelp);
  addPlacement(command, "--interleave", o->interleave, kInterleaveHelp);
  command
      .add_option("--prefill-chunk", o->prefillChunk, "Tokens computed at once")
      ->check(CLI::Range(1, INT32_MAX));
  command.add_option("--code", o->target, "Run the code for this target");
  command
      .add_option_function<std::string>(
          "--batch",
          [o](const std::string &text) { o->batch = parseBatch(text); },
          "Decode so many sequences together, for each of these numbers, and "
          "set them against one")
      ->type_name("N,N,...")
      ->excludes(context);
  command.add_flag("--json", o->json, "Print JSON");
  command.add_flag("--ledger", o->ledger,
                   "Print time, bytes and flops of each kind of launch");
  return [o] { return o->batch.empty() ? bench(*o) : benchBatch(*o); };
}

} // namespace retort::tools
