//===- Packer.cpp - Streaming weights into a file ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pack/Packer.h"

#include "compiler/pack/Quantizer.h"
#include "compiler/pack/SpecReader.h"
#include "runtime/abi/Format.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <xxhash.h>

namespace retort {
namespace {

/// Elements of a work unit: enough to amortise its bookkeeping, few enough for
/// many threads to fit a small memory. Units do not depend on the options, so
/// neither do sums over them.
constexpr int64_t kUnitElements = int64_t(1) << 20;
/// Source pages around a unit that stay resident for a while, per thread.
constexpr uint64_t kPageSlack = uint64_t(1) << 20;
/// Stacks, allocator and the like.
constexpr uint64_t kFixedSlack = uint64_t(8) << 20;

constexpr std::byte kZeros[abi::kWeightAlignment] = {};

/// What the process has resident now; 0 where /proc does not say.
uint64_t residentBytes() {
  std::FILE *statm = std::fopen("/proc/self/statm", "r");
  if (!statm)
    return 0;
  unsigned long long total = 0, resident = 0;
  int fields = std::fscanf(statm, "%llu %llu", &total, &resident);
  std::fclose(statm);
  return fields == 2 ? resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))
                     : 0;
}

/// A piece of a spec that one thread encodes: strips of a matrix, elements of a
/// vector, or a whole literal.
struct Unit {
  size_t index = 0; ///< in file order
  size_t spec = 0;
  int64_t first = 0, count = 0;
  bool isLast = false; ///< of its spec
};

/// How a spec is cut into units.
int64_t piecesOf(const WeightSpec &spec) {
  switch (spec.form) {
  case WeightForm::Matrix:
    return ceilDiv(spec.rows, kStripRows);
  case WeightForm::Vector:
    return spec.cols;
  case WeightForm::Literal:
    return 1;
  }
  return 0;
}
int64_t piecesPerUnit(const WeightSpec &spec) {
  switch (spec.form) {
  case WeightForm::Matrix:
    return std::max<int64_t>(1, kUnitElements / (kStripRows * spec.cols));
  case WeightForm::Vector:
    return kUnitElements;
  case WeightForm::Literal:
    return 1;
  }
  return 1;
}

/// Memory of one thread and of one output buffer that serve every spec.
struct Footprint {
  uint64_t rows = 0;   ///< floats of a strip
  uint64_t source = 0; ///< resident bytes of the checkpoint
  uint64_t output = 0;

  uint64_t threadBytes() const { return rows * 4 + source + kPageSlack; }
  uint64_t total(uint64_t threads) const {
    return kFixedSlack + threads * threadBytes() +
           (threads + 2) * (output + abi::kWeightAlignment);
  }
};

class PackRun {
public:
  PackRun(std::span<const WeightSpec> specs, WeightSink &sink,
          const PackOptions &options)
      : specs(specs), sink(sink), options(options), packed(specs.size()) {}

  Status prepare(const checkpoint::Checkpoint &checkpoint);
  Result<std::vector<PackedWeight>> run();

private:
  using Clock = std::chrono::steady_clock;

  /// A finished unit that waits until those before it are hashed. Literals
  /// have no buffer.
  struct Finished {
    Unit unit;
    std::span<const std::byte> bytes;
    int buffer;
    SquaredError error;
  };
  struct Job {
    Unit unit;
    int buffer;
  };

  void work(std::vector<float> &rows);
  bool takeJob(Job &job);
  Status encode(const Job &job, std::vector<float> &rows, Finished &out);
  Status encodeMatrix(const Unit &unit, std::vector<float> &rows,
                      std::byte *out, SquaredError &error);
  void finish(Finished done);
  Status record(bool everything);
  void fail(const Unit &unit, Status status);
  Clock::duration recordInterval() const {
    return std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(options.recordSeconds));
  }
  bool isCancelled() const {
    return options.cancel && options.cancel->load(std::memory_order_relaxed);
  }

  std::span<const WeightSpec> specs;
  WeightSink &sink;
  const PackOptions &options;
  std::vector<PackedWeight> packed;
  std::vector<SpecReader> readers; ///< of matrices and vectors
  std::vector<size_t> readerOf;    ///< by spec
  uint64_t totalSource = 0;
  size_t numThreads = 1;
  std::vector<std::vector<float>> rowBuffers; ///< one per thread
  std::vector<std::vector<std::byte>> outputs;

  std::mutex mutex; ///< of everything below
  std::condition_variable bufferFreed;
  Unit next;
  std::vector<int> freeBuffers;
  std::map<size_t, Finished> waiting; ///< by unit
  size_t nextToHash = 0;
  size_t hashedSpecs = 0; ///< how many of `packed` are complete
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> hash{
      nullptr, XXH3_freeState};
  SquaredError error; ///< of the spec that is being hashed
  uint64_t doneSource = 0;
  Status failure;
  size_t failedUnit = std::numeric_limits<size_t>::max();

  std::mutex recordMutex; ///< of everything below; taken before `mutex`
  size_t recordedSpecs = 0;
  Clock::time_point nextRecord;
};

