//===- Synth.cpp - Random checkpoints ---------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/synth/Synth.h"

#include "compiler/synth/Generator.h"
#include "compiler/synth/SynthConfig.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/SafetensorsWriter.h"
#include "runtime/support/Threads.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace retort::synth {
namespace {

using checkpoint::ExpectedTensor;
using checkpoint::ModelConfig;
namespace fs = std::filesystem;

constexpr int64_t kPieceElements = int64_t(1) << 20;
constexpr int64_t kMaxStripeElements = int64_t(1) << 25;
constexpr size_t kMaxConfigBytes = size_t(16) << 20;

/// What is copied, if it is beside config.json.
constexpr const char *kCopiedFiles[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
};

/// The values of a tensor, by its part in the model.
Distribution distributionOf(const ModelConfig &config,
                            const ExpectedTensor &tensor) {
  std::string_view name = tensor.name;
  if (name.ends_with("norm.weight"))
    return {1.0f, 0.1f};
  if (tensor.shape.size() == 1) // of routers and projections
    return {0.0f, 0.05f};
  if (name == "model.embed_tokens.weight") {
    // Tied, it also makes the logits, which should not be in the tens.
    return {0.0f, config.tieWordEmbeddings ? 0.25f : 1.0f};
  }
  double deviation = 1.0 / std::sqrt(static_cast<double>(tensor.shape[1]));
  bool writes =
      name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
  if (writes)
    deviation /= std::sqrt(2.0 * static_cast<double>(config.numLayers));
  if (config.moe && writes &&
      name.find(".experts.") != std::string_view::npos) {
    // What the weighted sum of the chosen experts would add in size.
    double chosen = std::sqrt(static_cast<double>(config.moe->expertsPerToken));
    double gain = config.moe->routedScale *
                  (config.moe->normTopkProb ? 1.0 / chosen : chosen);
    deviation /= std::max(1.0, gain);
  }
  return {0.0f, static_cast<float>(deviation)};
}

/// A tensor of the model, or the scales of one.
struct Job {
  std::string name;
  DType dtype = DType::BF16;
  std::vector<int64_t> shape;
  Distribution distribution;
  bool isScales = false; ///< of the job before
  size_t shard = 0;

  int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  int64_t cols() const { return shape.back(); }
  uint64_t bytes() const {
    return static_cast<uint64_t>(rows() * cols()) * dtypeBytes(dtype);
  }
};

/// Rows of a job that are made and written at once.
struct Piece {
  size_t job = 0;
  int64_t row = 0, rows = 0;
};

/// Runs the jobs on all threads; pieces are written in order.
class Synthesizer {
public:
  Synthesizer(const SynthOptions &options, const ModelConfig &config,
              std::string directory)
      : options(options), fp8(config.fp8.value_or(checkpoint::Fp8Config())),
        directory(std::move(directory)) {
    for (ExpectedTensor &tensor : expectedTensors(config)) {
      bool isF8 = tensor.dtype == DType::F8E4M3;
      report.parameters += static_cast<uint64_t>(
          checkedProduct(std::span<const int64_t>(tensor.shape)).value_or(0));
      addJob({tensor.name, tensor.dtype, tensor.shape,
              distributionOf(config, tensor)});
      if (isF8)
        addJob({checkpoint::scaleTensorName(tensor.name),
                DType::F32,
                checkpoint::scaleShape(fp8, tensor.shape),
                {},
                true});
    }
    report.tensors = jobs.size();
    report.shards = jobs.back().shard + 1;
  }

  uint64_t totalBytes() const { return report.bytes; }

