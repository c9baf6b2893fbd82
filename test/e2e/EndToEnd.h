//===- EndToEnd.h - What end-to-end tests share -----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The tools under test, test data, and tensors that the tools write.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_E2E_ENDTOEND_H
#define RETORT_TEST_E2E_ENDTOEND_H

#include "test/e2e/Process.h"
#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gtest/gtest.h>

namespace retort::test {

/// The path of a tool, e.g. "retort": from this build, or from the folder that
/// the variable RETORT_BIN_DIR names.
std::string tool(std::string_view name);

/// `retort` with these arguments.
ProcessResult runRetort(std::vector<std::string> arguments,
                        const ProcessOptions &options = {});

/// A file or folder of the shared test data; empty if it isn't there, which
/// `RETORT_REQUIRE_SHARED` turns into a skipped test.
std::string shared(std::string_view path);

/// A file or folder of the source tree.
std::string source(std::string_view path);

std::string readFile(const std::string &path);

/// A tensor as f32 or i32 values, row-major.
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> floats;     ///< if it is a float tensor
  std::vector<int32_t> integers; ///< if it is an integer tensor
};

/// Throws if the file can't be read or lacks the tensor.
Tensor readTensor(const std::string &path, std::string_view name);

/// Root of the sum of squared differences over that of squared expectations.
/// Infinity for different lengths or values that aren't finite.
double relativeRms(const std::vector<float> &found,
                   const std::vector<float> &expected);

/// "1,2,3", as --tokens takes it.
std::string tokenList(const std::vector<int32_t> &tokens);

/// `count` tokens in [3, vocab): 0 to 2 are special in CheckpointBuilder's
/// models.
std::vector<int32_t> randomTokens(size_t count, int64_t vocab, uint64_t seed);

/// Compiles with `flags`; the artifact's path. A failure fails the test.
std::string compileCheckpoint(const std::string &checkpoint,
                              const std::string &output,
                              const std::vector<std::string> &flags = {});

/// Compiles once per checkpoint and flags, for tests that only read the
/// artifact.
const std::string &compiledOnce(const std::string &checkpoint,
                                const std::vector<std::string> &flags = {});

/// An artifact of the bundled arithmetic student, which has a tokenizer.
const std::string &studentArtifact();

/// An artifact of a random model without tokenizer, context 512.
const std::string &tinyArtifact();

/// Logits of `tokens` [T, vocab] through `retort run`.
Tensor runLogits(const std::string &artifact,
                 const std::vector<int32_t> &tokens,
                 const std::vector<std::string> &flags = {});

/// Passes if the command ended as an error should: with `exitCode`, and one
/// line on standard error that begins with "error: " or "<tool>: error: ",
/// holds all of `parts` and does not end in a full stop.
::testing::AssertionResult isError(const ProcessResult &result, int exitCode,
                                   const std::vector<std::string> &parts = {});

::testing::AssertionResult succeeded(const ProcessResult &result);

} // namespace retort::test

/// Declares `variable`, the path of shared test data, or skips the test.
#define RETORT_REQUIRE_SHARED(variable, path)                                  \
  std::string variable = ::retort::test::shared(path);                         \
  if (variable.empty())                                                        \
  GTEST_SKIP() << "no shared test data '" << (path)                            \
               << "': set RETORT_SHARED or put it beside the checkout"

#endif // RETORT_TEST_E2E_ENDTOEND_H
