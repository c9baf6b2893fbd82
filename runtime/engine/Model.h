//===- Model.h - An artifact with its code ----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ENGINE_MODEL_H
#define RETORT_RUNTIME_ENGINE_MODEL_H

#include "runtime/loader/CodeModule.h"
#include "runtime/support/Topology.h"

#include <memory>
#include <string_view>

namespace retort {

/// An artifact whose code is loaded. Immutable; sessions share it.
class Model {
public:
  /// Loads the code of the best target, or of the one named `target`.
  static Result<std::shared_ptr<const Model>>
  load(std::shared_ptr<const Artifact> artifact, std::string_view target = {});

  const Artifact &artifact() const { return *source; }
  const abi::Index &index() const { return source->index(); }
  const abi::Model &info() const { return *source->index().model(); }
  const abi::Program &program() const { return *source->index().program(); }
  const CodeModule &code() const { return module; }

private:
  Model(std::shared_ptr<const Artifact> artifact, CodeModule code)
      : source(std::move(artifact)), module(std::move(code)) {}
  std::shared_ptr<const Artifact> source;
  CodeModule module;
};

/// Spreads the weights' pages over the memory nodes that this process runs on
/// (interleave() of runtime/support/Topology.h): with Auto where there are
/// several, if the system can.
Status placeWeights(const Artifact &artifact, Placement spread);

} // namespace retort

#endif // RETORT_RUNTIME_ENGINE_MODEL_H
