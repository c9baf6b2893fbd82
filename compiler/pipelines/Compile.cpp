//===- Compile.cpp - From checkpoint to artifact ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Compile.h"

#include "compiler/checkpoint/Checkpoint.h"
#include "compiler/checkpoint/Json.h"
#include "compiler/codegen/Codegen.h"
#include "compiler/import/ImportModel.h"
#include "compiler/pack/ArtifactWriter.h"
#include "compiler/pack/KeptEncoding.h"
#include "compiler/pack/PackInputs.h"
#include "compiler/pack/WeightUnits.h"
#include "compiler/pack/ZeroPoints.h"
#include "compiler/pipelines/Certify.h"
#include "compiler/pipelines/Pipelines.h"
#include "compiler/pipelines/Verify.h"
#include "compiler/plan/BuildProgram.h"
#include "compiler/quantize/Passes.h"
#include "compiler/quantize/WeightClasses.h"
#include "compiler/targets/Target.h"
#include "compiler/tune/Tune.h"
#include "compiler/tune/TuningCache.h"
#include "dialects/Kernel/Kernel.h"
#include "dialects/Model/Model.h"
#include "dialects/Program/Program.h"
#include "runtime/api/ModelText.h"
#include "runtime/loader/Certificate.h"
#include "runtime/text/TokenizerTables.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <chrono>
#include <map>
#include <thread>

using namespace mlir;

namespace retort {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ModelConfig;
using checkpoint::TensorView;

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

/// One compile. The steps below run in this order, each on what the ones before
/// it left in the members.
class Compiler {
public:
  explicit Compiler(const CompileOptions &options) : options(options) {}

  Result<CompileReport> run() {
    auto start = std::chrono::steady_clock::now();
    RETORT_RETURN_IF_ERROR(checkOptions());
    step("reading the checkpoint");
    RETORT_ASSIGN_OR_RETURN(
        Checkpoint opened,
        options.withoutWeights
            ? Checkpoint::openWithoutWeights(options.checkpoint)
            : Checkpoint::open(options.checkpoint));
    source = std::make_unique<Checkpoint>(std::move(opened));
    report.checkpointBytes = source->totalBytes();
    for (const std::string &note : source->notes())
      tell(note);
    RETORT_RETURN_IF_ERROR(checkContext());
    RETORT_RETURN_IF_ERROR(checkTexts());

    auto compileStart = std::chrono::steady_clock::now();
    step("compiling");
    RETORT_RETURN_IF_ERROR(buildModule());
    RETORT_RETURN_IF_ERROR(generateCode());
    report.compileSeconds = secondsSince(compileStart);
    if (report.tune)
      report.compileSeconds -= report.tune->seconds;

    RETORT_RETURN_IF_ERROR(describe());
    auto packStart = std::chrono::steady_clock::now();
    RETORT_RETURN_IF_ERROR(write());
    report.packSeconds = secondsSince(packStart) - examineSeconds;
    report.totalSeconds = secondsSince(start);
    return std::move(report);
  }

  Result<CompilePlan> plan() {
    RETORT_RETURN_IF_ERROR(choose());
    RETORT_ASSIGN_OR_RETURN(
        Checkpoint opened,
        Checkpoint::hasWeights(options.checkpoint)
            ? Checkpoint::open(options.checkpoint)
            : Checkpoint::openWithoutWeights(options.checkpoint));
    source = std::make_unique<Checkpoint>(std::move(opened));
    RETORT_RETURN_IF_ERROR(checkContext());
    RETORT_RETURN_IF_ERROR(checkTexts());
    RETORT_RETURN_IF_ERROR(buildModule());
    RETORT_RETURN_IF_ERROR(describe());
    CompilePlan plan;
    RETORT_ASSIGN_OR_RETURN(ArtifactSizes sizes,
                            predictArtifact(contents, plan.index));
    // The self-test's logits are the one part of the index that is missing.
    plan.fileBytes = sizes.file + contents.index.model->vocab_size * 4;
    plan.weightBytes = sizes.weights;
    plan.kv = pipeline.kv;
    plan.weights = std::move(contents.weights);
    return plan;
  }

private:
  Status checkOptions();
  Status choose();
  Status checkContext();
  Status checkTexts();
  Status buildModule();
  Status tune();
  void markKept();
  Status markZeroPoints();
  Status markPlanned();
  Status runStage(Stage stage);
  Status dump(Stage stage, const std::string &suffix, const std::string &text);
  bool wantsDump(Stage stage) const;
  Status generateCode();
  Status describe();
  Status write();
  Result<bool> examine(const std::string &path, abi::IndexT &index);