  Result<SynthReport> run() {
    RETORT_RETURN_IF_ERROR(checkStripes());
    int count = options.threads > 0
                    ? options.threads
                    : static_cast<int>(
                          std::max(1u, std::thread::hardware_concurrency()));
    runOnThreads(static_cast<size_t>(count), [this] { work(); });
    RETORT_RETURN_IF_ERROR(std::move(failure));
    if (writer) {
      RETORT_RETURN_IF_ERROR(writer->commit());
      writer.reset();
    }
    if (report.shards > 1)
      RETORT_RETURN_IF_ERROR(writeIndex());
    return report;
  }

private:
  void addJob(Job job) {
    // Scales stay with their tensor.
    bool full = shardFill > 0 && shardFill + job.bytes() > options.shardBytes;
    if (full && !job.isScales) {
      ++shard;
      shardFill = 0;
    }
    job.shard = shard;
    shardFill += job.bytes();
    report.bytes += job.bytes();
    jobs.push_back(std::move(job));
  }

  int64_t stripeRows(const Job &job) const {
    return job.dtype == DType::F8E4M3 ? std::min(fp8.blockRows, job.rows()) : 1;
  }

  Status checkStripes() const {
    for (const Job &job : jobs)
      if (!job.isScales && stripeRows(job) * job.cols() > kMaxStripeElements)
        return Status::error(Code::Unsupported,
                             "tensor '" + job.name + "': expected at most " +
                                 std::to_string(kMaxStripeElements) +
                                 " elements in the rows of a block, found " +
                                 std::to_string(stripeRows(job) * job.cols()));
    return Status::ok();
  }

  std::string shardName(size_t index) const {
    if (report.shards == 1)
      return "model.safetensors";
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors",
                  index + 1, report.shards);
    return name;
  }

  /// The next piece in order; false at the end and after a failure. Called
  /// with the lock held.
  bool claim(Piece &piece, uint64_t &turn) {
    if (!failure.isOk() || nextJob == jobs.size())
      return false;
    const Job &job = jobs[nextJob];
    int64_t stripe = stripeRows(job);
    int64_t rows = std::max<int64_t>(1, kPieceElements / job.cols() / stripe);
    if (nextRow == 0 && job.isScales == false && nextJob + 1 < jobs.size() &&
        jobs[nextJob + 1].isScales)
      scales[nextJob + 1].resize(jobs[nextJob + 1].bytes() / sizeof(float));
    piece = {nextJob, nextRow, std::min(rows * stripe, job.rows() - nextRow)};
    if (job.isScales)
      piece.rows = job.rows();
    turn = claimed++;
    nextRow += piece.rows;
    if (nextRow == job.rows()) {
      ++nextJob;
      nextRow = 0;
    }
    return true;
  }

  void work() {
    std::vector<std::byte> buffer;
    std::unique_lock lock(mutex);
    Piece piece;
    uint64_t turn = 0;
    while (claim(piece, turn)) {
      const Job &job = jobs[piece.job];
      float *jobScales = nullptr;
      if (auto it = scales.find(piece.job + (job.isScales ? 0 : 1));
          it != scales.end())
        jobScales = it->second.data();
      lock.unlock();
      Status status;
      try {
        if (!job.isScales)
          generate(job, piece, jobScales, buffer);
      } catch (const std::bad_alloc &) {
        status = Status::error(Code::OutOfMemory, "no memory for a tensor");
      }
      if (options.cancel && options.cancel->load(std::memory_order_relaxed))
        status = Status::error(Code::Cancelled, "the synthesis was cancelled");
      lock.lock();
      turned.wait(lock, [&] { return written == turn || !failure.isOk(); });
      if (!failure.isOk())
        return;
      lock.unlock(); // the others wait for this turn
      if (status.isOk())
        status = write(job, job.isScales
                                ? std::as_bytes(std::span(
                                      jobScales, job.bytes() / sizeof(float)))
                                : std::span<const std::byte>(buffer));
      lock.lock();
      if (job.isScales)
        scales.erase(piece.job);
      if (!status.isOk())
        failure = std::move(status);
      ++written;
      turned.notify_all();
    }
  }