Status PackRun::prepare(const checkpoint::Checkpoint &checkpoint) {
  Footprint footprint;
  uint64_t offset = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const WeightSpec &spec = specs[i];
    uint64_t size = static_cast<uint64_t>(spec.bytes());
    packed[i].offset = offset;
    packed[i].size = size;
    packed[i].storedSize = roundUp(size, abi::kWeightAlignment);
    offset += packed[i].storedSize;
    readerOf.push_back(readers.size());
    bool isDone = i < sink.finished().size();
    if (isDone)
      packed[i] = sink.finished()[i];
    if (spec.form == WeightForm::Literal)
      continue;
    RETORT_ASSIGN_OR_RETURN(SpecReader reader,
                            SpecReader::create(spec, checkpoint));
    bool isMatrix = spec.form == WeightForm::Matrix;
    int64_t rowsPerPiece = isMatrix ? kStripRows : 1;
    int64_t pieces = std::min(piecesOf(spec), piecesPerUnit(spec));
    auto sourceBytes = static_cast<uint64_t>(
        reader.sourceBytes(0, piecesOf(spec) * rowsPerPiece));
    totalSource += sourceBytes;
    doneSource += isDone ? sourceBytes : 0;
    footprint.source = std::max(
        footprint.source,
        static_cast<uint64_t>(reader.maxSourceBytes(pieces * rowsPerPiece)));
    if (isMatrix)
      footprint.rows =
          std::max(footprint.rows,
                   static_cast<uint64_t>(kStripRows * stripStride(spec.cols)));
    footprint.output = std::max(
        footprint.output,
        static_cast<uint64_t>(
            pieces * (isMatrix ? spec.encoding.stripBytes(spec.cols) : 4)));
    readers.push_back(std::move(reader));
  }

  uint64_t resident = residentBytes();
  uint64_t least = resident + footprint.total(1);
  if (least > options.maxRam)
    return Status::error(Code::OutOfMemory,
                         "packing the weights needs a memory limit of at "
                         "least " +
                             std::to_string(ceilDiv(least, uint64_t(1) << 20)) +
                             " MiB, found " +
                             std::to_string(options.maxRam >> 20) + " MiB");
  uint64_t wanted = options.threads > 0 ? static_cast<uint64_t>(options.threads)
                                        : std::thread::hardware_concurrency();
  numThreads = 1;
  while (numThreads < wanted &&
         resident + footprint.total(numThreads + 1) <= options.maxRam)
    ++numThreads;

  rowBuffers.resize(numThreads);
  for (std::vector<float> &rows : rowBuffers)
    rows.resize(footprint.rows);
  outputs.resize(numThreads + 2);
  for (std::vector<std::byte> &output : outputs) {
    freeBuffers.push_back(static_cast<int>(freeBuffers.size()));
    output.resize(footprint.output + abi::kWeightAlignment);
  }
  hash.reset(XXH3_createState());
  if (!hash)
    return Status::error(Code::OutOfMemory, "no memory for a hash");
  XXH3_64bits_reset(hash.get());
  next.spec = hashedSpecs = recordedSpecs = sink.finished().size();
  return Status::ok();
}

