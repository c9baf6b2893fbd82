//===- InspectCommand.cpp - What an artifact holds --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Batch.h"
#include "runtime/engine/Memory.h"
#include "runtime/engine/Workers.h"
#include "runtime/loader/Artifact.h"
#include "runtime/loader/Cpu.h"
#include "runtime/loader/Elf.h"
#include "runtime/loader/Semantics.h"
#include "runtime/loader/WeightStamps.h"
#include "tools/common/CertificateView.h"
#include "tools/common/Commands.h"

#include <cstdarg>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace retort::tools {
namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  uint32_t context = 0, threads = 0, sequences = 1;
  bool weights = false, program = false, code = false, certificate = false,
       json = false;
};

std::string kindName(abi::SectionKind kind) {
  const char *names[] = {"code", "weights", "text", "data"};
  return names[static_cast<int>(kind)];
}

Json modelJson(const abi::Index &index) {
  const abi::Model &m = *index.model();
  Json out = {{"family", m.family()->str()},
              {"name", m.name()->str()},
              {"parameters", m.parameters()},
              {"vocab_size", m.vocab_size()},
              {"hidden_size", m.hidden_size()},
              {"intermediate_size", m.intermediate_size()},
              {"num_layers", m.num_layers()},
              {"num_heads", m.num_heads()},
              {"num_kv_heads", m.num_kv_heads()},
              {"head_dim", m.head_dim()},
              {"max_context", m.max_context()},
              {"max_chunk", m.max_chunk()},
              {"bos_id", m.bos_id()},
              {"eos_ids", Json::array()}};
  if (m.eos_ids())
    for (int32_t id : *m.eos_ids())
      out["eos_ids"].push_back(id);
  return out;
}

Json targetsJson(const abi::Index &index) {
  Json out = Json::array();
  auto used = chooseTarget(index, hostCpu());
  for (const abi::Target *target : *index.targets()) {
    Json features = Json::array();
    for (const auto *feature : *target->features())
      features.push_back(feature->str());
    bool runs =
        chooseTarget(index, hostCpu(), target->name()->string_view()).isOk();
    out.push_back({{"name", target->name()->str()},
                   {"triple", target->triple()->str()},
                   {"features", features},
                   {"section", target->section()},
                   {"runs_here", runs},
                   {"used_here", used.isOk() && *used == out.size()}});
  }
  return out;
}

Json sectionsJson(const abi::Index &index) {
  Json out = Json::array();
  for (const abi::Section *section : *index.sections())
    out.push_back({{"name", section->name()->str()},
                   {"kind", kindName(section->kind())},
                   {"offset", section->offset()},
                   {"size", section->size()},
                   {"raw_size", section->raw_size()}});
  return out;
}

Json partsJson(const abi::Index &index) {
  Json out = Json::array();
  if (index.parts())
    for (const abi::Part *part : *index.parts())
      out.push_back({{"name", part->name()->str()}, {"size", part->size()}});
  return out;
}

/// Totals per encoding.
Json encodingsJson(const abi::Index &index) {
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  for (const abi::Weight *weight : *index.program()->weights()) {
    Sum &sum = sums[weight->encoding()->str()];
    ++sum.tensors;
    sum.elements += weight->rows() * weight->cols();
    sum.bytes += weight->stored_size();
  }
  Json out = Json::array();
  for (auto &[name, sum] : sums)
    out.push_back({{"encoding", name},
                   {"tensors", sum.tensors},
                   {"elements", sum.elements},
                   {"bytes", sum.bytes},
                   {"bits_per_element",
                    sum.elements ? 8.0 * sum.bytes / sum.elements : 0.0}});
  return out;
}

Json weightsJson(const abi::Index &index) {
  Json out = Json::array();
  for (const abi::Weight *weight : *index.program()->weights()) {
    Json sources = Json::array();
    if (weight->sources())
      for (const auto *source : *weight->sources())
        sources.push_back(source->str());
    out.push_back({{"name", weight->name()->str()},
                   {"encoding", weight->encoding()->str()},
                   {"rows", weight->rows()},
                   {"cols", weight->cols()},
                   {"offset", weight->offset()},
                   {"size", weight->size()},
                   {"relative_error", weight->relative_error()},
                   {"sources", sources}});
  }
  return out;
}