  void generate(const Job &job, const Piece &piece, float *jobScales,
                std::vector<std::byte> &buffer) const {
    int64_t cols = job.cols();
    auto elementBytes = static_cast<int64_t>(dtypeBytes(job.dtype));
    uint64_t seed = tensorSeed(options.seed, job.name);
    buffer.resize(static_cast<size_t>(piece.rows * cols * elementBytes));
    if (job.dtype != DType::F8E4M3) {
      std::vector<float> values(
          static_cast<size_t>(std::min<int64_t>(cols, 4096)));
      for (int64_t r = 0; r < piece.rows; ++r)
        for (int64_t c = 0; c < cols;
             c += static_cast<int64_t>(values.size())) {
          auto part = std::span(values).first(
              std::min(values.size(), static_cast<size_t>(cols - c)));
          fillRow(seed, job.distribution, piece.row + r, c, part);
          encode(job.dtype, part,
                 buffer.data() + (r * cols + c) * elementBytes);
        }
      return;
    }
    int64_t scaleCols = ceilDiv(cols, fp8.blockCols);
    std::vector<float> block;
    for (int64_t r = 0; r < piece.rows; r += fp8.blockRows) {
      int64_t rows = std::min(fp8.blockRows, piece.rows - r);
      float *rowScales =
          jobScales + (piece.row + r) / fp8.blockRows * scaleCols;
      for (int64_t c = 0; c < cols; c += fp8.blockCols) {
        int64_t width = std::min(fp8.blockCols, cols - c);
        block.resize(static_cast<size_t>(rows * width));
        for (int64_t i = 0; i < rows; ++i)
          fillRow(seed, job.distribution, piece.row + r + i, c,
                  std::span(block).subspan(static_cast<size_t>(i * width),
                                           static_cast<size_t>(width)));
        float most = largestMagnitude(block);
        float scale = most > 0.0f ? most / 448.0f : 1.0f;
        rowScales[c / fp8.blockCols] = scale;
        for (int64_t i = 0; i < rows; ++i)
          encodeF8(std::span(block).subspan(static_cast<size_t>(i * width),
                                            static_cast<size_t>(width)),
                   scale, buffer.data() + (r + i) * cols + c);
      }
    }
  }

  /// Called by one thread at a time, in order.
  Status write(const Job &job, std::span<const std::byte> bytes) {
    if (!writer || openShard != job.shard) {
      if (writer)
        RETORT_RETURN_IF_ERROR(writer->commit());
      std::vector<SafetensorsWriter::Tensor> declared;
      for (const Job &member : jobs)
        if (member.shard == job.shard)
          declared.push_back({member.name, member.dtype, member.shape});
      auto created = SafetensorsWriter::create(
          directory + "/" + shardName(job.shard), declared, {{"format", "pt"}});
      RETORT_RETURN_IF_ERROR(created.takeStatus());
      writer.emplace(std::move(*created));
      openShard = job.shard;
    }
    RETORT_RETURN_IF_ERROR(writer->append(bytes));
    done += bytes.size();
    if (options.progress)
      options.progress(done, report.bytes);
    return Status::ok();
  }

  Status writeIndex() const {
    nlohmann::ordered_json map = nlohmann::ordered_json::object();
    for (const Job &job : jobs)
      map.push_back({job.name, shardName(job.shard)});
    nlohmann::ordered_json root = {{"metadata", {{"total_size", report.bytes}}},
                                   {"weight_map", std::move(map)}};
    std::string text = root.dump(2) + "\n";
    RETORT_ASSIGN_OR_RETURN(
        OutputFile file,
        OutputFile::create(directory + "/model.safetensors.index.json"));
    RETORT_RETURN_IF_ERROR(
        file.writeAt(0, std::as_bytes(std::span<const char>(text))));
    return file.commit();
  }

  const SynthOptions &options;
  checkpoint::Fp8Config fp8;
  std::string directory;
  std::vector<Job> jobs;
  SynthReport report;
  size_t shard = 0;
  uint64_t shardFill = 0;

  std::mutex mutex; ///< for what follows, up to `failure`
  std::condition_variable turned;
  size_t nextJob = 0;
  int64_t nextRow = 0;
  uint64_t claimed = 0, written = 0;
  std::map<size_t, std::vector<float>> scales; ///< by job of the scales
  Status failure;

