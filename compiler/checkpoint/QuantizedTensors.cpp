//===- QuantizedTensors.cpp - Parts of quantized matrices -----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/QuantizedTensors.h"

#include "compiler/checkpoint/Json.h"
#include "runtime/support/CheckedMath.h"
#include "runtime/support/Threads.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>

namespace retort::checkpoint {
namespace {

constexpr size_t kMaxThreads = 8;
constexpr std::string_view kWeight = ".weight";

Status at(const TensorView &tensor, Code code, const std::string &message) {
  return Status::error(code, std::string(tensor.file) + ": tensor " +
                                 quote(tensor.name) + ": " + message);
}

Status invalidAt(const TensorView &tensor, const std::string &message) {
  return at(tensor, Code::InvalidData, message);
}

std::string moduleOf(std::string_view name) {
  return std::string(name.substr(0, name.size() - kWeight.size()));
}

bool isScaleType(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32;
}

/// Collects the parts of one matrix.
class PartTaker {
public:
  PartTaker(const QuantConfig &quant, const ExpectedTensor &tensor,
            StoredTensors &stored)
      : quant(quant), tensor(tensor), stored(stored),
        module(moduleOf(tensor.name)) {}

  Result<std::optional<TensorView>> take() {
    RETORT_ASSIGN_OR_RETURN(const QuantScheme *found, quant.schemeFor(module));
    bool isStored = isStoredQuantized(quant, tensor.name, stored);
    if (!isStored) {
      if (quant.method == QuantMethod::CompressedTensors && found)
        return refusePlain(*found);
      return std::optional<TensorView>();
    }
    if (!found)
      return refuseQuantized();
    scheme = found;
    TensorView view;
    view.name = tensor.name;
    view.shape = tensor.shape;
    RETORT_RETURN_IF_ERROR(scheme->isFloat ? takeFloats(view)
                                           : takeIntegers(view));
    dropCompanions();
    return std::optional<TensorView>(std::move(view));
  }

private:
  std::string part(std::string_view suffix) const {
    return module + "." + std::string(suffix);
  }
  const TensorView *lookup(std::string_view suffix) const {
    auto it = stored.find(part(suffix));
    return it == stored.end() ? nullptr : it->second;
  }
  /// A part that isStoredQuantized() found, for messages.
  const TensorView &integers() const {
    for (std::string_view suffix :
         {"qweight", "weight_packed", "weight", "scales", "qzeros"})
      if (const TensorView *view = lookup(suffix))
        return *view;
    return *lookup("weight_scale");
  }

  Status refuseQuantized() const {
    return invalidAt(integers(),
                     "expected " + quote(tensor.name) +
                         " in a floating-point type, as quantization_config "
                         "does not quantize this module, found it quantized");
  }
  Status refusePlain(const QuantScheme &wanted) const {
    std::string name =
        quote(part(wanted.packed ? "weight_packed" : "weight_scale"));
    if (const TensorView *plain = lookup("weight"))
      return invalidAt(*plain, "expected it quantized, with a tensor " + name +
                                   ", as quantization_config says, found " +
                                   std::string(dtypeName(plain->dtype)) +
                                   " alone");
    return Status::ok(); // the missing tensor is reported with others
  }

  /// A part that must be there, of one of the shapes.
  Result<const TensorView *>
  require(std::string_view suffix, const std::vector<int64_t> &shape,
          std::string_view types, bool (*isType)(DType),
          std::vector<std::vector<int64_t>> otherShapes = {}) {
    const TensorView *view = lookup(suffix);
    if (!view)
      return at(integers(), Code::NotFound,
                "expected " + quote(part(suffix)) + " of shape " +
                    formatShape(shape) + " beside it, found none");
    if (!isType(view->dtype))
      return at(*view, Code::Unsupported,
                "expected dtype " + std::string(types) + ", found " +
                    std::string(dtypeName(view->dtype)));
    otherShapes.push_back(shape);
    if (std::ranges::find(otherShapes, view->shape) == otherShapes.end())
      return invalidAt(*view, "expected shape " + formatShape(shape) + " for " +
                                  describe() + ", found " +
                                  formatShape(view->shape));
    return view;
  }

  /// "int4 groups of 128 of [256, 512]"
  std::string describe() const {
    std::string text =
        scheme->isFloat ? "fp8" : "int" + std::to_string(scheme->bits);
    if (scheme->strategy == QuantStrategy::Group)
      text += " in groups of " + std::to_string(scheme->groupSize);
    return text + " of " + formatShape(tensor.shape);
  }