Json launchJson(const abi::Program &program, const abi::Launch &launch) {
  Json args = Json::array();
  for (const abi::Arg *arg : *launch.args())
    args.push_back(
        arg->kind() == abi::ArgKind::Buffer
            ? "buffer " + program.buffers()->Get(arg->index())->name()->str()
            : "weight " + program.weights()->Get(arg->index())->name()->str());
  return {{"label", launch.label()->str()},
          {"kernel", program.kernels()->Get(launch.kernel())->symbol()->str()},
          {"layer", launch.layer()},
          {"tiles", launch.tiles()},
          {"tokens_per_tile", launch.tokens_per_tile()},
          {"args", args},
          {"weight_bytes", launch.weight_bytes()},
          {"bytes_per_token", launch.bytes_per_token()},
          {"bytes_per_pair", launch.bytes_per_pair()},
          {"flops_per_token", launch.flops_per_token()},
          {"flops_per_pair", launch.flops_per_pair()},
          {"reads_position", launch.reads_position()}};
}

Json programJson(const abi::Program &program) {
  Json buffers = Json::array(), kernels = Json::array(), phases = Json::array();
  for (const abi::Buffer *buffer : *program.buffers())
    buffers.push_back(
        {{"name", buffer->name()->str()},
         {"kind",
          buffer->kind() == abi::BufferKind::Cache ? "cache" : "activation"},
         {"fixed_bytes", buffer->fixed_bytes()},
         {"bytes_per_token", buffer->bytes_per_token()},
         {"bytes_per_position", buffer->bytes_per_position()}});
  for (const abi::Kernel *kernel : *program.kernels())
    kernels.push_back({{"symbol", kernel->symbol()->str()},
                       {"scratch_bytes", kernel->scratch_bytes()},
                       {"num_args", kernel->num_args()},
                       {"prepares", kernel->prepares()},
                       {"tuned_strips", kernel->tuned_strips()},
                       {"tuned_gain", kernel->tuned_gain()}});
  for (const abi::Phase *phase : *program.phases()) {
    Json launches = Json::array();
    for (const abi::Launch *launch : *phase->launches())
      launches.push_back(launchJson(program, *launch));
    phases.push_back({{"kind", phaseKindName(phase->kind())},
                      {"min_tokens", phase->min_tokens()},
                      {"max_tokens", phase->max_tokens()},
                      {"launches", launches}});
  }
  return {{"buffers", buffers}, {"kernels", kernels}, {"phases", phases}};
}

/// What `compile --tune` chose over the tables, by the labels of the launches.
Json tuningJson(const abi::Program &program) {
  Json out = Json::array();
  std::set<uint32_t> seen;
  for (const abi::Phase *phase : *program.phases())
    for (const abi::Launch *launch : *phase->launches()) {
      const abi::Kernel &kernel = *program.kernels()->Get(launch->kernel());
      if (kernel.tuned_strips() == 0 || !seen.insert(launch->kernel()).second)
        continue;
      out.push_back({{"kernel", kernel.symbol()->str()},
                     {"label", launch->label()->str()},
                     {"min_tokens", phase->min_tokens()},
                     {"max_tokens", phase->max_tokens()},
                     {"strips", kernel.tuned_strips()},
                     {"tiles", launch->tiles()},
                     {"gain", kernel.tuned_gain()}});
    }
  return out;
}

Result<Json> codeJson(const Artifact &artifact) {
  Json out = Json::array();
  for (const abi::Target *target : *artifact.index().targets()) {
    auto object = readElf(artifact.section(target->section()));
    if (!object.isOk())
      return object.takeStatus().withContext(artifact.path() + ": target '" +
                                             target->name()->str() + "'");
    Json symbols = Json::array();
    for (const ElfSymbol &symbol : object->symbols)
      symbols.push_back({{"name", symbol.name},
                         {"address", symbol.address},
                         {"size", symbol.size},
                         {"function", symbol.function},
                         {"defined", symbol.defined}});
    out.push_back({{"target", target->name()->str()},
                   {"arch", object->arch},
                   {"code_bytes", object->codeBytes},
                   {"mapped_bytes", object->mappedBytes},
                   {"symbols", symbols}});
  }
  return out;
}

Result<Json> describe(const Artifact &artifact, const InspectOptions &o) {
  const abi::Index &index = artifact.index();
  uint32_t context = o.context ? o.context : index.model()->max_context();
  unsigned threads = o.threads ? o.threads : availableProcessors();
  RETORT_ASSIGN_OR_RETURN(MemoryUse memory,
                          predictMemory(index, context, threads, o.sequences));
  Json out = {{"path", artifact.path()},
              {"bytes", artifact.storedBytes()},
              {"producer", index.producer()->str()},
              {"model", modelJson(index)},
              {"targets", targetsJson(index)},
              {"sections", sectionsJson(index)},
              {"parts", partsJson(index)},
              {"encodings", encodingsJson(index)},
              {"weights_stored", !index.program()->without_weights()},
              {"weights_verified", artifact.weightsVerified()},
              {"memory",
               {{"context", context},
                {"threads", threads},
                {"sequences", o.sequences},
                {"weights", memory.weights},
                {"activations", memory.activations},
                {"caches", memory.caches},
                {"scratch", memory.scratch},
                {"text", memory.text},
                {"total", memory.total()}}},
              {"self_test", index.self_test() != nullptr},
              {"certificate", artifact.hasText(kCertificateSection)},
              {"properties", Json::object()}};
  if (index.properties())
    for (const abi::Property *property : *index.properties())
      out["properties"][property->key()->str()] = property->value()->str();
  out["tuning"] = tuningJson(*index.program());
  if (o.weights)
    out["weights"] = weightsJson(index);
  if (o.program)
    out["program"] = programJson(*index.program());
  if (o.code) {
    RETORT_ASSIGN_OR_RETURN(out["code"], codeJson(artifact));
  }
  return out;
}

