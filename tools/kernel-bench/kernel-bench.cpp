//===- kernel-bench.cpp - Time one linear kernel --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Times a linear kernel beside what this machine can do: how fast it reads
/// memory with as many threads, and how fast it multiplies and adds.
///
//===----------------------------------------------------------------------===//

#include "compiler/codegen/Codegen.h"
#include "compiler/codegen/LoadedCode.h"
#include "compiler/lower/Tiling.h"
#include "runtime/support/File.h"

#include "CLI/CLI.hpp"
#include "mlir/Parser/Parser.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <thread>

using namespace retort;

namespace {

struct Options {
  int64_t rows = 8960, cols = 1536, tokens = 1, threads = 2, repetitions = 9;
  std::string encoding = "int4<32>", target, dump;
  bool plain = false, swiglu = false, cached = false, best = false,
       smallPages = false;
};

double seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double cpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

/// Runs `work(thread)` on all threads and gives the seconds it took: of CPU
/// time if there is one thread, so that a busy machine matters less.
template <typename Work> double timed(int64_t threads, Work work) {
  if (threads == 1) {
    double start = cpuSeconds();
    work(0);
    return cpuSeconds() - start;
  }
  std::atomic<int64_t> ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> pool;
  for (int64_t i = 1; i < threads; ++i)
    pool.emplace_back([&, i] {
      ++ready;
      while (!go)
        ;
      work(i);
    });
  while (ready + 1 < threads)
    ;
  double start = seconds();
  go = true;
  work(0);
  for (std::thread &t : pool)
    t.join();
  return seconds() - start;
}

using Vec = float __attribute__((vector_size(32)));

/// Reads `bytes` in four streams a thread.
double readGBs(const uint8_t *data, int64_t bytes, int64_t threads) {
  [[maybe_unused]] static volatile float sink;
  double t = timed(threads, [&](int64_t thread) {
    int64_t part = bytes / threads / 4 / 128 * 128;
    const uint8_t *base = data + thread * part * 4;
    Vec s[4] = {};
    for (int64_t i = 0; i < part; i += 128)
      for (int stream = 0; stream < 4; ++stream)
        for (int j = 0; j < 4; ++j)
          s[stream] +=
              *reinterpret_cast<const Vec *>(base + stream * part + i + j * 32);
    sink = (s[0] + s[1] + s[2] + s[3])[0];
  });
  return double(bytes) / t * 1e-9;
}

/// f32 multiply-adds in twelve chains a thread.
double fmaGflops(int64_t threads) {
  [[maybe_unused]] static volatile float sink;
  constexpr int64_t kSteps = 20'000'000;
  double t = timed(threads, [&](int64_t) {
    Vec a[12] = {}, x = {1.f, 1.f, 1.f, 1.f}, y = x;
    for (int64_t i = 0; i < kSteps; ++i) {
      for (Vec &v : a)
        v = v * x + y;
      asm volatile("" : "+x"(x), "+x"(y));
    }
    for (Vec &v : a)
      sink = v[0];
  });
  return double(threads) * kSteps * 12 * 16 / t * 1e-9;
}

/// What the inputs are quantized to; none with `--plain`.
std::optional<ActivationEncoding> inputsOf(const Options &o,
                                           const PackedEncoding &weights) {
  return o.plain ? std::nullopt : ActivationEncoding::forWeights(weights);
}

std::string entryText(const Options &o, const PackedEncoding &encoding) {
  std::string name = encoding.str();
  if (size_t at = name.find('<'); at != std::string::npos) {
    name.replace(at, 1, ", ");
    name.pop_back();
  }
  auto activation = [](int64_t width) {
    return "tensor<?x" +
           std::to_string(roundUp<int64_t>(width, kStrideMultiple)) + "xf32>";
  };
  std::string weight = "tensor<" + std::to_string(o.rows) + "x" +
                       std::to_string(o.cols) + "xf32, #encoding.packed<" +
                       name + ">>";
  std::string x = activation(o.cols);
  if (auto inputs = inputsOf(o, encoding)) {
    x.pop_back();
    x += inputs->kind == ActivationKind::Int8
             ? ", #encoding.activation<int8, 32>>"
             : ", #encoding.activation<int16, 32>>";
  }
  return "kernel.entry @k tokens(" +
         std::string(o.tokens == 1            ? "one"
                     : o.tokens <= kFewTokens ? "few"
                                              : "many") +
         ") {\n^bb0(%x: " + x + ", %w: " + weight +
         "):\n  %y = kernel.linear %x, %w " +
         (o.swiglu ? "epilogue swiglu " : "") + ": (" + x + ", " + weight +
         ") -> " + activation(o.swiglu ? o.rows / 2 : o.rows) + "\n}\n";
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

Status bench(const Options &o) {
  const Target *target = o.target.empty() ? hostTarget() : findTarget(o.target);
  auto encoding = PackedEncoding::parse(o.encoding);
  if (!target || !encoding)
    return Status::error(Code::InvalidArgument,
                         "expected a known target and encoding");
  mlir::DialectRegistry registry;
  registerCodegenDialects(registry);
  mlir::MLIRContext context(registry);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      entryText(o, *encoding), mlir::ParserConfig(&context));
  if (!module)
    return Status::error(Code::InvalidArgument, "expected a valid shape");
  if (!o.dump.empty()) {
    TextForm form = o.dump == "asm"    ? TextForm::Assembly
                    : o.dump == "llvm" ? TextForm::LLVMIR
                                       : TextForm::Vector;
    RETORT_ASSIGN_OR_RETURN(std::string text, dumpCode(*module, *target, form));
    std::fputs(text.c_str(), stdout);
    return Status::ok();
  }
  double start = seconds();
  RETORT_ASSIGN_OR_RETURN(std::vector<char> object,
                          compileToSharedObject(*module, *target, 1));
  std::printf("compile %.0f ms, %zu bytes\n", (seconds() - start) * 1e3,
              object.size());
  RETORT_ASSIGN_OR_RETURN(LoadedCode code, LoadedCode::load(object));
  retort_kernel_fn kernel = code.find("k");
  auto entry = *module->getOps<kernel::EntryOp>().begin();
  Tiling tiling = getTiling(entry.getLaunch(), entry.getTokens());

  // One and few tokens read weights from memory: enough copies to outlast the
  // caches.
  bool reads = o.tokens <= kFewTokens;
  int64_t bytes = roundUp<int64_t>(encoding->matrixBytes(o.rows, o.cols), 64);
  int64_t copies = reads && !o.cached
                       ? std::max<int64_t>(1, (int64_t(512) << 20) / bytes)
                       : 1;
  auto allocate = [&](int64_t size) {
    constexpr int64_t kLarge = kLargePageBytes;
    size = roundUp<int64_t>(size, kLarge);
    void *p = std::aligned_alloc(kLarge, size);
    if (p && !o.smallPages)
      ::madvise(p, size, MADV_HUGEPAGE);
    return static_cast<uint8_t *>(p);
  };
  // As bf16, f16 or scale these bytes are small normal numbers.
  uint8_t *weights = allocate(bytes * copies);
  std::memset(weights, 0x3c, bytes * copies);
  int64_t padded = roundUp<int64_t>(o.tokens, 8);
  int64_t xStride = roundUp<int64_t>(o.cols, kStrideMultiple);
  auto inputs = inputsOf(o, *encoding);
  int64_t xBytes = padded * (inputs ? inputs->rowBytes(xStride) : xStride * 4);
  uint8_t *x = allocate(xBytes);
  std::memset(x, 0x3c, xBytes);
  uint8_t *y = allocate(padded * roundUp<int64_t>(o.rows, kStrideMultiple) * 4);
  std::vector<uint8_t *> scratch;
  for (int64_t i = 0; i < o.threads; ++i)
    scratch.push_back(allocate(std::max<int64_t>(64, tiling.scratchBytes)));

  retort_kernel_scalars scalars = {o.tokens, 0, 0};
  std::vector<double> times, gbs, peaks;
  for (int64_t rep = 0; rep <= o.repetitions; ++rep) {
    std::vector<std::atomic<int64_t>> next(copies);
    std::vector<std::atomic<int64_t>> done(copies);
    double t = timed(o.threads, [&](int64_t thread) {
      for (int64_t copy = 0; copy < copies; ++copy) {
        void *args[] = {x, weights + copy * bytes, y};
        for (int64_t i; (i = next[copy]++) < tiling.tiles;) {
          kernel(args, &scalars, scratch[thread], i);
          ++done[copy];
        }
        while (done[copy] < tiling.tiles)
          std::this_thread::yield();
      }
    });
    if (rep == 0)
      continue;
    times.push_back(t / double(copies));
    if (reads)
      gbs.push_back(readGBs(weights, bytes * copies, o.threads));
    else
      peaks.push_back(fmaGflops(o.threads));
  }
  double t =
      o.best ? *std::min_element(times.begin(), times.end()) : median(times);
  std::printf("%s %lldx%lld %lld tokens, %lld threads, %lld tiles: %.3f ms",
              o.encoding.c_str(), (long long)o.rows, (long long)o.cols,
              (long long)o.tokens, (long long)o.threads,
              (long long)tiling.tiles, t * 1e3);
  if (reads)
    std::printf(", %.1f GB/s of %.1f read: %.2f\n", double(bytes) / t * 1e-9,
                median(gbs), double(bytes) / t * 1e-9 / median(gbs));
  else {
    double gflops = 2.0 * double(o.rows * o.cols * o.tokens) / t * 1e-9;
    std::printf(", %.1f GFLOP/s of %.1f peak: %.2f\n", gflops, median(peaks),
                gflops / median(peaks));
  }
  return Status::ok();
}

} // namespace