  static bool isI32(DType dtype) { return dtype == DType::I32; }
  static bool isI8(DType dtype) { return dtype == DType::I8; }
  static bool isF8(DType dtype) { return dtype == DType::F8E4M3; }

  void erase(std::string_view suffix) { stored.erase(part(suffix)); }

  Status takeIntegers(TensorView &view) {
    auto matrix = std::make_shared<QuantizedMatrix>();
    RETORT_RETURN_IF_ERROR(shapeOf(*matrix));
    RETORT_RETURN_IF_ERROR(quant.method == QuantMethod::CompressedTensors
                               ? takeCompressed(*matrix)
                               : takeWords(*matrix));
    view.dtype = DType::F32;
    view.bytes = matrix->weights.bytes;
    view.file = matrix->weights.file;
    view.fileOffset = matrix->weights.fileOffset;
    view.quantized = std::move(matrix);
    return Status::ok();
  }

  Status shapeOf(QuantizedMatrix &m) const {
    m.bits = scheme->bits;
    m.rows = tensor.shape[0];
    m.cols = tensor.shape[1];
    bool inGroups = scheme->strategy == QuantStrategy::Group;
    m.groupSize = inGroups ? std::min(scheme->groupSize, m.cols) : m.cols;
    m.oneScale = scheme->strategy == QuantStrategy::Tensor;
    m.groups = ceilDiv(m.cols, m.groupSize);
    // GPTQ tools allow for a last group of fewer columns.
    if (inGroups && quant.method != QuantMethod::Gptq &&
        m.cols % scheme->groupSize != 0)
      return invalidAt(integers(), "expected a group size that divides the " +
                                       std::to_string(m.cols) + " columns of " +
                                       quote(tensor.name) + ", found " +
                                       std::to_string(scheme->groupSize));
    return Status::ok();
  }

  /// GPTQ and AWQ.
  Status takeWords(QuantizedMatrix &m) {
    bool isGptq = quant.method == QuantMethod::Gptq;
    m.layout = isGptq ? QuantLayout::Gptq : QuantLayout::Awq;
    m.zerosLessOne = quant.zerosLessOne;
    int64_t perWord = 32 / m.bits;
    if (m.rows % perWord != 0 || (isGptq && m.cols % perWord != 0))
      return invalidAt(integers(),
                       "expected a matrix of rows" +
                           std::string(isGptq ? " and columns" : "") +
                           " that are multiples of " + std::to_string(perWord) +
                           ", found " + formatShape(tensor.shape));
    std::vector<int64_t> shape = {m.cols, m.rows / perWord};
    if (isGptq)
      shape = {m.cols / perWord, m.rows};
    RETORT_ASSIGN_OR_RETURN(const TensorView *weights,
                            require("qweight", shape, "I32", isI32));
    RETORT_ASSIGN_OR_RETURN(
        const TensorView *scales,
        require("scales", {m.groups, m.rows}, "F16, BF16 or F32", isScaleType));
    RETORT_ASSIGN_OR_RETURN(
        const TensorView *zeros,
        require("qzeros", {m.groups, m.rows / perWord}, "I32", isI32));
    m.weights = *weights;
    m.scales = *scales;
    m.zeros = *zeros;
    if (lookup("g_idx")) {
      RETORT_ASSIGN_OR_RETURN(const TensorView *index,
                              require("g_idx", {m.cols}, "I32", isI32));
      m.groupIndex = *index;
    } else if (quant.actOrder && m.groups > 1) {
      return at(integers(), Code::NotFound,
                "expected " + quote(part("g_idx")) + " of shape " +
                    formatShape(std::vector<int64_t>{m.cols}) +
                    " beside it, as quantization_config says desc_act, found "
                    "none");
    }
    for (std::string_view suffix : {"qweight", "scales", "qzeros", "g_idx"})
      erase(suffix);
    return Status::ok();
  }

  /// The shapes that scales of a strategy come in; the first is the usual one.
  std::vector<std::vector<int64_t>> scaleShapes(int64_t groups) const {
    int64_t rows = tensor.shape[0];
    if (scheme->strategy == QuantStrategy::Tensor)
      return {{1}, {}, {1, 1}};
    if (groups == 1)
      return {{rows, 1}, {rows}};
    return {{rows, groups}};
  }

  Result<const TensorView *> requireScales(int64_t groups) {
    auto shapes = scaleShapes(groups);
    return require("weight_scale", shapes[0], "F16, BF16 or F32", isScaleType,
                   shapes);
  }

