//===- Model.cpp - An artifact with its code --------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/engine/Model.h"

namespace retort {

Result<std::shared_ptr<const Model>>
Model::load(std::shared_ptr<const Artifact> artifact, std::string_view target) {
  RETORT_ASSIGN_OR_RETURN(CodeModule code, CodeModule::load(*artifact, target));
  return std::shared_ptr<const Model>(
      new Model(std::move(artifact), std::move(code)));
}

Status placeWeights(const Artifact &artifact, Placement spread) {
  if (spread == Placement::Off)
    return Status::ok();
  std::vector<int> nodes = Topology::ofThisProcess().nodes();
  if (spread == Placement::Auto && nodes.size() < 2)
    return Status::ok();
  Status done = interleave(artifact.weights(), nodes);
  if (spread == Placement::Auto)
    return Status::ok();
  return done;
}

} // namespace retort