  void step(const std::string &what) {
    if (options.progress)
      options.progress(what, 0, 0);
  }
  void tell(const std::string &what) {
    if (options.note)
      options.note(what);
  }
  unsigned threads() const {
    return options.threads > 0
               ? static_cast<unsigned>(options.threads)
               : std::max(1u, std::thread::hardware_concurrency());
  }
  Status cancelled() const {
    if (options.cancel && options.cancel->load())
      return Status::error(Code::Cancelled, "the compile was cancelled");
    return Status::ok();
  }

  const CompileOptions &options;
  CompileReport report;
  std::unique_ptr<Checkpoint> source;
  std::vector<const Target *> targets;
  int64_t maxContext = 0;
  PipelineOptions pipeline;
  MLIRContext context{MLIRContext::Threading::DISABLED};
  OwningOpRef<ModuleOp> module;
  ArtifactContents contents;
  std::optional<std::string> tokenizerTables; ///< from checkTexts()
  double examineSeconds = 0;
};

Status Compiler::checkOptions() {
  if (options.checkpoint.empty() || options.output.empty())
    return Status::error(Code::InvalidArgument,
                         "expected a checkpoint and an output");
  for (const std::string &name : options.dumpIr)
    if (name != "all" && !parseStage(name)) {
      std::string known = "all";
      for (Stage stage : kStages)
        known += ", " + stageName(stage).str();
      return Status::error(Code::InvalidArgument,
                           "--dump-ir: expected one of " + known + ", found '" +
                               name + "'");
    }
  if (options.withoutWeights &&
      (options.verify || !options.standaloneRuntime.empty()))
    return Status::error(Code::InvalidArgument,
                         "an artifact without weights can be neither verified "
                         "nor standalone");
  if (options.partBytes != 0 &&
      (options.withoutWeights || !options.standaloneRuntime.empty()))
    return Status::error(Code::InvalidArgument,
                         "only an artifact with weights that is not standalone "
                         "can be split");
  if (options.targets.empty()) {
    const Target *host = hostTarget();
    if (!host)
      return Status::error(Code::Unsupported,
                           "this machine's CPU is none of Retort's targets; "
                           "name one with --target");
    targets.push_back(host);
  }
  for (const std::string &name : options.targets) {
    const Target *target = findTarget(name);
    if (!target) {
      std::string known;
      for (const Target &t : allTargets())
        known += (known.empty() ? "" : ", ") + t.name.str();
      return Status::error(Code::InvalidArgument, "--target: expected one of " +
                                                      known + ", found '" +
                                                      name + "'");
    }
    if (!llvm::is_contained(targets, target))
      targets.push_back(target);
  }
  for (const Target *target : targets)
    report.targets.push_back(target->name.str());
  if (options.tune && !llvm::is_contained(targets, hostTarget()))
    return Status::error(
        Code::InvalidArgument,
        "--tune: expected a target that this machine runs (" +
            (hostTarget() ? hostTarget()->name.str() : "there is none") +
            ") among " + llvm::join(report.targets, ", "));
  return choose();
}

/// Settles how weights and caches are stored. Behind a plan the passes keep
/// what it does not mark.
Status Compiler::choose() {
  pipeline.weights = options.plan ? "keep" : options.weights;
  RETORT_ASSIGN_OR_RETURN(WeightChoice choice,
                          parseWeightChoice(pipeline.weights));
  bool isExact = options.plan ? options.plan->isExact() : choice.isExact();
  report.usesIntegers = choice.usesIntegers();
  pipeline.groupSize = options.groupSize;
  if (options.kv == "auto")
    pipeline.kv = isExact ? "f32" : "f16";
  else if (parseCacheElement(options.kv))
    pipeline.kv = options.kv;
  else
    return Status::error(Code::InvalidArgument,
                         "--kv: expected auto, f32, f16, bf16 or int8, found "
                         "'" +
                             options.kv + "'");
  report.kv = pipeline.kv;
  if (options.activations != "auto" && options.activations != "f32" &&
      options.activations != "int")
    return Status::error(Code::InvalidArgument,
                         "--activations: expected auto, f32 or int, found '" +
                             options.activations + "'");
  pipeline.roundActivations =
      options.activations == "auto" ? !isExact : options.activations == "int";
  return Status::ok();
}

Status Compiler::checkContext() {
  int64_t trained = source->config().maxPositionEmbeddings;
  maxContext = options.maxContext.value_or(trained);
  if (maxContext < 1 || maxContext > trained)
    return Status::error(
        Code::InvalidArgument,
        "--max-context: expected 1 to " + std::to_string(trained) +
            " (max_position_embeddings), found " + std::to_string(maxContext));
  return Status::ok();
}

/// What the runtime would refuse is refused before hours of packing.
Status Compiler::checkTexts() {
  if (const auto &json = source->tokenizerText()) {
    // The other files' texts are read through the tables, as they will be.
    auto tables = text::compileTokenizer(*json);
    if (!tables.isOk())
      return tables.takeStatus()
          .withContext("tokenizer.json")
          .withContext(options.checkpoint);
    tokenizerTables = std::move(*tables);
    auto view = [](const std::optional<std::string> &text) {
      return text ? std::string_view(*text) : std::string_view();
    };
    auto model = text::TextModel::create(
        {.tokenizerJson = {},
         .tokenizerConfigJson = view(source->tokenizerConfigText()),
         .chatTemplateJinja = view(source->chatTemplateText()),
         .generationConfigJson = view(source->generationConfigText()),
         .tokenizerTables = *tokenizerTables});
    if (!model.isOk())
      return model.takeStatus().withContext(options.checkpoint);
  }
  if (const auto &json = source->generationConfigText()) {
    auto defaults = parseGenerationConfig(
        *json, static_cast<uint32_t>(source->config().vocabSize));
    if (!defaults.isOk())
      return defaults.takeStatus().withContext("generation_config.json");
  }
  return Status::ok();
}

bool Compiler::wantsDump(Stage stage) const {
  return llvm::any_of(options.dumpIr, [&](const std::string &name) {
    return name == "all" || parseStage(name) == stage;
  });
}

Status Compiler::dump(Stage stage, const std::string &suffix,
                      const std::string &text) {
  std::string dir = options.dumpDir.empty() ? "." : options.dumpDir;
  if (std::error_code e = llvm::sys::fs::create_directories(dir))
    return Status::error(Code::Io, dir + ": cannot create: " + e.message());
  std::string path = dir + "/" + std::to_string(static_cast<int>(stage) + 1) +
                     "-" + stageName(stage).str() + suffix;
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
  RETORT_RETURN_IF_ERROR(file.writeAt(
      0, std::as_bytes(std::span<const char>(text.data(), text.size()))));
  return file.commit();
}

Status Compiler::runStage(Stage stage) {
  RETORT_RETURN_IF_ERROR(cancelled());
  PassManager pm(&context);
  switch (stage) {
  case Stage::Quantize:
    populateQuantizePipeline(pm, pipeline);
    break;
  case Stage::Fuse:
    populateFusePipeline(pm, pipeline);
    break;
  case Stage::Plan:
    populatePlanPipeline(pm, pipeline);
    break;
  default:
    break;
  }
  std::string diagnostics;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diag) {
    if (diag.getSeverity() == DiagnosticSeverity::Remark) {
      tell(diag.str());
      return success();
    }
    if (!diagnostics.empty())
      diagnostics += "; ";
    diagnostics += diag.str();
    return success();
  });
  if (failed(pm.run(*module)))
    return Status::error(Code::Internal,
                         stageName(stage).str() + ": " + diagnostics);
  if (!wantsDump(stage))
    return Status::ok();
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os);
  return dump(stage, ".mlir", text);
}

