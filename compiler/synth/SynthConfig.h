//===- SynthConfig.h - The config.json of random models ---------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The configuration that a synthetic checkpoint is written with.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_SYNTH_SYNTHCONFIG_H
#define RETORT_COMPILER_SYNTH_SYNTHCONFIG_H

#include "compiler/synth/Synth.h"

namespace retort::synth {

/// config.json with what `options` change; every other field is kept, in its
/// order. Errors name `path`, where `text` is from, or the option at fault.
Result<std::string> adaptConfig(const std::string &text,
                                const std::string &path,
                                const SynthOptions &options);

} // namespace retort::synth

#endif // RETORT_COMPILER_SYNTH_SYNTHCONFIG_H
