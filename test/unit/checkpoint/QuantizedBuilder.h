//===- QuantizedBuilder.h - Checkpoints of integers -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Checkpoints in the layouts of GPTQ, AWQ and compressed-tensors, packed here
/// from random integers, beside the plain checkpoint of f32 that they mean.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_TEST_UNIT_CHECKPOINT_QUANTIZEDBUILDER_H
#define RETORT_TEST_UNIT_CHECKPOINT_QUANTIZEDBUILDER_H

#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <functional>
#include <numeric>

namespace retort::test {

struct QuantForm {
  /// "gptq", "gptq_v2", "awq", "pack-quantized", "int-quantized",
  /// "float-quantized" or "naive-quantized"
  std::string format = "gptq";
  int bits = 4;
  int64_t group = 32; ///< -1: one per row; 0: one per matrix
  bool symmetric = true;
  bool actOrder = false;
  DType scales = DType::F16;
  bool isFloat = false;      ///< fp8, for naive-quantized
  bool bytesAsZeros = false; ///< pack-quantized: I8 instead of packed I32
  /// Fields of quantization_config that are added or replaced.
  nlohmann::json extra = nlohmann::json::object();
};

/// Packs random integers for the projections of layers.
class QuantizedBuilder {
public:
  CheckpointBuilder quantized; ///< as the format has it
  CheckpointBuilder plain;     ///< what it means, in f32

  QuantizedBuilder(
      const TinyModel &model, const QuantForm &form,
      std::function<bool(const std::string &)> takes = isProjection)
      : quantized(model), plain(model), form(form), random(model.seed + 99) {
    std::vector<CheckpointBuilder::Tensor> sources =
        std::move(quantized.tensors);
    quantized.tensors.clear();
    plain.tensors.clear();
    for (CheckpointBuilder::Tensor &tensor : sources) {
      if (takes(tensor.name)) {
        addMatrix(tensor);
        continue;
      }
      quantized.tensors.push_back(tensor);
      plain.tensors.push_back(tensor);
    }
    quantized.config["quantization_config"] = configOf();
    for (const auto &[key, value] : form.extra.items())
      quantized.config["quantization_config"][key] = value;
  }

  static bool isProjection(const std::string &name) {
    return name.starts_with("model.layers.") &&
           (name.ends_with("_proj.weight") ||
            name.ends_with("_with_mqa.weight"));
  }

private:
  using Tensor = CheckpointBuilder::Tensor;

  bool isGptq() const { return form.format.starts_with("gptq"); }
  bool isF8() const { return form.isFloat || form.format == "float-quantized"; }

  nlohmann::json configOf() const {
    if (isGptq())
      return {{"quant_method", "gptq"},    {"bits", form.bits},
              {"group_size", form.group},  {"sym", form.symmetric},
              {"desc_act", form.actOrder}, {"checkpoint_format", form.format},
              {"damp_percent", 0.1},       {"true_sequential", true}};
    if (form.format == "awq")
      return {{"quant_method", "awq"},
              {"bits", form.bits},
              {"group_size", form.group},
              {"zero_point", true},
              {"version", "gemm"}};
    nlohmann::json weights = {{"num_bits", form.bits},
                              {"type", isF8() ? "float" : "int"},
                              {"symmetric", form.symmetric},
                              {"strategy", form.group == 0    ? "tensor"
                                           : form.group == -1 ? "channel"
                                                              : "group"},
                              {"dynamic", false}};
    if (form.group > 0)
      weights["group_size"] = form.group;
    return {{"quant_method", "compressed-tensors"},
            {"format", form.format},
            {"quantization_status", "compressed"},
            {"ignore", {"lm_head"}},
            {"config_groups",
             {{"group_0",
               {{"targets", {"Linear"}},
                {"weights", weights},
                {"input_activations", nullptr}}}}}};
  }

  uint64_t below(uint64_t limit) { return (random() >> 11) % limit; }