/// Samples the matrices of integers that can have zero points and marks those
/// whose groups gain from zero points. Experts are too many to look at, and do
/// without.
Status Compiler::markZeroPoints() {
  RETORT_ASSIGN_OR_RETURN(WeightChoice choice,
                          parseWeightChoice(pipeline.weights));
  std::vector<WeightSpec> specs;
  std::vector<model::WeightOp> ops;
  for (auto &[weight, uses] : classifyWeights(*module)) {
    auto op = cast<model::WeightOp>(weight);
    auto type = cast<RankedTensorType>(op.getType());
    // The kind that is asked for, if it can have zero points.
    auto shiftable = [&](WeightClass weightClass) {
      auto kind = choice.wishFor(weightClass).kind;
      return kind && PackedEncoding{*kind}.middle() != 0 ? kind : std::nullopt;
    };
    auto kind = shiftable(uses.weightClass());
    if (!kind && uses.isEmbedding)
      kind = shiftable(WeightClass::Embedding);
    if (!kind || uses.isRouter || uses.inner == WeightClass::Experts)
      continue;
    WeightSpec spec;
    spec.name = op.getSymName().str();
    spec.encoding = {*kind, pipeline.groupSize, false};
    spec.rows = type.getDimSize(0);
    spec.cols = type.getDimSize(1);
    spec.rowRuns = {{spec.name, 0, spec.rows, 0}};
    spec.colRuns = {{0, spec.cols, 0}};
    specs.push_back(std::move(spec));
    ops.push_back(op);
  }
  RETORT_RETURN_IF_ERROR(chooseZeroPoints(specs, *source, options.threads));
  for (auto [spec, op] : llvm::zip(specs, ops))
    if (spec.encoding.zeroPoints)
      op->setAttr(kZeroPointsAttr, UnitAttr::get(&context));
  return Status::ok();
}