/// Waits for a buffer, then takes the next unit in file order: so the first
/// unit that is not hashed yet always has one. False if there is no more to do.
bool PackRun::takeJob(Job &job) {
  std::unique_lock lock(mutex);
  bufferFreed.wait(lock, [&] {
    return !freeBuffers.empty() || !failure.isOk() || next.spec == specs.size();
  });
  if (!failure.isOk() || next.spec == specs.size())
    return false;
  const WeightSpec &spec = specs[next.spec];
  int64_t left = piecesOf(spec) - next.first;
  job.unit = next;
  job.unit.count = std::min(left, piecesPerUnit(spec));
  job.unit.isLast = job.unit.count == left;
  job.buffer = freeBuffers.back();
  freeBuffers.pop_back();
  ++next.index;
  next.first += job.unit.count;
  if (job.unit.isLast) {
    ++next.spec;
    next.first = 0;
  }
  return true;
}

Status PackRun::encodeMatrix(const Unit &unit, std::vector<float> &rows,
                             std::byte *out, SquaredError &error) {
  const WeightSpec &spec = specs[unit.spec];
  const SpecReader &reader = readers[readerOf[unit.spec]];
  int64_t stride = stripStride(spec.cols);
  bool isF8 = spec.encoding.kind == EncodingKind::Fp8;
  // Bits and scales together are smaller than the strip's floats.
  auto *bits = reinterpret_cast<uint8_t *>(rows.data());
  float *scales = rows.data() + kStripRows * stride / 4;
  // The same for integers: 2 bytes each, and at least 32 share scale and zero
  // point.
  auto *quants = reinterpret_cast<int16_t *>(rows.data());
  float *integerScales = rows.data() + kStripRows * stride / 2;
  auto *zeros = reinterpret_cast<int8_t *>(integerScales + stride);
  if (spec.encoding.isInteger() && !reader.copiesIntegers() &&
      spec.encoding.scales != ScaleKind::BF16)
    return Status::error(Code::Internal,
                         "weight '" + spec.name + "': expected sources that " +
                             spec.encoding.str() + " holds exactly");
  for (int64_t strip = unit.first; strip < unit.first + unit.count; ++strip) {
    if (isCancelled())
      return Status::error(Code::Cancelled, "packing was cancelled");
    if (isF8) {
      RETORT_RETURN_IF_ERROR(
          reader.readF8Strip(strip * kStripRows, bits, stride, scales));
      encodeF8Strip(bits, stride, scales, spec.cols, out);
      out += spec.encoding.stripBytes(spec.cols);
      continue;
    }
    if (reader.copiesIntegers()) {
      reader.readIntegerStrip(strip * kStripRows, quants, stride, integerScales,
                              zeros);
      encodeIntegerStrip(spec.encoding, quants, stride, integerScales, zeros,
                         spec.cols, out);
      out += spec.encoding.stripBytes(spec.cols);
      continue;
    }
    RETORT_RETURN_IF_ERROR(
        reader.readRows(strip * kStripRows, kStripRows, rows.data(), stride));
    if (auto bad = encodeStrip(spec.encoding, rows.data(), stride, spec.cols,
                               out, error))
      return Status::error(
          Code::InvalidData,
          reader.describe(strip * kStripRows + bad->row, bad->col) +
              ": expected " + std::string(bad->expected) + " for " +
              spec.encoding.str() + ", found " + std::to_string(bad->value));
    out += spec.encoding.stripBytes(spec.cols);
  }
  reader.dropResident(unit.first * kStripRows, unit.count * kStripRows);
  return Status::ok();
}

