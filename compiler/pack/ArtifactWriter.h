//===- ArtifactWriter.h - Writing artifacts ---------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Lays out and writes what runtime/abi/Format.h describes: header, code,
/// texts, weights, index, and maybe parts. A failure leaves no file of the
/// output's name, but maybe `<output>.partial` (PartialOutput.h).
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PACK_ARTIFACTWRITER_H
#define RETORT_COMPILER_PACK_ARTIFACTWRITER_H

#include "compiler/pack/Packer.h"
#include "compiler/pack/PartialOutput.h"
#include "runtime/abi/artifact_generated.h"

#include <functional>
#include <string>
#include <vector>

namespace retort {

/// A code section: "code/x86-64-v3" and the bytes of an ELF shared object.
struct CodeSection {
  std::string name;
  std::vector<std::byte> bytes;
};

/// A section that is stored compressed.
struct TextSection {
  std::string name; ///< "text/tokenizer.json"
  std::string text;
  abi::SectionKind kind = abi::SectionKind::Text; ///< or Data
};

/// All that goes into an artifact.
struct ArtifactContents {
  /// Complete but for `sections` and `program.weights`, which the writer fills:
  /// sections are the codes in order, the texts in order, "weights"; weights
  /// are the specs in order. So `targets[i].section` is an index into `codes`.
  abi::IndexT index;
  std::vector<CodeSection> codes;
  std::vector<TextSection> texts;
  std::vector<WeightSpec> weights;
  /// Leave the weights section out: `program.weights` says what it would hold.
  bool withoutWeights = false;
  /// Called when the file at `path`, not yet under its final name, is a
  /// complete artifact: the place to run it. May add to the index (never remove
  /// from it) and set `certificate`; true says that it did, and the index is
  /// written again.
  std::function<Result<bool>(const std::string &path, abi::IndexT &index)>
      examine;
  /// What goes into the section `data/certificate` behind all others; empty:
  /// there is none.
  std::string certificate;
  /// If not 0, weights go into files of at most so many bytes beside the
  /// artifact: at least two abi::kPartAlignment. Excludes `standaloneRuntime`
  /// and `withoutWeights`.
  uint64_t partBytes = 0;
  /// If not empty, the runtime executable that is put in front of the artifact,
  /// which makes the output an executable (StandaloneFooter).
  std::string standaloneRuntime;
};

/// Sizes in bytes, for the user.
struct ArtifactSizes {
  uint64_t file = 0;    ///< with parts
  uint64_t weights = 0; ///< also if they are left out
  uint64_t code = 0;
  uint64_t texts = 0;
  size_t parts = 0; ///< how many
};

struct WriteOptions {
  PackOptions pack;
  /// Whether to go on with what an interrupted writeArtifact() left, and
  /// progress and notes of that. `pack.cancel` counts here too.
  ResumeOptions resume;
};

/// Writes `path`, and fills `contents.index` on the way. What is interrupted,
/// or fails for another reason than bad input, goes on where it stopped when it
/// is called again with the same input.
Result<ArtifactSizes> writeArtifact(ArtifactContents &contents,
                                    const checkpoint::Checkpoint &checkpoint,
                                    const std::string &path,
                                    const WriteOptions &options);

/// The sizes that an artifact of these contents would have, and its index with
/// the weights in their places. Nothing is written, no weight is read.
Result<ArtifactSizes> predictArtifact(ArtifactContents &contents,
                                      std::vector<std::byte> &index);

/// Joins a runtime executable and an artifact to an executable. `runtimePath`
/// must name an ELF file and `artifactPath` an artifact that fills its file.
Status writeStandalone(const std::string &runtimePath,
                       const std::string &artifactPath,
                       const std::string &outPath);

} // namespace retort

#endif // RETORT_COMPILER_PACK_ARTIFACTWRITER_H
