//===- QuantConfig.h - What quantization_config says ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What config.json says of checkpoints that GPTQ, AWQ or compressed-tensors
/// tools have quantized: which modules, to how many bits, in which layout.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_CHECKPOINT_QUANTCONFIG_H
#define RETORT_COMPILER_CHECKPOINT_QUANTCONFIG_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort::checkpoint {

class ConfigFields;
struct ModelConfig;

/// `quant_method`.
enum class QuantMethod : uint8_t { Gptq, Awq, CompressedTensors };

/// "gptq", "awq", "compressed-tensors".
std::string_view quantMethodName(QuantMethod method);

/// What shares a scale.
enum class QuantStrategy : uint8_t { Tensor, Channel, Group, Block };

/// How the weights of some modules are quantized.
struct QuantScheme {
  int bits = 4;         ///< 4 or 8
  bool isFloat = false; ///< fp8 e4m3 instead of integers
  bool symmetric = true;
  /// Integers in 32-bit words; else an element is a byte. Floats never are.
  bool packed = true;
  QuantStrategy strategy = QuantStrategy::Group;
  int64_t groupSize = 0;                ///< Group: inputs that share a scale
  int64_t blockRows = 0, blockCols = 0; ///< Block
  bool operator==(const QuantScheme &) const = default;
};

/// Names modules: a whole name, a class of modules ("Linear", "Embedding"), or
/// "re:" and a pattern that matches from the beginning of the name on.
class ModulePattern {
public:
  /// Errors: a pattern that does not compile.
  static Result<ModulePattern> parse(const std::string &text);
  /// Whether it names `module` itself, by name or by pattern.
  Result<bool> matchesName(std::string_view module) const;
  bool matchesClass(std::string_view moduleClass) const;
  const std::string &text() const { return source; }

private:
  struct Compiled;
  std::string source;
  std::shared_ptr<const Compiled> regex; ///< of "re:" alone
};

struct QuantGroup {
  std::string name; ///< "group_0"
  std::vector<ModulePattern> targets;
  QuantScheme scheme;
};

struct QuantConfig {
  QuantMethod method = QuantMethod::CompressedTensors;
  /// Gptq and Awq: of every module that is stored quantized.
  QuantScheme scheme;
  /// Gptq: zero points are stored less one.
  bool zerosLessOne = false;
  /// Gptq: groups may be those of any columns, not of neighbours.
  bool actOrder = false;
  /// Awq: parts of the names of modules that are not quantized.
  std::vector<std::string> excluded;
  /// CompressedTensors.
  std::vector<QuantGroup> groups;
  std::vector<ModulePattern> ignored;
  /// Activations are meant to be quantized as well.
  bool quantizesActivations = false;

  /// How a matrix of the model is quantized, by the module that it belongs to
  /// ("model.layers.0.mlp.up_proj"); null if it is not. For Gptq and Awq
  /// what a module could be: their tensors tell whether it is. Errors: a
  /// pattern that takes too many steps.
  Result<const QuantScheme *> schemeFor(std::string_view module) const;
};

/// Reads `quantization_config`: into config.fp8 or config.quant. Absent and
/// empty mean none. Errors name the field.
Status readQuantization(ConfigFields &root, ModelConfig &config);

} // namespace retort::checkpoint

#endif // RETORT_COMPILER_CHECKPOINT_QUANTCONFIG_H