  Status takeCompressed(QuantizedMatrix &m) {
    m.layout = scheme->packed ? QuantLayout::Packed : QuantLayout::Plain;
    int64_t perWord = 32 / m.bits;
    std::vector<int64_t> shape = tensor.shape;
    if (scheme->packed)
      shape[1] = ceilDiv(m.cols, perWord);
    const char *name = scheme->packed ? "weight_packed" : "weight";
    RETORT_ASSIGN_OR_RETURN(const TensorView *weights,
                            scheme->packed ? require(name, shape, "I32", isI32)
                                           : require(name, shape, "I8", isI8));
    RETORT_ASSIGN_OR_RETURN(const TensorView *scales, requireScales(m.groups));
    m.weights = *weights;
    m.scales = *scales;
    RETORT_RETURN_IF_ERROR(takeZeros(m));
    RETORT_RETURN_IF_ERROR(checkShapeTensor());
    if (const TensorView *index = lookup("weight_g_idx")) {
      RETORT_ASSIGN_OR_RETURN(index,
                              require("weight_g_idx", {m.cols}, "I32", isI32));
      m.groupIndex = *index;
    }
    for (std::string_view suffix :
         {"weight_packed", "weight", "weight_scale", "weight_zero_point",
          "weight_shape", "weight_g_idx"})
      erase(suffix);
    return Status::ok();
  }

  Status takeZeros(QuantizedMatrix &m) {
    const TensorView *zeros = lookup("weight_zero_point");
    if (!zeros && scheme->symmetric)
      return Status::ok();
    auto shapes = scaleShapes(m.groups);
    // Newer files have them packed along the outputs.
    if (zeros && zeros->dtype == DType::I32 && scheme->packed && !m.oneScale) {
      RETORT_ASSIGN_OR_RETURN(
          zeros, require("weight_zero_point",
                         {ceilDiv(m.rows, int64_t(32 / m.bits)), m.groups},
                         "I32", isI32));
    } else {
      RETORT_ASSIGN_OR_RETURN(
          zeros, require("weight_zero_point", shapes[0],
                         scheme->packed ? "I8 or I32" : "I8", isI8, shapes));
    }
    m.zeros = *zeros;
    return Status::ok();
  }

  /// `weight_shape` repeats what the configuration says.
  Status checkShapeTensor() const {
    const TensorView *view = lookup("weight_shape");
    if (!view)
      return Status::ok();
    size_t size = view->dtype == DType::I64 ? 8 : 4;
    if ((view->dtype != DType::I64 && view->dtype != DType::I32) ||
        view->shape != std::vector<int64_t>{2})
      return invalidAt(*view, "expected 2 elements of I64 or I32, found " +
                                  std::string(dtypeName(view->dtype)) +
                                  " of shape " + formatShape(view->shape));
    std::vector<int64_t> found(2);
    for (size_t i = 0; i < 2; ++i) {
      int32_t narrow;
      if (size == 8) {
        std::memcpy(&found[i], view->bytes.data() + i * 8, 8);
      } else {
        std::memcpy(&narrow, view->bytes.data() + i * 4, 4);
        found[i] = narrow;
      }
    }
    if (found != tensor.shape)
      return invalidAt(*view, "expected " + formatShape(tensor.shape) +
                                  ", found " + formatShape(found));
    return Status::ok();
  }

  Status takeFloats(TensorView &view) {
    RETORT_ASSIGN_OR_RETURN(const TensorView *weights,
                            require("weight", tensor.shape, "F8_E4M3", isF8));
    int64_t rows = tensor.shape[0], cols = tensor.shape[1];
    BlockScales scales;
    scales.blockRows = 1;
    scales.blockCols = cols;
    const TensorView *stored = nullptr;
    switch (scheme->strategy) {
    case QuantStrategy::Tensor:
      scales.blockRows = rows;
      break;
    case QuantStrategy::Channel:
      break;
    case QuantStrategy::Group:
      scales.blockCols = scheme->groupSize;
      if (cols % scheme->groupSize != 0)
        return invalidAt(*weights, "expected a group size that divides the " +
                                       std::to_string(cols) +
                                       " columns, found " +
                                       std::to_string(scheme->groupSize));
      break;
    case QuantStrategy::Block:
      scales.blockRows = scheme->blockRows;
      scales.blockCols = scheme->blockCols;
      break;
    }
    scales.rows = ceilDiv(rows, scales.blockRows);
    scales.cols = ceilDiv(cols, scales.blockCols);
    if (scheme->strategy == QuantStrategy::Block) {
      RETORT_ASSIGN_OR_RETURN(stored, require("weight_scale",
                                              {scales.rows, scales.cols},
                                              "F16, BF16 or F32", isScaleType));
    } else {
      RETORT_ASSIGN_OR_RETURN(stored, requireScales(scales.cols));
    }
    scales.name = stored->name;
    scales.dtype = stored->dtype;
    scales.bytes = stored->bytes;
    scales.file = stored->file;
    scales.fileOffset = stored->fileOffset;
    view.dtype = weights->dtype;
    view.bytes = weights->bytes;
    view.file = weights->file;
    view.fileOffset = weights->fileOffset;
    view.scales = std::move(scales);
    erase("weight");
    erase("weight_scale");
    return Status::ok();
  }