/// Tells the passes what the checkpoint has quantized.
void Compiler::markKept() {
  std::map<std::string, int> unheld; // by reason
  for (auto op : module->getOps<model::WeightOp>()) {
    const TensorView *view = source->find(op.getSymName().str());
    auto setBlock = [&](int64_t rows, int64_t cols) {
      op->setAttr(kScaleBlockAttr,
                  DenseI64ArrayAttr::get(&context, {rows, cols}));
    };
    if (view && view->scales)
      setBlock(view->scales->blockRows, view->scales->blockCols);
    if (!view || !view->quantized)
      continue;
    KeptEncoding kept = keptEncoding(*view->quantized);
    if (!kept.reason.empty()) {
      ++unheld[kept.reason];
      continue;
    }
    op->setAttr(kKeptEncodingAttr,
                encoding::PackedAttr::get(&context, kept.encoding));
    setBlock(1, view->quantized->groupSize);
  }
  for (const auto &[reason, count] : unheld)
    tell(std::to_string(count) + " matrices are stored with " + reason +
         ", which no encoding of integers holds: kept, they are packed as f32");
}

/// Hands the plan to the passes, once it is known that every launch can read
/// what it names.
Status Compiler::markPlanned() {
  RETORT_RETURN_IF_ERROR(applyWeightPlan(*module, *options.plan));
  std::map<std::string_view, const PlannedWeight *> byTensor;
  for (const PlannedWeight &weight : options.plan->weights)
    byTensor[weight.tensor] = &weight;
  CompileOptions kept = options;
  kept.plan.reset();
  kept.weights = "keep";
  kept.note = nullptr;
  RETORT_ASSIGN_OR_RETURN(CompilePlan read, planCompile(kept));
  for (const WeightUnit &unit : weightUnits(read.weights)) {
    const PlannedWeight *first = nullptr;
    for (const std::string &tensor : unit.tensors) {
      auto it = byTensor.find(tensor);
      if (it == byTensor.end()) // a router
        continue;
      first = first ? first : it->second;
      if (it->second->encoding != first->encoding)
        return Status::error(Code::InvalidArgument,
                             "tensor " + checkpoint::quote(tensor) +
                                 ": expected " + encodingName(first->encoding) +
                                 " as " + checkpoint::quote(first->tensor) +
                                 " has, which a launch reads with it, found " +
                                 encodingName(it->second->encoding));
    }
  }
  return Status::ok();
}

