//===- Audit.cpp - Whether weights come from a checkpoint -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Audit.h"

#include "compiler/pack/Packer.h"
#include "compiler/pipelines/Certify.h"
#include "compiler/pipelines/Compile.h"
#include "runtime/loader/Artifact.h"
#include "runtime/loader/Certificate.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace retort {
namespace {

/// Compares what is packed with what the artifact has.
class CompareSink : public WeightSink {
public:
  explicit CompareSink(std::span<const std::byte> expected)
      : expected(expected) {}

  Status write(uint64_t offset, std::span<const std::byte> bytes) override {
    // Zeros up to the next weight may be written behind the end.
    uint64_t size =
        offset < expected.size()
            ? std::min<uint64_t>(bytes.size(), expected.size() - offset)
            : 0;
    if (size != 0 &&
        std::memcmp(expected.data() + offset, bytes.data(), size) != 0)
      differs = true;
    return Status::ok();
  }
  bool found() const { return differs; }

private:
  std::span<const std::byte> expected;
  std::atomic<bool> differs = false;
};

/// What the compile was asked for, as far as weights depend on it.
Result<CompileOptions> optionsOf(const Artifact &artifact,
                                 const AuditOptions &options) {
  CompileOptions compile;
  compile.checkpoint = options.checkpoint;
  compile.threads = options.threads;
  compile.maxRam = options.maxRam;
  compile.cancel = options.cancel;
  compile.maxContext = artifact.index().model()->max_context();
  if (const auto *properties = artifact.index().properties())
    for (const abi::Property *property : *properties) {
      std::string_view key = property->key()->string_view();
      std::string value = property->value()->str();
      if (key == "weights")
        compile.weights = value;
      else if (key == "kv")
        compile.kv = value;
      else if (key == "group_size")
        compile.groupSize = std::atoi(value.c_str());
    }
  if (compile.weights == "plan") {
    std::string section = std::string("text/") + kWeightPlanText;
    RETORT_ASSIGN_OR_RETURN(std::string text, artifact.text(section));
    Result<WeightPlan> plan = parseWeightPlan(text);
    if (!plan)
      return plan.takeStatus().withContext(artifact.path() + ": " + section);
    compile.plan = std::move(*plan);
  }
  return compile;
}

std::string describe(std::string_view name, std::string_view encoding,
                     uint64_t rows, uint64_t cols) {
  return "'" + std::string(name) + "' of " + std::to_string(rows) + " x " +
         std::to_string(cols) + " in " + std::string(encoding);
}

/// Whether both have the same tensors in the same places.
Status compareLists(const Artifact &artifact, const CompilePlan &plan) {
  const auto &have = *artifact.index().program()->weights();
  const auto &want = *flatbuffers::GetRoot<abi::Index>(plan.index.data())
                          ->program()
                          ->weights();
  std::string where = artifact.path() + ": ";
  for (uint32_t i = 0; i < std::max(have.size(), want.size()); ++i) {
    auto text = [&](const auto &list) {
      if (i >= list.size())
        return std::string("nothing");
      const abi::Weight &w = *list.Get(i);
      return describe(w.name()->string_view(), w.encoding()->string_view(),
                      w.rows(), w.cols());
    };
    bool isSame = i < have.size() && i < want.size() &&
                  text(have) == text(want) &&
                  have.Get(i)->offset() == want.Get(i)->offset() &&
                  have.Get(i)->size() == want.Get(i)->size();
    if (!isSame)
      return Status::error(Code::InvalidData,
                           where + "weight " + std::to_string(i) +
                               ": compiling the checkpoint gives " +
                               text(want) + ", found " + text(have));
  }
  return Status::ok();
}

/// Hashes the tensors that were packed into `names`, and compares them with
/// what the certificate says.
Status auditSources(const Artifact &artifact, const CompilePlan &plan,
                    std::span<const uint32_t> chosen,
                    const checkpoint::Checkpoint &source,
                    const AuditOptions &options, AuditReport &report) {
  RETORT_ASSIGN_OR_RETURN(auto certificate, readCertificate(artifact));
  if (!certificate || certificate->sources.empty())
    return Status::ok();
  std::map<std::string_view, const abi::SourceTensorT *> known;
  for (const auto &tensor : certificate->sources)
    known[tensor->name] = tensor.get();
  std::set<std::string_view> names;
  for (uint32_t i : chosen)
    for (const RowRun &run : plan.weights[i].rowRuns)
      names.insert(run.tensor);
  std::vector<const checkpoint::TensorView *> tensors;
  for (std::string_view name : names)
    tensors.push_back(source.find(name));
  RETORT_ASSIGN_OR_RETURN(
      auto found, hashTensors(tensors, options.threads, options.cancel));
  for (const auto &tensor : found) {
    auto it = known.find(tensor->name);
    ++report.hashed;
    if (it == known.end() || *it->second != *tensor)
      report.otherSources.push_back(tensor->name);
  }
  return Status::ok();
}

} // namespace

Result<AuditReport> auditArtifact(const AuditOptions &options) {
  OpenOptions open;
  open.weights = WeightCheck::Never; // compared, not hashed
  RETORT_ASSIGN_OR_RETURN(auto artifact,
                          Artifact::open(options.artifact, open));
  RETORT_ASSIGN_OR_RETURN(CompileOptions compile,
                          optionsOf(*artifact, options));
  RETORT_ASSIGN_OR_RETURN(CompilePlan plan, planCompile(compile));
  RETORT_RETURN_IF_ERROR(compareLists(*artifact, plan));
  RETORT_ASSIGN_OR_RETURN(auto source,
                          checkpoint::Checkpoint::open(options.checkpoint));

  AuditReport report;
  report.tensors = plan.weights.size();
  report.bytes = artifact->weightBytes();
  std::vector<uint32_t> chosen(plan.weights.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  if (options.samples != 0 && options.samples < chosen.size()) {
    // Not std::sample or std::shuffle, which differ between libraries.
    std::mt19937_64 random(options.seed);
    for (size_t i = 0; i < options.samples; ++i)
      std::swap(chosen[i], chosen[i + random() % (chosen.size() - i)]);
    chosen.resize(options.samples);
    std::sort(chosen.begin(), chosen.end());
  }

  RETORT_RETURN_IF_ERROR(
      auditSources(*artifact, plan, chosen, source, options, report));
  PackOptions pack;
  pack.threads = options.threads;
  pack.maxRam = options.maxRam;
  pack.cancel = options.cancel;
  for (uint32_t i : chosen) {
    const WeightSpec &spec = plan.weights[i];
    if (options.progress)
      options.progress(spec.name, report.audited.size(), chosen.size());
    std::span<const std::byte> bytes = artifact->weight(i);
    CompareSink sink(bytes);
    RETORT_ASSIGN_OR_RETURN(auto packed,
                            packWeights({&spec, 1}, source, sink, pack));
    report.audited.push_back(spec.name);
    report.auditedBytes += bytes.size();
    if (sink.found() || packed.front().size != bytes.size())
      report.differing.push_back(spec.name);
  }
  return report;
}

} // namespace retort