Status PackRun::encode(const Job &job, std::vector<float> &rows,
                       Finished &out) {
  const Unit &unit = job.unit;
  const WeightSpec &spec = specs[unit.spec];
  std::vector<std::byte> &buffer = outputs[static_cast<size_t>(job.buffer)];
  uint64_t begin = 0, size = 0; // within the tensor
  if (isCancelled())
    return Status::error(Code::Cancelled, "packing was cancelled");
  switch (spec.form) {
  case WeightForm::Matrix: {
    auto stripBytes =
        static_cast<uint64_t>(spec.encoding.stripBytes(spec.cols));
    begin = static_cast<uint64_t>(unit.first) * stripBytes;
    size = static_cast<uint64_t>(unit.count) * stripBytes;
    RETORT_RETURN_IF_ERROR(encodeMatrix(unit, rows, buffer.data(), out.error));
    break;
  }
  case WeightForm::Vector: {
    const SpecReader &reader = readers[readerOf[unit.spec]];
    begin = static_cast<uint64_t>(unit.first) * 4;
    size = static_cast<uint64_t>(unit.count) * 4;
    auto *elements = reinterpret_cast<float *>(buffer.data());
    RETORT_RETURN_IF_ERROR(
        reader.readElements(unit.first, unit.count, elements));
    reader.dropResident(unit.first, unit.count);
    for (int64_t i = 0; i < unit.count; ++i)
      if (!std::isfinite(elements[i]))
        return Status::error(Code::InvalidData,
                             reader.describe(0, unit.first + i) +
                                 ": expected a finite value, found " +
                                 std::to_string(elements[i]));
    break;
  }
  case WeightForm::Literal:
    // Literals of any size are written from where they are.
    size = spec.literal.size();
    RETORT_RETURN_IF_ERROR(sink.write(packed[unit.spec].offset, spec.literal));
    out.bytes = spec.literal;
    return sink.write(
        packed[unit.spec].offset + size,
        std::span(kZeros).first(packed[unit.spec].storedSize - size));
  }
  if (unit.isLast) {
    uint64_t padded = packed[unit.spec].storedSize - begin;
    std::fill_n(buffer.begin() + static_cast<ptrdiff_t>(size), padded - size,
                std::byte(0));
    size = padded;
  }
  out.bytes = std::span(buffer).first(size);
  return sink.write(packed[unit.spec].offset + begin, out.bytes);
}

void PackRun::fail(const Unit &unit, Status status) {
  std::lock_guard lock(mutex);
  if (unit.index < failedUnit) {
    failedUnit = unit.index;
    failure = std::move(status);
  }
  bufferFreed.notify_all();
}

/// Hashes what has become next in file order.
void PackRun::finish(Finished done) {
  std::lock_guard lock(mutex);
  size_t index = done.unit.index;
  waiting.emplace(index, std::move(done));
  while (!waiting.empty() && waiting.begin()->first == nextToHash) {
    Finished current = std::move(waiting.begin()->second);
    waiting.erase(waiting.begin());
    ++nextToHash;
    const Unit &unit = current.unit;
    const WeightSpec &spec = specs[unit.spec];
    PackedWeight &weight = packed[unit.spec];
    XXH3_64bits_update(hash.get(), current.bytes.data(), current.bytes.size());
    error.add(current.error);
    if (unit.isLast) {
      if (spec.form == WeightForm::Literal)
        XXH3_64bits_update(hash.get(), kZeros, weight.storedSize - weight.size);
      weight.hash = XXH3_64bits_digest(hash.get());
      weight.relativeError = error.relative();
      XXH3_64bits_reset(hash.get());
      error = {};
      hashedSpecs = unit.spec + 1;
    }
    if (spec.form != WeightForm::Literal) {
      int64_t rows = spec.form == WeightForm::Matrix ? kStripRows : 1;
      doneSource +=
          static_cast<uint64_t>(readers[readerOf[unit.spec]].sourceBytes(
              unit.first * rows, unit.count * rows));
    }
    freeBuffers.push_back(current.buffer);
    bufferFreed.notify_all();
    if (options.progress)
      options.progress(doneSource, totalSource);
  }
}

/// Hands the sink what has been hashed since the last time: if it is due, and
/// no other thread does so, or in any case with `everything`.
Status PackRun::record(bool everything) {
  std::unique_lock recording(recordMutex, std::defer_lock);
  if (everything)
    recording.lock();
  else if (!recording.try_lock())
    return Status::ok();
  Clock::time_point start = Clock::now();
  size_t end;
  {
    std::lock_guard lock(mutex);
    end = hashedSpecs;
  }
  if (end == recordedSpecs || (start < nextRecord && !everything))
    return Status::ok();
  RETORT_RETURN_IF_ERROR(sink.record(
      recordedSpecs,
      std::span(packed).subspan(recordedSpecs, end - recordedSpecs)));
  recordedSpecs = end;
  Clock::time_point now = Clock::now();
  constexpr int kCostFactor = 20;
  nextRecord = now;
  if (options.recordSeconds > 0)
    nextRecord += std::max<Clock::duration>(recordInterval(),
                                            kCostFactor * (now - start));
  return Status::ok();
}

void PackRun::work(std::vector<float> &rows) {
  Job job;
  while (takeJob(job)) {
    Finished done{job.unit, {}, job.buffer, {}};
    Status status;
    try {
      status = encode(job, rows, done);
      if (status.isOk()) {
        finish(std::move(done));
        status = record(/*everything=*/false);
      }
    } catch (const std::bad_alloc &) {
      status =
          Status::error(Code::OutOfMemory, "no memory to pack the weights");
    }
    if (!status.isOk())
      return fail(job.unit, std::move(status));
  }
}