  void addMatrix(const Tensor &source) {
    rows = source.shape[0];
    cols = source.shape[1];
    size = form.group > 0 ? std::min(form.group, cols) : cols;
    groups = (cols + size - 1) / size;
    module = source.name.substr(0, source.name.size() - 7);
    groupOf.resize(static_cast<size_t>(cols));
    for (int64_t c = 0; c < cols; ++c)
      groupOf[static_cast<size_t>(c)] = static_cast<int32_t>(c / size);
    if (form.actOrder)
      for (size_t c = groupOf.size(); c-- > 1;)
        std::swap(groupOf[c], groupOf[below(c + 1)]);
    // One scale is one group of one row, repeated.
    int64_t scaleRows = form.group == 0 ? 1 : rows;
    double unit = 1.0 / std::sqrt(static_cast<double>(cols)) /
                  (isF8()           ? 100
                   : form.bits == 4 ? 4.6
                                    : 74);
    std::vector<float> wanted(static_cast<size_t>(scaleRows * groups));
    for (float &scale : wanted)
      scale = static_cast<float>(
          unit * (0.5 + static_cast<double>(below(1000)) / 1000));
    std::vector<std::byte> scaleBytes = encodeFloats(form.scales, wanted);
    scales.resize(wanted.size());
    if (!checkpoint::convertToF32(form.scales, scaleBytes, scales).isOk())
      throw std::invalid_argument("scales");
    int top = 1 << form.bits;
    zeros.assign(scales.size(), top / 2);
    if (!form.symmetric)
      for (int &zero : zeros) // 0 has no agreed form in GPTQ's first format
        zero = 1 + static_cast<int>(below(static_cast<uint64_t>(top - 1)));
    quants.resize(static_cast<size_t>(rows * cols));
    for (int &quant : quants)
      quant = static_cast<int>(below(static_cast<uint64_t>(top)));
    if (isF8())
      for (int &quant : quants)
        quant = (quant & 0x7f) == 0x7f ? 0 : quant;
    std::vector<float> values(quants.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        size_t i = static_cast<size_t>(r * cols + c);
        size_t s = scaleIndex(r, groupOf[static_cast<size_t>(c)]);
        values[i] = isF8()
                        ? scales[s] * checkpoint::f8e4m3ToF32(
                                          static_cast<uint8_t>(quants[i]))
                        : scales[s] * static_cast<float>(quants[i] - zeros[s]);
      }
    plain.tensors.push_back({source.name,
                             DType::F32,
                             source.shape,
                             encodeFloats(DType::F32, values),
                             {}});
    addParts(scaleBytes);
  }

  size_t scaleIndex(int64_t row, int64_t group) const {
    return form.group == 0 ? 0 : static_cast<size_t>(row * groups + group);
  }
  int quantAt(int64_t r, int64_t c) const {
    return quants[static_cast<size_t>(r * cols + c)];
  }
  int zeroAt(int64_t r, int64_t g) const { return zeros[scaleIndex(r, g)]; }

  void add(const std::string &suffix, DType dtype, std::vector<int64_t> shape,
           std::vector<std::byte> bytes) {
    quantized.tensors.push_back(
        {module + "." + suffix, dtype, std::move(shape), std::move(bytes), {}});
  }

  template <typename T>
  static std::vector<std::byte> bytesOf(const std::vector<T> &values) {
    std::vector<std::byte> out(values.size() * sizeof(T));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }

  /// Words [wordRows, wordCols], of which word (i, j) holds `n` numbers.
  std::vector<std::byte>
  words(int64_t wordRows, int64_t wordCols,
        const std::function<int(int64_t, int64_t, int64_t)> &number) const {
    int64_t n = 32 / form.bits;
    std::vector<uint32_t> out;
    for (int64_t i = 0; i < wordRows; ++i)
      for (int64_t j = 0; j < wordCols; ++j) {
        uint32_t word = 0;
        for (int64_t k = 0; k < n; ++k)
          word |= static_cast<uint32_t>(number(i, j, k)) << (k * form.bits);
        out.push_back(word);
      }
    return bytesOf(out);
  }