int main(int argc, char **argv) {
  Options o;
  CLI::App app("Times one linear kernel on this machine");
  app.add_option("--rows", o.rows, "outputs")->check(CLI::PositiveNumber);
  app.add_option("--cols", o.cols, "inputs")->check(CLI::PositiveNumber);
  app.add_option("--tokens", o.tokens, "tokens of a launch")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads)->check(CLI::PositiveNumber);
  app.add_option("--reps", o.repetitions)->check(CLI::PositiveNumber);
  app.add_option("--encoding", o.encoding, "as `int4<32>`");
  app.add_option("--target", o.target, "CPU target; default: this machine's");
  app.add_flag("--swiglu", o.swiglu, "rows are gate and up strips");
  app.add_flag("--plain", o.plain, "integer weights by inputs of f32");
  app.add_flag("--cached", o.cached, "one token: leave the weights in cache");
  app.add_flag("--small-pages", o.smallPages, "leave memory in small pages");
  app.add_flag("--best", o.best, "give the shortest time, not the median");
  app.add_option("--dump", o.dump, "print the code instead: vector, llvm, asm");
  CLI11_PARSE(app, argc, argv);
  Status status = bench(o);
  if (!status)
    std::fprintf(stderr, "kernel-bench: %s\n", status.message().c_str());
  return status ? 0 : 1;
}
