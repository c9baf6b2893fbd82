//===- PlanCommand.cpp - retort plan ----------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/retort/PlanCommand.h"

#include "compiler/pipelines/Predict.h"
#include "compiler/quantize/WeightChoice.h"
#include "runtime/engine/Machine.h"
#include "runtime/engine/Workers.h"

#include <cstdarg>
#include <nlohmann/json.hpp>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

struct PlanOptions {
  std::vector<std::string> checkpoints;
  std::vector<std::string> weights;
  std::string compare;
  std::string kv = "auto";
  uint64_t context = 0;
  int groupSize = 32;
  uint32_t threads = 0;
  bool json = false;
};

/// Costs of one checkpoint, one per encoding.
using Costs = std::vector<ModelCost>;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 100 ? "%.0f" : "%.3g", value);
  return text;
}

/// "1.23 GB" from bytes, "12.3 GFLOP" from operations.
std::string scaled(double value, const char *unit) {
  const char *prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  while (value >= 999.5 && prefix + 1 < std::size(prefixes)) {
    value /= 1000;
    ++prefix;
  }
  return number(value) + " " + prefixes[prefix] + unit;
}

Result<MachineSpec> thisMachine(unsigned threads) {
  RETORT_ASSIGN_OR_RETURN(auto workers, Workers::create(threads));
  constexpr int kRounds = 5;
  std::vector<MachinePeaks> rounds;
  for (int i = 0; i < kRounds; ++i) {
    RETORT_ASSIGN_OR_RETURN(MachinePeaks round, measureMachine(*workers));
    rounds.push_back(round);
  }
  MachinePeaks peaks = medianOf(rounds);
  return MachineSpec{"this machine", peaks.readGbps, peaks.gflops / 1e3,
                     static_cast<double>(physicalMemory()) / 1e9, false};
}

Result<Costs> costsOf(const PlanOptions &o, const std::string &checkpoint,
                      unsigned threads) {
  Costs costs;
  for (const std::string &weights : o.weights) {
    CompileOptions options;
    options.checkpoint = checkpoint;
    options.weights = weights;
    options.groupSize = o.groupSize;
    options.kv = o.kv;
    RETORT_ASSIGN_OR_RETURN(ModelCost cost,
                            costOfModel(options, o.context, threads));
    costs.push_back(std::move(cost));
  }
  return costs;
}

Json workJson(const StepWork &work, double tokens) {
  return {{"bytes", work.bytes / tokens}, {"flops", work.flops / tokens}};
}

Json toJson(const Costs &costs, std::span<const MachineSpec> machines) {
  const ModelCost &first = costs.front();
  Json out = {{"name", first.name},
              {"family", first.family},
              {"parameters", first.parameters},
              {"context", first.context},
              {"prefill_chunk", first.chunk},
              {"plans", Json::array()}};
  for (const ModelCost &cost : costs) {
    Json plan = {{"weights", cost.weights},
                 {"kv", cost.kv},
                 {"artifact_bytes", cost.artifactBytes},
                 {"weight_bytes", cost.weightBytes},
                 {"memory",
                  {{"total", cost.memory.total()},
                   {"weights", cost.memory.weights},
                   {"caches", cost.memory.caches},
                   {"activations", cost.memory.activations},
                   {"scratch", cost.memory.scratch}}},
                 {"decoded_token", workJson(cost.decodeTotal(), 1)},
                 {"prefill_token", workJson(cost.prefillTotal(),
                                            static_cast<double>(cost.chunk))},
                 {"machines", Json::array()}};
    for (const MachineSpec &machine : machines) {
      Speed speed = predictSpeed(cost, machine);
      plan["machines"].push_back({{"name", machine.name},
                                  {"gbps", machine.gbps},
                                  {"tflops", machine.tflops},
                                  {"memory_gb", machine.memoryGb},
                                  {"fits", fits(cost, machine)},
                                  {"decode_tps", speed.decodeTps},
                                  {"prefill_tps", speed.prefillTps}});
    }
    out["plans"].push_back(std::move(plan));
  }
  return out;
}

