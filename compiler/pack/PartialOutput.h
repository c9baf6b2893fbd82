//===- PartialOutput.h - An artifact that is being written ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The folder `<output>.partial`, in which an artifact is written under its
/// final names, beside the journal of what is finished (Journal.h). If the
/// process ends before the artifact is complete, the next one goes on from
/// there.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_PARTIALOUTPUT_H
#define RETORT_COMPILER_PACK_PARTIALOUTPUT_H

#include "compiler/pack/Journal.h"
#include "runtime/support/File.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace retort {

/// Consecutive weights in one file.
struct WeightPiece {
  std::string part;        ///< the file's name; empty: the artifact's own
  uint64_t fileOffset = 0; ///< of the first byte
  uint64_t size = 0;
};

/// What an output will hold.
struct OutputPlan {
  std::vector<JournalInput> inputs;
  std::vector<PackedWeight> placed;
  std::vector<WeightPiece> pieces; ///< in order; they cover all weights
};

struct ResumeOptions {
  bool resume = true; ///< or start anew whatever is there
  std::function<void(const std::string &note)> note;
  /// Bytes of finished weights that have been read again, and in total.
  std::function<void(uint64_t done, uint64_t total)> progress;
  const std::atomic<bool> *cancel = nullptr;
};

class PartialOutput : public WeightSink {
public:
  /// Makes or finds the folder and locks it. Errors: an output that cannot be,
  /// a folder that is not of this making, another process that has it.
  static Result<std::unique_ptr<PartialOutput>> open(const std::string &path);

  /// Without commit() the folder stays if it holds finished weights, or if
  /// begin() has not looked for them, and is removed if not.
  ~PartialOutput() override;
  PartialOutput(const PartialOutput &) = delete;
  PartialOutput &operator=(const PartialOutput &) = delete;

  /// Opens the files, and takes over the finished weights that are there if
  /// they come from the same inputs and have the right bytes. Says so in a
  /// note.
  Status begin(OutputPlan plan, const ResumeOptions &options);

  /// Where the artifact is until commit().
  std::string mainPath() const { return folder + "/" + mainName; }
  WritableFile &main() { return files[0]->file; }
  /// Writes at the start of part `number`, from 0: piece `number` of the plan.
  Status writePartFront(size_t number, std::span<const std::byte> bytes) {
    files[number + 1]->isDirty = true;
    return files[number + 1]->file.writeAt(0, bytes);
  }

  Status write(uint64_t offset, std::span<const std::byte> bytes) override;
  std::span<const PackedWeight> finished() const override { return done; }
  Status record(size_t first, std::span<const PackedWeight> weights) override;

  /// Gives the files their names, the artifact's own last, and removes the
  /// folder.
  Status commit(bool executable);
  /// Nothing that begin() has taken over or made will stay.
  void discard() { keepFinished = keepFinished && !isTakenOver; }
  /// True if finished weights would stay.
  bool holdsFinished() const { return keepFinished && finishedBytes > 0; }
  /// "model.retort.partial holds 37% of the weights".
  std::string describe() const;

private:
  struct File {
    std::string name;
    WritableFile file;
    std::atomic<bool> isDirty = false;
    explicit File(std::string name) : name(std::move(name)) {}
  };

  PartialOutput() = default;
  Status lock();
  Status checkFolder();
  Result<std::vector<PackedWeight>> readJournal(const ResumeOptions &options);
  Status openFiles();
  Status verify(std::span<const PackedWeight> recorded,
                const ResumeOptions &options);
  Result<uint64_t> hashWeight(const PackedWeight &weight);
  Status startAnew();
  Status sync();
  std::string journalPath() const {
    return folder + "/" + mainName + ".journal";
  }
  void removeContent();
  template <typename Visit>
  Status forPieces(uint64_t offset, uint64_t size, Visit visit);

  std::string path;     ///< of the artifact
  std::string folder;   ///< path + ".partial"
  std::string mainName; ///< of the artifact's own file
  WritableFile journal; ///< locked
  OutputPlan plan;
  std::vector<std::unique_ptr<File>> files; ///< the artifact's own, then parts
  std::vector<PackedWeight> done;           ///< when this process began
  uint64_t inputsHash = 0, journalEnd = 0;
  uint64_t finishedBytes = 0, totalBytes = 0;
  bool keepFinished = true, isCommitted = false;
  /// What the folder held before is known, and taken over if it was right.
  bool isTakenOver = false;
};

} // namespace retort

#endif // RETORT_COMPILER_PACK_PARTIALOUTPUT_H
