//===- Codegen.cpp - From kernel entries to machine code ------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"

#include "compiler/codegen/Link.h"
#include "compiler/lower/Passes.h"
#include "dialects/Kernel/Kernel.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

#include <atomic>
#include <mutex>
#include <thread>

using namespace mlir;

namespace retort {

void buildLowerToLLVMPipeline(OpPassManager &pm, const Target &target) {
  pm.addPass(createLowerKernelsPass({target.name.str()}));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createConvertMathToLLVMPass());
  ConvertVectorToLLVMPassOptions vectors;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createConvertFuncToLLVMPass({/*useBarePtrCallConv=*/true}));
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createUBToLLVMConversionPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createExportKernelsPass());
}

void registerCodegenDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, cf::ControlFlowDialect,
                  encoding::EncodingDialect, func::FuncDialect,
                  kernel::KernelDialect, LLVM::LLVMDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect, ub::UBDialect,
                  vector::VectorDialect>();
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

namespace {

/// The first error of a context, for a Status.
class ErrorCollector {
public:
  explicit ErrorCollector(MLIRContext &context)
      : handler(&context, [this](Diagnostic &d) {
          if (d.getSeverity() == DiagnosticSeverity::Error && text.empty())
            text = d.str();
          return success();
        }) {}
  Status status(Code code, StringRef symbol) const {
    return Status::error(code, "kernel '" + symbol.str() + "': " +
                                   (text.empty() ? "lowering failed" : text));
  }

private:
  std::string text;
  ScopedDiagnosticHandler handler;
};

/// An entry as text: contexts do not share objects.
struct EntryText {
  std::string symbol, text;
};

std::vector<EntryText> printEntries(ModuleOp module) {
  std::vector<EntryText> entries;
  for (auto entry : module.getOps<kernel::EntryOp>()) {
    EntryText &e = entries.emplace_back();
    e.symbol = entry.getSymName().str();
    llvm::raw_string_ostream(e.text) << *entry;
  }
  return entries;
}

Result<std::unique_ptr<llvm::TargetMachine>>
createTargetMachine(const Target &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
    // It reassociates sums that emitters ordered to fit the registers.
    auto &options = llvm::cl::getRegisteredOptions();
    if (auto it = options.find("x86-machine-combiner"); it != options.end())
      it->second->addOccurrence(0, it->first, "false");
  });
  std::string error;
  llvm::Triple triple(target.triple);
  const llvm::Target *backend =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return Status::error(Code::Unsupported,
                         "target " + target.name.str() + ": " + error);
  std::unique_ptr<llvm::TargetMachine> machine(backend->createTargetMachine(
      triple, target.cpu, target.features, {}, llvm::Reloc::PIC_,
      llvm::CodeModel::Small, llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return Status::error(Code::Internal, "target " + target.name.str() +
                                             ": no machine of that name");
  return machine;
}

/// Compiles one entry in a context of its own.
class EntryCompiler {
public:
  EntryCompiler(const EntryText &entry, const Target &target)
      : entry(entry), target(target),
        context(makeRegistry(), MLIRContext::Threading::DISABLED),
        errors(context) {}

  Result<std::string> text(TextForm form);
  Result<std::string> object();

private:
  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registerCodegenDialects(registry);
    return registry;
  }
  Status parse();
  Status lower();
  Status translate();
  Result<std::string> emit(llvm::CodeGenFileType type);

  const EntryText &entry;
  const Target &target;
  MLIRContext context;
  ErrorCollector errors;
  OwningOpRef<ModuleOp> module;
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> llvmModule;
  std::unique_ptr<llvm::TargetMachine> machine;
};

Status EntryCompiler::parse() {
  module = parseSourceString<ModuleOp>(entry.text, ParserConfig(&context));
  return module ? Status::ok() : errors.status(Code::Internal, entry.symbol);
}

Status EntryCompiler::lower() {
  RETORT_RETURN_IF_ERROR(parse());
  PassManager pm(&context);
  buildLowerToLLVMPipeline(pm, target);
  return succeeded(pm.run(*module))
             ? Status::ok()
             : errors.status(Code::Unsupported, entry.symbol);
}