/// Builds lines of text with printf formats.
class Printer {
public:
  __attribute__((format(printf, 2, 3))) void line(const char *format, ...) {
    char buffer[1024];
    va_list args;
    va_start(args, format);
    std::vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    text += buffer;
    text += '\n';
  }
  std::string text;
};

std::string bytesOf(const Json &value) {
  return formatBytes(value.get<uint64_t>());
}

unsigned long long numberOf(const Json &value) { return value.get<uint64_t>(); }

/// A view of the string that lives as long as the description.
const char *stringOf(const Json &value) {
  return value.get_ref<const std::string &>().c_str();
}

void printSummary(const Json &d, Printer &out) {
  const Json &m = d["model"];
  out.line("%s: %s, %s", stringOf(d["path"]), bytesOf(d["bytes"]).c_str(),
           stringOf(d["producer"]));
  out.line("model     %s (%s), %.3g billion parameters", stringOf(m["name"]),
           stringOf(m["family"]), m["parameters"].get<double>() / 1e9);
  out.line("          %llu layers, hidden %llu, intermediate %llu, heads "
           "%llu/%llu of %llu, vocabulary %llu",
           numberOf(m["num_layers"]), numberOf(m["hidden_size"]),
           numberOf(m["intermediate_size"]), numberOf(m["num_heads"]),
           numberOf(m["num_kv_heads"]), numberOf(m["head_dim"]),
           numberOf(m["vocab_size"]));
  out.line("          context %llu, chunks of %llu", numberOf(m["max_context"]),
           numberOf(m["max_chunk"]));
  for (const Json &t : d["targets"]) {
    std::string features;
    for (const Json &f : t["features"])
      features += (features.empty() ? "" : " ") + f.get<std::string>();
    out.line("target    %s%s: %s", stringOf(t["name"]),
             t["used_here"].get<bool>()   ? " (used on this machine)"
             : t["runs_here"].get<bool>() ? ""
                                          : " (not for this machine)",
             features.c_str());
  }
  for (const Json &t : d["tuning"])
    out.line("tuned     %-20s %llu to %llu tokens: %llu strips a tile, %.2f "
             "times as fast as the table's",
             stringOf(t["label"]), numberOf(t["min_tokens"]),
             numberOf(t["max_tokens"]), numberOf(t["strips"]),
             t["gain"].get<double>());
  if (!d["weights_stored"].get<bool>())
    out.line("weights   none, compiled without weights: their sizes are what "
             "they would take");
  else
    out.line("weights   %s",
             d["weights_verified"].get<bool>()
                 ? "were found to match their hashes on this machine"
                 : "have not been checked on this machine");
  for (const Json &e : d["encodings"])
    out.line("encoding  %-24s %5llu tensors  %10s  %.2f bits per element",
             stringOf(e["encoding"]), numberOf(e["tensors"]),
             bytesOf(e["bytes"]).c_str(), e["bits_per_element"].get<double>());
  for (const Json &s : d["sections"])
    out.line("section   %-32s %10s", stringOf(s["name"]),
             bytesOf(s["size"]).c_str());
  for (const Json &p : d["parts"])
    out.line("part      %-48s %10s", stringOf(p["name"]),
             bytesOf(p["size"]).c_str());
  const Json &use = d["memory"];
  uint64_t sequences = use["sequences"];
  std::string many =
      sequences > 1 ? " for each of " + std::to_string(sequences) + " sequences"
                    : "";
  out.line("memory    %s at a context of %llu%s: weights %s, caches %s, "
           "activations %s, scratch %s, tokenizer %s",
           bytesOf(use["total"]).c_str(), numberOf(use["context"]),
           many.c_str(), bytesOf(use["weights"]).c_str(),
           bytesOf(use["caches"]).c_str(), bytesOf(use["activations"]).c_str(),
           bytesOf(use["scratch"]).c_str(), bytesOf(use["text"]).c_str());
  out.line("self test %s, certificate %s",
           d["self_test"].get<bool>() ? "stored" : "none",
           d["certificate"].get<bool>() ? "stored (--certificate)" : "none");
  for (const auto &[key, value] : d["properties"].items())
    out.line("property  %s = %s", key.c_str(), stringOf(value));
}