void append(std::string &out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void append(std::string &out, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  out += line;
}

std::string toText(const Costs &costs, std::span<const MachineSpec> machines) {
  const ModelCost &first = costs.front();
  std::string out;
  append(out, "%s (%s): %s parameters; context %llu, prompts of %llu tokens\n",
         first.name.c_str(), first.family.c_str(),
         scaled(static_cast<double>(first.parameters), "").c_str(),
         static_cast<unsigned long long>(first.context),
         static_cast<unsigned long long>(first.chunk));
  append(out, "\n%-24s %10s %10s   %-26s %s\n", "weights", "artifact", "memory",
         "decoded token", "prompt token");
  for (const ModelCost &cost : costs) {
    StepWork decode = cost.decodeTotal(), prefill = cost.prefillTotal();
    auto chunk = static_cast<double>(cost.chunk);
    append(out, "%-24s %10s %10s   %10s %12s    %10s %12s\n",
           cost.weights.c_str(), formatBytes(cost.artifactBytes).c_str(),
           formatBytes(cost.memory.total()).c_str(),
           scaled(decode.bytes, "B").c_str(),
           scaled(decode.flops, "FLOP").c_str(),
           scaled(prefill.bytes / chunk, "B").c_str(),
           scaled(prefill.flops / chunk, "FLOP").c_str());
  }
  append(out, "\n%-26s %7s %8s %8s", "decode / prefill t/s", "GB/s", "TFLOPS",
         "memory");
  for (const ModelCost &cost : costs)
    append(out, "  %15s", cost.weights.c_str());
  out += "\n";
  for (const MachineSpec &machine : machines) {
    append(out, "%-26s %7s %8s %5s GB", machine.name.c_str(),
           number(machine.gbps).c_str(), number(machine.tflops).c_str(),
           number(machine.memoryGb).c_str());
    for (const ModelCost &cost : costs) {
      Speed speed = predictSpeed(cost, machine);
      std::string cell = "does not fit";
      if (fits(cost, machine))
        cell = number(speed.decodeTps) + " / " + number(speed.prefillTps);
      append(out, "  %15s", cell.c_str());
    }
    out += "\n";
  }
  return out;
}

/// A row per model and encoding, with its speed over that of the first.
std::string toComparison(const std::vector<Costs> &models,
                         const MachineSpec &machine) {
  std::string out;
  append(out,
         "On %s (%s GB/s, %s TFLOPS, %s GB), context %llu:\n\n"
         "| model | weights | parameters | artifact | memory | bytes/token | "
         "flops/token | decode t/s | ratio | prefill t/s | ratio |\n"
         "|---|---|---|---|---|---|---|---|---|---|---|\n",
         machine.name.c_str(), number(machine.gbps).c_str(),
         number(machine.tflops).c_str(), number(machine.memoryGb).c_str(),
         static_cast<unsigned long long>(models.front().front().context));
  Speed first = predictSpeed(models.front().front(), machine);
  for (const Costs &costs : models)
    for (const ModelCost &cost : costs) {
      Speed speed = predictSpeed(cost, machine);
      StepWork work = cost.decodeTotal();
      append(
          out, "| %s | %s | %s | %s | %s%s | %s | %s | %s | %s | %s | %s |\n",
          cost.name.c_str(), cost.weights.c_str(),
          scaled(static_cast<double>(cost.parameters), "").c_str(),
          formatBytes(cost.artifactBytes).c_str(),
          formatBytes(cost.memory.total()).c_str(),
          fits(cost, machine) ? "" : " (does not fit)",
          scaled(work.bytes, "B").c_str(), scaled(work.flops, "FLOP").c_str(),
          number(speed.decodeTps).c_str(),
          number(speed.decodeTps / first.decodeTps).c_str(),
          number(speed.prefillTps).c_str(),
          number(speed.prefillTps / first.prefillTps).c_str());
    }
  return out;
}

Status plan(const PlanOptions &o) {
  unsigned threads = o.threads ? o.threads : availableProcessors();
  std::vector<Costs> models;
  for (const std::string &checkpoint : o.checkpoints) {
    RETORT_ASSIGN_OR_RETURN(Costs costs, costsOf(o, checkpoint, threads));
    models.push_back(std::move(costs));
  }
  RETORT_ASSIGN_OR_RETURN(MachineSpec here, thisMachine(threads));
  std::vector<MachineSpec> machines = {here};
  for (const MachineSpec &machine : machinePresets())
    machines.push_back(machine);
  if (!o.compare.empty()) {
    for (const MachineSpec &machine : machines)
      if (machine.name.find(o.compare) != std::string::npos)
        return writeOut(toComparison(models, machine));
    std::string known;
    for (const MachineSpec &machine : machines)
      known += (known.empty() ? "" : "; ") + machine.name;
    throw UsageError("--compare: expected a part of one of: " + known +
                     "; found '" + o.compare + "'");
  }
  if (o.json) {
    Json out = Json::array();
    for (const Costs &costs : models)
      out.push_back(toJson(costs, machines));
    if (out.size() == 1)
      out = Json(out[0]);
    return writeOut(out.dump(2, ' ', false, Json::error_handler_t::replace) +
                    "\n");
  }
  std::string out;
  for (const Costs &costs : models)
    out += (out.empty() ? "" : "\n") + toText(costs, machines);
  return writeOut(out);
}

} // namespace

Action addPlanCommand(CLI::App &command) {
  auto o = std::make_shared<PlanOptions>();
  o->weights = {"keep", "bf16", "int8", "int4"};
  command
      .add_option("checkpoint", o->checkpoints,
                  "directories with a config.json; weights need not be there")
      ->required();
  command
      .add_option("--weights", o->weights,
                  "as compile takes it, may be repeated; default: keep, bf16, "
                  "int8 and int4")
      ->allow_extra_args(false)
      ->check([](const std::string &text) {
        Result<WeightChoice> choice = parseWeightChoice(text);
        return choice.isOk() ? std::string() : choice.status().message();
      });
  command.add_option("--group-size", o->groupSize, "inputs that share a scale")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  command.add_option("--kv", o->kv, "what caches hold, as compile takes it")
      ->check(CLI::IsMember({"auto", "f32", "f16", "bf16", "int8"}))
      ->capture_default_str();
  command
      .add_option("--context", o->context,
                  "positions of a session; default: 4096, or the model's if "
                  "fewer")
      ->check(CLI::Range(1, INT32_MAX));
  command
      .add_option("--threads", o->threads,
                  "threads on this machine; default: all processors")
      ->check(CLI::Range(1, 1024));
  command.add_option("--compare", o->compare,
                     "one table of all models for the machine with this in its "
                     "name, in Markdown");
  command.add_flag("--json", o->json, "print JSON");
  return [o] { return plan(*o); };
}

} // namespace retort::tools