  /// What concerns activations.
  void dropCompanions() {
    if (quant.quantizesActivations)
      for (std::string_view suffix : {"input_scale", "input_zero_point"})
        erase(suffix);
  }

  const QuantConfig &quant;
  const ExpectedTensor &tensor;
  StoredTensors &stored;
  std::string module;
  const QuantScheme *scheme = nullptr;
};

std::string position(const QuantizedMatrix &m, int64_t row, int64_t group) {
  return "output " + std::to_string(row) +
         (m.groups > 1 ? ", group " + std::to_string(group) : "");
}

Status checkScaleValues(const QuantizedMatrix &m) {
  for (int64_t row = 0; row < (m.oneScale ? 1 : m.rows); ++row)
    for (int64_t g = 0; g < m.groups; ++g) {
      float scale = m.scale(row, g);
      if (std::isfinite(scale))
        continue;
      char found[32];
      std::snprintf(found, sizeof(found), "%g", static_cast<double>(scale));
      return invalidAt(m.scales, position(m, row, g) +
                                     ": expected a finite scale, found " +
                                     (std::isnan(scale) ? "NaN" : found));
    }
  return Status::ok();
}

/// Whether groups are those of neighbours, if all indices are groups.
Status checkGroupIndex(QuantizedMatrix &m, const QuantConfig &quant) {
  if (!m.groupIndex)
    return Status::ok();
  m.actOrder = true; // so that groupOf() reads the index
  bool inOrder = true, unused = true;
  for (int64_t col = 0; col < m.cols; ++col) {
    inOrder &= m.groupOf(col) == col / m.groupSize;
    unused &= m.groupOf(col) == -1;
  }
  // compressed-tensors writes an index of -1 where there is no order.
  m.actOrder =
      !inOrder && !(unused && quant.method == QuantMethod::CompressedTensors);
  if (!m.actOrder)
    return Status::ok();
  for (int64_t col = 0; col < m.cols; ++col) {
    int64_t group = m.groupOf(col);
    if (group < 0 || group >= m.groups)
      return invalidAt(*m.groupIndex, "input " + std::to_string(col) +
                                          ": expected a group in [0, " +
                                          std::to_string(m.groups) +
                                          "), found " + std::to_string(group));
  }
  if (quant.method == QuantMethod::Gptq && !quant.actOrder)
    return invalidAt(*m.groupIndex,
                     "expected groups of neighbouring inputs, as "
                     "quantization_config denies desc_act, found another "
                     "order");
  return Status::ok();
}

Status checkMatrix(QuantizedMatrix &m, const QuantConfig &quant) {
  RETORT_RETURN_IF_ERROR(checkScaleValues(m));
  RETORT_RETURN_IF_ERROR(checkGroupIndex(m, quant));
  int64_t limit = int64_t(1) << (m.bits - 1);
  for (int64_t row = 0; m.zeros && row < (m.oneScale ? 1 : m.rows); ++row)
    for (int64_t g = 0; g < m.groups; ++g) {
      int zero = m.zero(row, g);
      m.hasZeros |= zero != 0;
      if (zero < -limit || zero >= limit)
        return invalidAt(*m.zeros, position(m, row, g) +
                                       ": expected a zero point of " +
                                       std::to_string(m.bits) +
                                       " bits, found " + std::to_string(zero));
    }
  if (m.layout != QuantLayout::Plain || m.bits == 8)
    return Status::ok();
  // Bytes can hold more than 4 bits.
  for (size_t i = 0; i < m.weights.bytes.size(); ++i) {
    int quantValue = static_cast<int8_t>(m.weights.bytes[i]);
    if (quantValue < -limit || quantValue >= limit)
      return invalidAt(m.weights,
                       "row " + std::to_string(int64_t(i) / m.cols) +
                           ", column " + std::to_string(int64_t(i) % m.cols) +
                           ": expected an integer of 4 bits, found " +
                           std::to_string(quantValue));
  }
  return Status::ok();
}

} // namespace

bool isStoredQuantized(const QuantConfig &quant, const std::string &name,
                       const StoredTensors &stored) {
  if (!name.ends_with(kWeight))
    return false;
  auto has = [&](const char *suffix) {
    return stored.contains(moduleOf(name) + suffix);
  };
  if (quant.method != QuantMethod::CompressedTensors)
    return has(".qweight") || has(".qzeros") || has(".scales");
  if (has(".weight_packed"))
    return true;
  auto it = stored.find(name);
  return it != stored.end() &&
         (it->second->dtype == DType::I8 ||
          it->second->dtype == DType::F8E4M3 || has(".weight_scale"));
}

Result<std::optional<TensorView>> takeQuantized(const QuantConfig &quant,
                                                const ExpectedTensor &tensor,
                                                StoredTensors &stored) {
  if (tensor.shape.size() != 2 || !tensor.name.ends_with(kWeight))
    return std::optional<TensorView>();
  return PartTaker(quant, tensor, stored).take();
}

Result<std::optional<TensorView>>
imagineQuantized(const QuantConfig &quant, const ExpectedTensor &tensor) {
  std::optional<TensorView> none;
  bool isMatrix = tensor.shape.size() == 2 && tensor.name.ends_with(kWeight);
  std::string module = isMatrix ? moduleOf(tensor.name) : "";
  // What GPTQ and AWQ tools quantize by default.
  bool isProjection =
      module.starts_with("model.layers.") && !module.ends_with("mlp.gate");
  if (!isMatrix ||
      (quant.method != QuantMethod::CompressedTensors && !isProjection))
    return none;
  RETORT_ASSIGN_OR_RETURN(const QuantScheme *scheme, quant.schemeFor(module));
  if (!scheme)
    return none;
  TensorView view;
  view.name = tensor.name;
  view.shape = tensor.shape;
  int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  bool inGroups = scheme->strategy == QuantStrategy::Group;
  int64_t group = inGroups ? std::min(scheme->groupSize, cols) : cols;
  if (scheme->isFloat) {
    bool inBlocks = scheme->strategy == QuantStrategy::Block;
    BlockScales scales;
    scales.blockRows = inBlocks ? scheme->blockRows : 1;
    scales.blockCols = inBlocks ? scheme->blockCols : group;
    scales.rows = ceilDiv(rows, scales.blockRows);
    scales.cols = ceilDiv(cols, scales.blockCols);
    view.dtype = DType::F8E4M3;
    view.scales = std::move(scales);
    return std::optional<TensorView>(std::move(view));
  }
  auto matrix = std::make_shared<QuantizedMatrix>();
  matrix->bits = scheme->bits;
  matrix->rows = rows;
  matrix->cols = cols;
  matrix->groupSize = group;
  matrix->groups = ceilDiv(cols, group);
  matrix->hasZeros = !scheme->symmetric;
  matrix->actOrder = quant.actOrder && matrix->groups > 1;
  bool isCompressed = quant.method == QuantMethod::CompressedTensors;
  matrix->scales.dtype = isCompressed ? tensor.dtype : DType::F16;
  view.dtype = DType::F32;
  view.quantized = std::move(matrix);
  return std::optional<TensorView>(std::move(view));
}

Status checkQuantized(std::vector<TensorView> &tensors,
                      const QuantConfig &quant) {
  // Matrices with their results in the order of the tensors, so that the first
  // error is the same whatever the threads do.
  std::vector<TensorView *> matrices;
  for (TensorView &tensor : tensors)
    if (tensor.quantized)
      matrices.push_back(&tensor);
  std::vector<Status> results(matrices.size());
  std::atomic<size_t> next{0};
  runOnThreads(std::min(kMaxThreads, matrices.size()), [&] {
    for (size_t i; (i = next.fetch_add(1)) < matrices.size();) {
      auto checked = std::make_shared<QuantizedMatrix>(*matrices[i]->quantized);
      results[i] = checkMatrix(*checked, quant);
      matrices[i]->quantized = std::move(checked);
    }
  });
  for (Status &result : results)
    RETORT_RETURN_IF_ERROR(std::move(result));
  return Status::ok();
}

} // namespace retort::checkpoint