void printWeights(const Json &weights, Printer &out) {
  out.line("\n%-40s %-24s %10s %10s %12s %9s", "weight", "encoding", "rows",
           "cols", "bytes", "error");
  for (const Json &w : weights)
    out.line("%-40s %-24s %10llu %10llu %12llu %9.2e", stringOf(w["name"]),
             stringOf(w["encoding"]), numberOf(w["rows"]), numberOf(w["cols"]),
             numberOf(w["size"]), w["relative_error"].get<double>());
}

void printProgram(const Json &program, Printer &out) {
  out.line("\n%-24s %-10s %12s %12s %12s", "buffer", "kind", "fixed",
           "per token", "per position");
  for (const Json &b : program["buffers"])
    out.line("%-24s %-10s %12llu %12llu %12llu", stringOf(b["name"]),
             stringOf(b["kind"]), numberOf(b["fixed_bytes"]),
             numberOf(b["bytes_per_token"]), numberOf(b["bytes_per_position"]));
  for (const Json &phase : program["phases"]) {
    out.line("\n%s of %llu to %llu tokens", stringOf(phase["kind"]),
             numberOf(phase["min_tokens"]), numberOf(phase["max_tokens"]));
    for (const Json &l : phase["launches"]) {
      std::string args;
      for (const Json &arg : l["args"])
        args += (args.empty() ? "" : ", ") + arg.get<std::string>();
      std::string layer = l["layer"].get<int>() < 0
                              ? "-"
                              : std::to_string(l["layer"].get<int>());
      out.line("  %4s  %-28s %s(%s) tiles %llu%s", layer.c_str(),
               stringOf(l["label"]), stringOf(l["kernel"]), args.c_str(),
               numberOf(l["tiles"]),
               numberOf(l["tokens_per_tile"])
                   ? (" per " + l["tokens_per_tile"].dump() + " tokens").c_str()
                   : "");
    }
  }
}

void printCode(const Json &code, Printer &out) {
  for (const Json &object : code) {
    out.line("\n%s (%s): %s of code, %s mapped", stringOf(object["target"]),
             stringOf(object["arch"]), bytesOf(object["code_bytes"]).c_str(),
             bytesOf(object["mapped_bytes"]).c_str());
    for (const Json &symbol : object["symbols"])
      out.line("  0x%08llx %8llu  %s", numberOf(symbol["address"]),
               numberOf(symbol["size"]), stringOf(symbol["name"]));
  }
}

Status inspect(const InspectOptions &o) {
  OpenOptions open;
  open.weights = WeightCheck::Never;
  open.stampFolder = defaultStampFolder();
  open.allowMissingWeights = true;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(o.model, open));
  if (o.certificate) {
    RETORT_ASSIGN_OR_RETURN(auto certificate, readCertificate(*artifact));
    if (!certificate)
      return noCertificate(*artifact);
    return writeOut(
        o.json ? certificateJson(*certificate, artifact->index())
                         .dump(2, ' ', false, Json::error_handler_t::replace) +
                     "\n"
               : certificateText(*certificate, artifact->index()));
  }
  RETORT_ASSIGN_OR_RETURN(Json description, describe(*artifact, o));
  if (o.json)
    // Names need not be UTF-8: the file is somebody else's.
    return writeOut(
        description.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  Printer out;
  printSummary(description, out);
  if (o.weights)
    printWeights(description["weights"], out);
  if (o.program)
    printProgram(description["program"], out);
  if (o.code)
    printCode(description["code"], out);
  return writeOut(out.text);
}

} // namespace

Action addInspectCommand(CLI::App &command) {
  auto o = std::make_shared<InspectOptions>();
  command.add_option("MODEL", o->model, "Compiled model")->required();
  command
      .add_option("--context", o->context,
                  "Predict memory at N positions; default: the maximum")
      ->check(CLI::Range(1, INT32_MAX));
  command
      .add_option("--threads", o->threads,
                  "Predict memory with N threads; default: all processors")
      ->check(CLI::Range(1, INT32_MAX));
  command
      .add_option("--sequences", o->sequences,
                  "Predict memory of a batch of N sequences; default: 1")
      ->check(CLI::Range(1u, Batch::kMaxSequences));
  command.add_flag("--weights", o->weights, "List the packed tensors");
  command.add_flag("--program", o->program, "List buffers and launches");
  command.add_flag("--code", o->code, "List the code's symbols");
  command.add_flag("--certificate", o->certificate,
                   "Print what the artifact says of its fidelity, alone");
  command.add_flag("--json", o->json, "Print JSON");
  return [o] { return inspect(*o); };
}

} // namespace retort::tools