  std::vector<std::byte> transposed(const std::vector<std::byte> &scaleBytes) {
    size_t bytes = dtypeBytes(form.scales);
    std::vector<std::byte> out(scaleBytes.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < groups; ++g)
        std::memcpy(out.data() + static_cast<size_t>(g * rows + r) * bytes,
                    scaleBytes.data() + scaleIndex(r, g) * bytes, bytes);
    return out;
  }

  void addParts(const std::vector<std::byte> &scaleBytes) {
    int64_t n = 32 / form.bits;
    if (isGptq() || form.format == "awq") {
      // The order in which AutoAWQ takes outputs for a word.
      constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
      int less = form.format == "gptq" ? 1 : 0;
      int mask = (1 << form.bits) - 1;
      if (isGptq())
        add("qweight", DType::I32, {cols / n, rows},
            words(cols / n, rows, [&](int64_t i, int64_t r, int64_t k) {
              return quantAt(r, i * n + k);
            }));
      else
        add("qweight", DType::I32, {cols, rows / n},
            words(cols, rows / n, [&](int64_t c, int64_t j, int64_t k) {
              return quantAt(j * n + kOrder[k], c);
            }));
      add("qzeros", DType::I32, {groups, rows / n},
          words(groups, rows / n, [&](int64_t g, int64_t j, int64_t k) {
            return (zeroAt(j * n + (isGptq() ? k : kOrder[k]), g) - less) &
                   mask;
          }));
      add("scales", form.scales, {groups, rows}, transposed(scaleBytes));
      if (isGptq())
        add("g_idx", DType::I32, {cols}, bytesOf(groupOf));
      return;
    }
    std::vector<int64_t> scaleShape = {rows, groups};
    if (form.group == 0)
      scaleShape = {1};
    add("weight_scale", form.scales, scaleShape, scaleBytes);
    int middle = 1 << (form.bits - 1);
    std::vector<int8_t> bytes;
    for (int quant : quants)
      bytes.push_back(static_cast<int8_t>(isF8() ? quant : quant - middle));
    if (isF8())
      return add("weight", DType::F8E4M3, {rows, cols}, bytesOf(bytes));
    if (form.format == "pack-quantized") {
      int64_t width = (cols + n - 1) / n;
      add("weight_packed", DType::I32, {rows, width},
          words(rows, width, [&](int64_t r, int64_t j, int64_t k) {
            return j * n + k < cols ? quantAt(r, j * n + k) : 0;
          }));
      add("weight_shape", DType::I64, {2},
          bytesOf(std::vector<int64_t>{rows, cols}));
      if (form.actOrder)
        add("weight_g_idx", DType::I32, {cols}, bytesOf(groupOf));
    } else {
      add("weight", DType::I8, {rows, cols}, bytesOf(bytes));
    }
    if (form.symmetric)
      return;
    if (form.format == "pack-quantized" && !form.bytesAsZeros) {
      int64_t height = (rows + n - 1) / n;
      add("weight_zero_point", DType::I32, {height, groups},
          words(height, groups, [&](int64_t i, int64_t g, int64_t k) {
            return i * n + k < rows ? zeroAt(i * n + k, g) : 0;
          }));
      return;
    }
    std::vector<int8_t> zeroBytes;
    for (int zero : zeros)
      zeroBytes.push_back(static_cast<int8_t>(zero - middle));
    add("weight_zero_point", DType::I8, scaleShape, bytesOf(zeroBytes));
  }

  const QuantForm form;
  std::mt19937_64 random;
  // Of the matrix at hand.
  std::string module;
  int64_t rows = 0, cols = 0, size = 0, groups = 0;
  std::vector<int32_t> groupOf;
  std::vector<float> scales; ///< [rows, groups], or one
  std::vector<int> zeros, quants;
};

} // namespace retort::test

#endif // RETORT_TEST_UNIT_CHECKPOINT_QUANTIZEDBUILDER_H