  // Of the thread whose turn it is.
  std::optional<SafetensorsWriter> writer;
  size_t openShard = 0;
  uint64_t done = 0;
};

/// A directory that is removed unless it is given its final name.
class StagedDirectory {
public:
  static Result<StagedDirectory> create(const std::string &output) {
    std::error_code error;
    fs::path path = fs::path(output).lexically_normal();
    if (!path.has_filename())
      path = path.parent_path();
    if (fs::exists(path, error) &&
        (!fs::is_directory(path, error) || !fs::is_empty(path, error)))
      return Status::error(
          Code::InvalidArgument,
          output + ": expected no such path or an empty directory, found " +
              (fs::is_directory(path, error) ? "files in it" : "a file"));
    StagedDirectory staged;
    staged.final = path.string();
    staged.partial = staged.final + ".partial-" + std::to_string(::getpid());
    if (path.has_parent_path())
      fs::create_directories(path.parent_path(), error);
    fs::create_directory(staged.partial, error);
    if (error) {
      std::string partial = std::exchange(staged.partial, {});
      return Status::error(Code::Io, partial + ": cannot make the directory: " +
                                         error.message());
    }
    return staged;
  }
  StagedDirectory(StagedDirectory &&other) noexcept
      : final(std::move(other.final)),
        partial(std::exchange(other.partial, {})) {}
  StagedDirectory &operator=(StagedDirectory &&) = delete;
  ~StagedDirectory() {
    std::error_code ignored;
    if (!partial.empty())
      fs::remove_all(partial, ignored);
  }

  const std::string &path() const { return partial; }

  Status commit() {
    std::error_code error;
    fs::rename(partial, final, error);
    if (error)
      return Status::error(Code::Io, final + ": cannot rename " + partial +
                                         " to it: " + error.message());
    partial.clear();
    return Status::ok();
  }

private:
  StagedDirectory() = default;
  std::string final, partial;
};

Status writeText(const std::string &path, const std::string &text) {
  RETORT_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path));
  RETORT_RETURN_IF_ERROR(
      file.writeAt(0, std::as_bytes(std::span<const char>(text))));
  return file.commit();
}

Status copyTexts(const std::string &from, const std::string &to) {
  for (const char *name : kCopiedFiles) {
    std::string source = from + "/" + name;
    if (!pathExists(source))
      continue;
    std::error_code error;
    fs::copy_file(source, to + "/" + name, error);
    if (error)
      return Status::error(Code::Io,
                           source + ": cannot copy: " + error.message());
  }
  return Status::ok();
}

Status checkSpace(const std::string &output, const std::string &directory,
                  uint64_t needed) {
  std::error_code error;
  fs::space_info space = fs::space(directory, error);
  if (error || space.available >= needed)
    return Status::ok();
  return Status::error(
      Code::Io, directory + ": expected " + std::to_string(needed / 1'000'000) +
                    " MB of free space, found " +
                    std::to_string(space.available / 1'000'000));
}

} // namespace

Result<SynthReport> synthesize(const SynthOptions &options) {
  std::string path = options.source + "/config.json";
  RETORT_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxConfigBytes));
  RETORT_ASSIGN_OR_RETURN(text, adaptConfig(text, path, options));
  RETORT_ASSIGN_OR_RETURN(ModelConfig config,
                          checkpoint::parseConfig(text, path));
  RETORT_ASSIGN_OR_RETURN(StagedDirectory staged,
                          StagedDirectory::create(options.output));
  try {
    Synthesizer synthesizer(options, config, staged.path());
    RETORT_RETURN_IF_ERROR(
        checkSpace(options.output, staged.path(), synthesizer.totalBytes()));
    RETORT_RETURN_IF_ERROR(copyTexts(options.source, staged.path()));
    RETORT_ASSIGN_OR_RETURN(SynthReport report, synthesizer.run());
    RETORT_RETURN_IF_ERROR(writeText(staged.path() + "/config.json", text));
    RETORT_RETURN_IF_ERROR(staged.commit());
    return report;
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory, "no memory to synthesize");
  }
}

} // namespace retort::synth