Status Compiler::buildModule() {
  context.loadDialect<encoding::EncodingDialect, kernel::KernelDialect,
                      model::ModelDialect, program::ProgramDialect,
                      func::FuncDialect>();
  module = importModel(context, source->config(), [&](llvm::StringRef name) {
    return source->find(std::string_view(name))->dtype;
  });
  markKept();
  if (source->holdsWeights())
    RETORT_RETURN_IF_ERROR(markZeroPoints());
  if (options.plan)
    if (Status status = markPlanned(); !status.isOk())
      return options.planName.empty()
                 ? std::move(status)
                 : std::move(status).withContext(options.planName);
  for (Stage stage : {Stage::Import, Stage::Quantize, Stage::Fuse})
    RETORT_RETURN_IF_ERROR(runStage(stage));
  if (options.tune)
    RETORT_RETURN_IF_ERROR(tune());
  return runStage(Stage::Plan);
}

Status Compiler::tune() {
  TuneOptions o{.cache = options.tuningCache.empty() ? defaultTuningCache()
                                                     : options.tuningCache,
                .build = describeBuild(),
                .threads = static_cast<unsigned>(threads()),
                .progress =
                    [&](size_t kernel, size_t kernels) {
                      step("timing tile shapes: kernel " +
                           std::to_string(kernel + 1) + " of " +
                           std::to_string(kernels));
                    },
                .cancel = options.cancel};
  if (o.cache.empty())
    return Status::error(Code::InvalidArgument,
                         "--tune: neither XDG_CACHE_HOME nor HOME is set; name "
                         "a file with --tune-cache");
  RETORT_ASSIGN_OR_RETURN(report.tune, tuneKernels(*module, *hostTarget(), o));
  return Status::ok();
}

Status Compiler::generateCode() {
  struct Form {
    Stage stage;
    TextForm form;
    const char *suffix;
  };
  constexpr Form forms[] = {{Stage::Lower, TextForm::Vector, ".mlir"},
                            {Stage::Asm, TextForm::Assembly, ".s"}};
  for (const Target *target : targets) {
    RETORT_RETURN_IF_ERROR(cancelled());
    for (const Form &form : forms) {
      if (!wantsDump(form.stage))
        continue;
      RETORT_ASSIGN_OR_RETURN(std::string text,
                              dumpCode(*module, *target, form.form));
      RETORT_RETURN_IF_ERROR(
          dump(form.stage, "-" + target->name.str() + form.suffix, text));
    }
    RETORT_ASSIGN_OR_RETURN(std::vector<char> object,
                            compileToSharedObject(*module, *target, threads()));
    auto bytes = std::as_bytes(std::span<const char>(object));
    auto entry = std::make_unique<abi::TargetT>();
    entry->name = target->name.str();
    entry->triple = target->triple.str();
    for (llvm::StringRef feature : target->runtimeFeatures)
      entry->features.push_back(feature.str());
    entry->section = static_cast<uint32_t>(contents.codes.size());
    contents.index.targets.push_back(std::move(entry));
    contents.codes.push_back(
        {"code/" + target->name.str(),
         std::vector<std::byte>(bytes.begin(), bytes.end())});
  }
  return Status::ok();
}

