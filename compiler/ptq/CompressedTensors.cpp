//===- CompressedTensors.cpp - The format written -------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/ptq/CompressedTensors.h"

#include "compiler/checkpoint/Json.h"
#include "runtime/support/CheckedMath.h"

#include <bit>
#include <cstring>

namespace retort::ptq {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
std::vector<std::byte> bytesOf(const std::vector<T> &from) {
  std::vector<std::byte> out(from.size() * sizeof(T));
  std::memcpy(out.data(), from.data(), out.size());
  return out;
}

/// Words of unsigned numbers, [rows, ceil(cols / n)], the first in the lowest
/// bits. `at(row, col)` is signed.
template <typename At>
std::vector<std::byte> packWords(int64_t rows, int64_t cols, int bits,
                                 bool alongRows, At at) {
  int64_t n = 32 / bits;
  int64_t wordRows = alongRows ? ceilDiv(rows, n) : rows;
  int64_t wordCols = alongRows ? cols : ceilDiv(cols, n);
  std::vector<uint32_t> words(static_cast<size_t>(wordRows * wordCols));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      int64_t word = alongRows ? r / n * wordCols + c : r * wordCols + c / n;
      int64_t slot = alongRows ? r % n : c % n;
      words[static_cast<size_t>(word)] |=
          static_cast<uint32_t>(at(r, c) + (1 << (bits - 1))) << (slot * bits);
    }
  return bytesOf(words);
}

std::string_view formatOf(const GridForm &form) {
  // Engines take "int-quantized" for activations of int8 too.
  return form.isFloat ? "float-quantized" : "pack-quantized";
}

} // namespace

std::vector<SafetensorsWriter::Tensor> storedTensors(const std::string &module,
                                                     const GridForm &form,
                                                     int64_t rows,
                                                     int64_t cols) {
  int64_t groups = form.groups(cols), perWord = 32 / form.bits;
  auto name = [&](const char *part) { return module + "." + part; };
  if (form.isFloat)
    return {{name("weight"), DType::F8E4M3, {rows, cols}},
            {name("weight_scale"), DType::BF16, {rows, groups}}};
  std::vector<SafetensorsWriter::Tensor> out = {
      {name("weight_packed"), DType::I32, {rows, ceilDiv(cols, perWord)}},
      {name("weight_scale"), DType::BF16, {rows, groups}},
      {name("weight_shape"), DType::I64, {2}}};
  if (form.zeroPoints)
    out.push_back({name("weight_zero_point"),
                   DType::I32,
                   {ceilDiv(rows, perWord), groups}});
  return out;
}

std::vector<std::vector<std::byte>> storedParts(const GridForm &form,
                                                const QuantizedResult &matrix) {
  int64_t rows = matrix.rows, cols = matrix.cols, groups = form.groups(cols);
  std::vector<uint16_t> scales;
  for (const Grid &grid : matrix.grids)
    scales.push_back(
        static_cast<uint16_t>(std::bit_cast<uint32_t>(grid.scale) >> 16));
  if (form.isFloat)
    return {bytesOf(matrix.quants), bytesOf(scales)};
  std::vector<std::vector<std::byte>> out = {
      packWords(rows, cols, form.bits, false,
                [&](int64_t r, int64_t c) {
                  return matrix.quants[static_cast<size_t>(r * cols + c)];
                }),
      bytesOf(scales), bytesOf(std::vector<int64_t>{rows, cols})};
  if (form.zeroPoints)
    out.push_back(
        packWords(rows, groups, form.bits, true, [&](int64_t r, int64_t g) {
          return matrix.grids[static_cast<size_t>(r * groups + g)].zero;
        }));
  return out;
}

Result<std::string> quantizedConfig(std::string_view original,
                                    const GridForm &form,
                                    const std::vector<std::string> &ignored) {
  // Checked by the caller's reader already; parsed again to keep the order.
  Json config = Json::parse(original, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object())
    return Status::error(Code::InvalidData,
                         "config.json: expected an object to add "
                         "quantization_config to");
  Json weights = {{"num_bits", form.bits},
                  {"type", form.isFloat ? "float" : "int"},
                  {"symmetric", !form.zeroPoints},
                  {"group_size", nullptr},
                  {"strategy", form.groupSize ? "group" : "channel"},
                  {"block_structure", nullptr},
                  {"dynamic", false},
                  {"actorder", nullptr},
                  {"observer", "minmax"},
                  {"observer_kwargs", Json::object()}};
  if (form.groupSize)
    weights["group_size"] = form.groupSize;
  Json group = {{"targets", Json::array({"Linear"})},
                {"weights", std::move(weights)},
                {"input_activations", nullptr},
                {"output_activations", nullptr}};
  config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", formatOf(form)},
      {"quantization_status", "compressed"},
      {"config_groups", {{"group_0", std::move(group)}}},
      {"ignore", ignored},
      {"kv_cache_scheme", nullptr},
      {"global_compression_ratio", nullptr}};
  return config.dump(2) + "\n";
}

} // namespace retort::ptq