Result<std::vector<PackedWeight>> PackRun::run() {
  Clock::time_point start = Clock::now();
  nextRecord = start + recordInterval();
  // Where this run begins, for its rate.
  if (options.progress && doneSource > 0)
    options.progress(doneSource, totalSource);
  std::vector<std::thread> threads;
  threads.reserve(numThreads);
  try {
    for (size_t i = 1; i < numThreads; ++i)
      threads.emplace_back([this, i] { work(rowBuffers[i]); });
  } catch (const std::system_error &) {
    // The threads that could be had do the work.
  }
  work(rowBuffers[0]);
  for (std::thread &thread : threads)
    thread.join();
  // What took no time may be done again.
  if (!failure.isOk() || Clock::now() >= start + recordInterval()) {
    Status recorded = record(/*everything=*/true);
    if (failure.isOk())
      failure = std::move(recorded);
  }
  if (!failure.isOk())
    return std::move(failure);
  return std::move(packed);
}

/// The size of a spec, if its shape makes sense.
Result<uint64_t> checkedBytes(const WeightSpec &spec) {
  std::string where = "weight '" + spec.name + "': ";
  if (spec.form == WeightForm::Literal) {
    if (spec.literal.empty())
      return Status::error(Code::InvalidArgument, where + "expected bytes");
    return static_cast<uint64_t>(spec.literal.size());
  }
  constexpr int64_t kMaxDim = int64_t(1) << 40;
  bool isMatrix = spec.form == WeightForm::Matrix;
  if (spec.rows < 1 || spec.cols < 1 || spec.rows > kMaxDim ||
      spec.cols > kMaxDim || (!isMatrix && spec.rows != 1))
    return Status::error(Code::InvalidArgument,
                         where + "expected a shape of positive dimensions, " +
                             "found [" + std::to_string(spec.rows) + ", " +
                             std::to_string(spec.cols) + "]");
  if (isMatrix && PackedEncoding::parse(spec.encoding.str()) != spec.encoding)
    return Status::error(Code::InvalidArgument,
                         where + "unknown encoding " + spec.encoding.str());
  auto elements = checkedMul(roundUp(spec.rows, kStripRows),
                             roundUp(spec.cols, kStrideMultiple));
  if (!elements || *elements > std::numeric_limits<int64_t>::max() / 16)
    return Status::error(Code::InvalidArgument,
                         where + "the shape is too large");
  return static_cast<uint64_t>(spec.bytes());
}

} // namespace

Result<uint64_t> weightsSectionBytes(std::span<const WeightSpec> specs) {
  constexpr uint64_t kMaxSection = uint64_t(1) << 62;
  uint64_t total = 0;
  for (const WeightSpec &spec : specs) {
    RETORT_ASSIGN_OR_RETURN(uint64_t bytes, checkedBytes(spec));
    auto sum = checkedAdd(total, roundUp(bytes, abi::kWeightAlignment));
    if (!sum || *sum > kMaxSection)
      return Status::error(Code::InvalidArgument,
                           "weight '" + spec.name +
                               "': the weights together are too large");
    total = *sum;
  }
  return total;
}

std::vector<PackedWeight> placeWeights(std::span<const WeightSpec> specs) {
  std::vector<PackedWeight> placed;
  uint64_t offset = 0;
  for (const WeightSpec &spec : specs) {
    PackedWeight &weight = placed.emplace_back();
    weight.offset = offset;
    weight.size = static_cast<uint64_t>(spec.bytes());
    weight.storedSize = roundUp(weight.size, abi::kWeightAlignment);
    offset += weight.storedSize;
  }
  return placed;
}

Result<std::vector<PackedWeight>>
packWeights(std::span<const WeightSpec> specs,
            const checkpoint::Checkpoint &checkpoint, WeightSink &sink,
            const PackOptions &options) {
  RETORT_RETURN_IF_ERROR(weightsSectionBytes(specs));
  try {
    PackRun run(specs, sink, options);
    RETORT_RETURN_IF_ERROR(run.prepare(checkpoint));
    return run.run();
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory, "no memory to pack the weights");
  }
}

} // namespace retort