/// Everything of the index that is neither code nor weights.
Status Compiler::describe() {
  FailureOr<BuiltProgram> built = buildProgram(*module);
  if (failed(built))
    return Status::error(Code::Internal, "the program lacks a buffer that the "
                                         "runtime needs");
  abi::IndexT &index = contents.index;
  index.producer = "retort " RETORT_VERSION;
  index.program = std::make_unique<abi::ProgramT>(std::move(built->program));
  contents.weights = std::move(built->weights);
  report.kernels = static_cast<int>(index.program->kernels.size());

  const ModelConfig &config = source->config();
  auto model = std::make_unique<abi::ModelT>();
  model->family = checkpoint::familyName(config.family);
  llvm::SmallString<128> real;
  if (llvm::sys::fs::real_path(options.checkpoint, real))
    real = options.checkpoint;
  model->name = llvm::sys::path::filename(real).str();
  model->vocab_size = config.vocabSize;
  model->hidden_size = config.hiddenSize;
  model->intermediate_size = config.intermediateSize;
  model->num_layers = config.numLayers;
  model->num_heads = config.numHeads;
  model->num_kv_heads = config.numKvHeads;
  model->head_dim = config.headDim;
  model->max_context = maxContext;
  model->max_chunk = pipeline.maxChunk;
  model->bos_id = config.bosTokenId.value_or(-1);
  for (int64_t id : config.eosTokenIds)
    model->eos_ids.push_back(static_cast<int32_t>(id));
  for (const TensorView &tensor : source->tensors())
    model->parameters += tensor.elements();
  index.model = std::move(model);

  auto property = [&](const char *key, std::string value) {
    auto p = std::make_unique<abi::PropertyT>();
    p->key = key;
    p->value = std::move(value);
    index.properties.push_back(std::move(p));
  };
  property("weights", options.plan ? "plan" : pipeline.weights);
  property("kv", pipeline.kv);
  if (report.usesIntegers)
    property("group_size", std::to_string(pipeline.groupSize));

  auto text = [&](const char *name, const std::optional<std::string> &value) {
    if (value)
      contents.texts.push_back({std::string("text/") + name, *value});
  };
  text("config.json", source->configText());
  if (options.plan)
    text(kWeightPlanText, formatWeightPlan(*options.plan));
  text("generation_config.json", source->generationConfigText());
  if (tokenizerTables)
    contents.texts.push_back({"data/tokenizer", std::move(*tokenizerTables),
                              abi::SectionKind::Data});
  text("tokenizer_config.json", source->tokenizerConfigText());
  text("chat_template.jinja", source->chatTemplateText());
  if (!source->tokenizerText())
    tell("the checkpoint has no tokenizer.json: the model runs with --tokens "
         "alone");
  return Status::ok();
}

Result<bool> Compiler::examine(const std::string &path, abi::IndexT &index) {
  auto start = std::chrono::steady_clock::now();
  ExamineOptions examine;
  examine.threads = static_cast<int>(threads());
  examine.cancel = options.cancel;
  examine.verify = options.verify;
  examine.cache = *parseCacheElement(pipeline.kv);
  step(options.verify ? "comparing with the reference interpreter"
                      : "computing the self-test");
  RETORT_ASSIGN_OR_RETURN(
      Examination result,
      examineArtifact(path, *source, contents.weights, examine));
  index.self_test = std::make_unique<abi::SelfTestT>(result.selfTest);
  report.verify = result.verify;
  if (result.certificate) {
    result.certificate->weights = hashWeights(*index.program);
    result.certificate->plan = describePlan(contents.weights, *index.program);
    contents.certificate = encodeCertificate(*result.certificate);
  }
  examineSeconds = secondsSince(start);
  return true;
}

Status Compiler::write() {
  WriteOptions write;
  write.pack.threads = options.threads;
  write.pack.maxRam = options.maxRam;
  write.pack.cancel = options.cancel;
  write.resume.resume = options.resume;
  write.resume.note = [&](const std::string &note) { tell(note); };
  if (options.progress) {
    write.pack.progress = [&](uint64_t done, uint64_t total) {
      options.progress("packing", done, total);
    };
    write.resume.progress = [&](uint64_t done, uint64_t total) {
      options.progress("checking what is there", done, total);
    };
  }
  contents.partBytes = options.partBytes;
  contents.standaloneRuntime = options.standaloneRuntime;
  contents.withoutWeights = options.withoutWeights;
  if (!options.withoutWeights)
    contents.examine = [&](const std::string &path, abi::IndexT &index) {
      return examine(path, index);
    };
  RETORT_ASSIGN_OR_RETURN(
      ArtifactSizes sizes,
      writeArtifact(contents, *source, options.output, write));
  report.fileBytes = sizes.file;
  report.parts = sizes.parts;
  report.weightBytes = sizes.weights;
  report.codeBytes = sizes.code;
  return Status::ok();
}

} // namespace

Result<CompilePlan> planCompile(const CompileOptions &options) {
  return Compiler(options).plan();
}

Result<CompileReport> compileCheckpoint(const CompileOptions &options) {
  return Compiler(options).run();
}

} // namespace retort