Status EntryCompiler::translate() {
  RETORT_RETURN_IF_ERROR(lower());
  RETORT_ASSIGN_OR_RETURN(machine, createTargetMachine(target));
  llvmModule = translateModuleToLLVMIR(*module, llvmContext, entry.symbol);
  if (!llvmModule)
    return errors.status(Code::Internal, entry.symbol);
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  for (llvm::Function &f : *llvmModule) {
    if (f.isDeclaration())
      continue;
    // Nothing is there to call: loops must not become memset or memcpy.
    f.addFnAttr("no-builtins");
    // With a frame pointer the stack can be aligned for spilled vectors, which
    // otherwise lie across cache lines.
    f.addFnAttr("frame-pointer", "all");
    f.addFnAttr(llvm::Attribute::NoUnwind);
    f.addFnAttr("target-cpu", target.cpu);
    f.addFnAttr("target-features", target.features);
    if (f.hasInternalLinkage())
      f.addFnAttr(llvm::Attribute::AlwaysInline);
  }
  std::string problem;
  llvm::raw_string_ostream out(problem);
  if (llvm::verifyModule(*llvmModule, &out))
    return Status::error(Code::Internal,
                         "kernel '" + entry.symbol + "': " + problem);

  llvm::LoopAnalysisManager lam;
  llvm::FunctionAnalysisManager fam;
  llvm::CGSCCAnalysisManager cgam;
  llvm::ModuleAnalysisManager mam;
  // The emitters vectorize and unroll where it pays.
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = tuning.SLPVectorization = false;
  tuning.LoopInterleaving = tuning.LoopUnrolling = false;
  // Emitters write sums as the trees and chains that suit the registers; the
  // pass would make one chain of each.
  llvm::PassInstrumentationCallbacks callbacks;
  callbacks.registerShouldRunOptionalPassCallback(
      [](llvm::StringRef pass, auto) { return pass != "ReassociatePass"; });
  llvm::PassBuilder builder(machine.get(), tuning, std::nullopt, &callbacks);
  builder.registerModuleAnalyses(mam);
  builder.registerCGSCCAnalyses(cgam);
  builder.registerFunctionAnalyses(fam);
  builder.registerLoopAnalyses(lam);
  builder.crossRegisterProxies(lam, fam, cgam, mam);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3)
      .run(*llvmModule, mam);
  return Status::ok();
}

Result<std::string> EntryCompiler::emit(llvm::CodeGenFileType type) {
  RETORT_RETURN_IF_ERROR(translate());
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream out(bytes);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, out, nullptr, type))
    return Status::error(Code::Internal, "target " + target.name.str() +
                                             ": cannot emit this kind of file");
  passes.run(*llvmModule);
  return std::string(bytes.begin(), bytes.end());
}

Result<std::string> EntryCompiler::object() {
  return emit(llvm::CodeGenFileType::ObjectFile);
}

Result<std::string> EntryCompiler::text(TextForm form) {
  std::string text;
  llvm::raw_string_ostream out(text);
  switch (form) {
  case TextForm::Vector: {
    RETORT_RETURN_IF_ERROR(parse());
    PassManager pm(&context);
    pm.addPass(createLowerKernelsPass({target.name.str()}));
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
    if (failed(pm.run(*module)))
      return errors.status(Code::Unsupported, entry.symbol);
    out << *module;
    return text;
  }
  case TextForm::LLVMDialect:
    RETORT_RETURN_IF_ERROR(lower());
    out << *module;
    return text;
  case TextForm::LLVMIR:
    RETORT_RETURN_IF_ERROR(translate());
    out << *llvmModule;
    return text;
  case TextForm::Assembly:
    return emit(llvm::CodeGenFileType::AssemblyFile);
  }
  return text;
}

} // namespace

Result<std::vector<char>>
compileToSharedObject(ModuleOp module, const Target &target, unsigned threads) {
  std::vector<EntryText> entries = printEntries(module);
  std::vector<std::string> objects(entries.size());
  std::vector<Status> failures(entries.size());
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i; (i = next++) < entries.size();) {
      auto object = EntryCompiler(entries[i], target).object();
      if (object)
        objects[i] = std::move(*object);
      else
        failures[i] = object.takeStatus();
    }
  };
  std::vector<std::thread> workers;
  for (unsigned i = 1; i < std::min<size_t>(threads, entries.size()); ++i)
    workers.emplace_back(work);
  work();
  for (std::thread &worker : workers)
    worker.join();
  for (Status &failure : failures)
    RETORT_RETURN_IF_ERROR(std::move(failure));
  return linkSharedObject(objects);
}

Result<std::string> dumpCode(ModuleOp module, const Target &target,
                             TextForm form) {
  std::string all;
  for (const EntryText &entry : printEntries(module)) {
    RETORT_ASSIGN_OR_RETURN(std::string text,
                            EntryCompiler(entry, target).text(form));
    all += text;
  }
  return all;
}

} // namespace retort
