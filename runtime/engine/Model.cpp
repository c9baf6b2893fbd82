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

} // namespace retort
