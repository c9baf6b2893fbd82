//===- WeightBuilder.cpp - Packed weights from checkpoint tensors -*- C++
//-*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/fuse/WeightBuilder.h"

using namespace mlir;

namespace retort {

void HeadLayout::forEachRun(
    llvm::function_ref<void(int64_t, int64_t, int64_t)> run) const {
  if (paddedHead() == headDim)
    return run(0, heads * headDim, 0);
  if (!halves) {
    for (int64_t h = 0; h < heads; ++h)
      run(h * headDim, headDim, h * paddedHead());
    return;
  }
  int64_t half = headDim / 2, paddedHalf = paddedHead() / 2;
  for (int64_t i = 0; i < 2 * heads; ++i)
    run(i * half, half, i * paddedHalf);
}

FailureOr<model::WeightOp> WeightBuilder::find(Operation *user,
                                               StringRef tensor) {
  if (auto weight = symbols.lookup<model::WeightOp>(tensor))
    return weight;
  return user->emitOpError("expected a model.weight named @") << tensor;
}

FailureOr<PackedEncoding>
WeightBuilder::jointEncoding(Operation *user, ArrayRef<StringRef> tensors) {
  std::optional<PackedEncoding> joint;
  bool isKept = false;
  for (StringRef tensor : tensors) {
    auto weight = find(user, tensor);
    if (failed(weight))
      return failure();
    auto encoding = encoding::getPackedEncoding(weight->getType());
    if (!encoding)
      return weight->emitOpError("expected an #encoding.packed type, which "
                                 "quantize-weights gives");
    if (!joint)
      joint = encoding;
    isKept |= (*weight)->hasAttr(kKeptEncodingAttr);
    // One launch decodes one encoding. Zero points can express their absence,
    // and f32 whatever a checkpoint mixes; anything else was asked for.
    PackedEncoding a = *joint, c = *encoding;
    a.zeroPoints = c.zeroPoints = joint->zeroPoints || encoding->zeroPoints;
    if (isKept && a.kind == c.kind && a.isInteger()) {
      // A scale can be repeated, and widened.
      a.groupSize = c.groupSize = std::min(a.groupSize, c.groupSize);
      if (a.scales != c.scales)
        a.scales = c.scales = ScaleKind::F32;
    }
    if (a == c)
      joint = a;
    else if (isKept || (!a.isInteger() && !c.isInteger()))
      joint = PackedEncoding{EncodingKind::F32, 0, false};
    else
      return user->emitOpError("expected weights of one encoding in a launch, "
                               "found ")
             << a.str() << " and " << c.str();
  }
  if (isKept && joint->kind == EncodingKind::F32)
    emitRemark(module.getLoc())
        << tensors.front() << ": packed as f32 with what the launch reads "
        << "beside it, because the checkpoint stores them in different ways";
  return *joint;
}

Attribute WeightBuilder::rowRun(StringRef tensor, int64_t src, int64_t count,
                                int64_t dst) {
  return b.getArrayAttr({b.getStringAttr(tensor), b.getI64IntegerAttr(src),
                         b.getI64IntegerAttr(count), b.getI64IntegerAttr(dst)});
}

Attribute WeightBuilder::alternatingRun(StringRef tensor, int64_t count,
                                        int64_t strip) {
  return b.getArrayAttr({b.getStringAttr(tensor), b.getI64IntegerAttr(0),
                         b.getI64IntegerAttr(count),
                         b.getI64IntegerAttr(strip * kStripRows),
                         b.getI64IntegerAttr(2 * kStripRows),
                         b.getI64IntegerAttr(0), b.getI64IntegerAttr(0)});
}

Attribute WeightBuilder::rowRun(const Run &run) {
  if (run.stripStride == kStripRows && run.colShift == 0 && !run.transposed)
    return rowRun(run.tensor, run.src, run.count, run.dst);
  return b.getArrayAttr(
      {b.getStringAttr(run.tensor), b.getI64IntegerAttr(run.src),
       b.getI64IntegerAttr(run.count), b.getI64IntegerAttr(run.dst),
       b.getI64IntegerAttr(run.stripStride), b.getI64IntegerAttr(run.colShift),
       b.getI64IntegerAttr(run.transposed)});
}

Attribute WeightBuilder::colRun(int64_t src, int64_t count, int64_t dst) {
  return b.getI64ArrayAttr({src, count, dst});
}

RankedTensorType WeightBuilder::matrixType(int64_t rows, int64_t cols,
                                           PackedEncoding encoding) {
  return RankedTensorType::get(
      {rows, cols}, b.getF32Type(),
      encoding::PackedAttr::get(b.getContext(), encoding));
}

RankedTensorType WeightBuilder::withoutMixedScales(StringRef symbol,
                                                   RankedTensorType type,
                                                   ArrayRef<Attribute> rows,
                                                   ArrayRef<Attribute> cols) {
  auto encoding = encoding::getPackedEncoding(type);
  if (!encoding || !encoding->hasScales())
    return type;
  auto integer = [](Attribute run, unsigned i) {
    return cast<IntegerAttr>(cast<ArrayAttr>(run)[i]).getInt();
  };
  SmallVector<ColRun> colRuns;
  for (Attribute run : cols)
    colRuns.push_back({integer(run, 0), integer(run, 1), integer(run, 2)});
  // The tensor whose scales would be mixed; empty if there is none.
  auto mixed = [&](int64_t blockCols) -> StringRef {
    llvm::DenseMap<std::pair<int64_t, int64_t>, bool> known;
    for (Attribute run : rows) {
      StringRef tensor = cast<StringAttr>(cast<ArrayAttr>(run)[0]).getValue();
      Operation *weight = symbols.lookup(tensor);
      auto blocks = weight->getAttrOfType<DenseI64ArrayAttr>(kScaleBlockAttr);
      // Integers that are not kept get scales of their own.
      if (!blocks || blocks.size() != 2 ||
          (encoding->isInteger() && !weight->hasAttr(kKeptEncodingAttr)))
        continue;
      bool isLong = cast<ArrayAttr>(run).size() > 4;
      int64_t shift = isLong ? integer(run, 5) : 0;
      int64_t step = blocks[isLong && integer(run, 6) ? 0 : 1];
      auto [it, isNew] = known.try_emplace({shift, step}, false);
      if (isNew)
        it->second = step < 1 || mixesScales(colRuns, shift, step, blockCols);
      if (it->second)
        return tensor;
    }
    return {};
  };
  StringRef tensor = mixed(encoding->blockCols());
  // Smaller blocks of integers may do.
  while (!tensor.empty() && encoding->isInteger() && encoding->groupSize > 32) {
    encoding->groupSize /= 2;
    tensor = mixed(encoding->blockCols());
  }
  if (tensor.empty())
    return matrixType(type.getDimSize(0), type.getDimSize(1), *encoding);
  emitRemark(module.getLoc())
      << symbol << ": packed as f32, because a packed block would hold "
      << "elements of two " << (encoding->isInteger() ? "" : "fp8 ")
      << "scales of " << tensor;
  return matrixType(type.getDimSize(0), type.getDimSize(1), PackedEncoding{});
}

Value WeightBuilder::define(StringRef name, RankedTensorType type,
                            ArrayRef<Attribute> rows, ArrayRef<Attribute> cols,
                            DenseF64ArrayAttr literal) {
  // The checkpoint's symbols are still there; packed ones get a prefix.
  std::string symbol = ("packed." + name).str();
  if (auto defined = symbols.lookup<kernel::WeightOp>(symbol)) {
    type = cast<RankedTensorType>(defined.getType());
  } else {
    type = withoutMixedScales(symbol, type, rows, cols);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    auto weight = kernel::WeightOp::create(
        b, module.getLoc(), symbol, type,
        rows.empty() ? ArrayAttr() : b.getArrayAttr(rows),
        cols.empty() ? ArrayAttr() : b.getArrayAttr(cols), literal);
    // The builder may stand in front of the module's end.
    symbols.insert(weight);
  }
  Value &load = loads[symbol];
  if (!load)
    load = kernel::LoadWeightOp::create(
        b, module.getLoc(), type,
        FlatSymbolRefAttr::get(b.getContext(), symbol));
  return load;
}

FailureOr<Value> WeightBuilder::matrix(Operation *user, StringRef name,
                                       StringRef tensor,
                                       std::optional<HeadLayout> columns) {
  auto encoding = jointEncoding(user, {tensor});
  auto weight = find(user, tensor);
  if (failed(encoding) || failed(weight))
    return failure();
  auto type = cast<RankedTensorType>(weight->getType());
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  SmallVector<Attribute> colRuns;
  int64_t packedCols = cols;
  if (columns) {
    packedCols = columns->paddedWidth();
    columns->forEachRun([&](int64_t src, int64_t count, int64_t dst) {
      colRuns.push_back(colRun(src, count, dst));
    });
  } else {
    colRuns.push_back(colRun(0, cols, 0));
  }
  return define(name,
                matrixType(roundUp(rows, kStripRows), packedCols, *encoding),
                {rowRun(tensor, 0, rows, 0)}, colRuns);
}

FailureOr<Value> WeightBuilder::stacked(Operation *user, StringRef name,
                                        ArrayRef<Part> parts) {
  SmallVector<StringRef> tensors;
  for (const Part &part : parts)
    tensors.push_back(part.tensor);
  auto encoding = jointEncoding(user, tensors);
  if (failed(encoding))
    return failure();
  SmallVector<Attribute> rowRuns;
  int64_t base = 0, cols = 0;
  for (const Part &part : parts) {
    auto type = cast<RankedTensorType>((*find(user, part.tensor)).getType());
    cols = type.getDimSize(1);
    if (part.heads) {
      part.heads->forEachRun([&](int64_t src, int64_t count, int64_t dst) {
        rowRuns.push_back(rowRun(part.tensor, src, count, base + dst));
      });
      base += part.heads->paddedWidth();
    } else {
      rowRuns.push_back(rowRun(part.tensor, 0, type.getDimSize(0), base));
      base += type.getDimSize(0);
    }
  }
  return define(name, matrixType(roundUp(base, kStripRows), cols, *encoding),
                rowRuns, {colRun(0, cols, 0)});
}

FailureOr<Value> WeightBuilder::assembled(Operation *user, StringRef name,
                                          ArrayRef<Run> runs, int64_t rows,
                                          int64_t cols, bool roundsInputs) {
  SmallVector<StringRef> tensors;
  SmallVector<Attribute> rowRuns;
  for (const Run &run : runs) {
    if (tensors.empty() || tensors.back() != run.tensor)
      tensors.push_back(run.tensor);
    rowRuns.push_back(rowRun(run));
  }
  auto encoding = jointEncoding(user, tensors);
  if (failed(encoding))
    return failure();
  bool anyKept = llvm::any_of(tensors, [&](StringRef tensor) {
    return symbols.lookup(tensor)->hasAttr(kKeptEncodingAttr);
  });
  if (roundsInputs && anyKept && encoding->isInteger()) {
    emitRemark(module.getLoc())
        << name << ": packed as f32, because a launch that rounds the inputs "
        << "of integers would read it";
    encoding = PackedEncoding{};
  }
  return define(name, matrixType(roundUp(rows, kStripRows), cols, *encoding),
                rowRuns, {colRun(0, cols, 0)});
}

FailureOr<Value> WeightBuilder::assembledVector(Operation *user, StringRef name,
                                                ArrayRef<Run> runs,
                                                int64_t size) {
  SmallVector<Attribute> rowRuns;
  for (const Run &run : runs) {
    if (failed(find(user, run.tensor)))
      return failure();
    rowRuns.push_back(rowRun(run));
  }
  return define(name, RankedTensorType::get({size}, b.getF32Type()), rowRuns,
                {});
}

FailureOr<Value> WeightBuilder::interleaved(Operation *user, StringRef name,
                                            StringRef first, StringRef second) {
  auto encoding = jointEncoding(user, {first, second});
  if (failed(encoding))
    return failure();
  auto type = cast<RankedTensorType>((*find(user, first)).getType());
  int64_t size = type.getDimSize(0), cols = type.getDimSize(1);
  return define(
      name, matrixType(2 * roundUp(size, kStripRows), cols, *encoding),
      {alternatingRun(first, size, 0), alternatingRun(second, size, 1)},
      {colRun(0, cols, 0)});
}

FailureOr<Value> WeightBuilder::interleavedBias(Operation *user, StringRef name,
                                                int64_t size, StringRef first,
                                                StringRef second) {
  SmallVector<Attribute> runs;
  for (auto [tensor, strip] :
       {std::pair<StringRef, int64_t>(first, 0), {second, 1}}) {
    if (tensor.empty())
      continue;
    if (failed(find(user, tensor)))
      return failure();
    runs.push_back(alternatingRun(tensor, size, strip));
  }
  auto type =
      RankedTensorType::get({2 * roundUp(size, kStripRows)}, b.getF32Type());
  return define(name, type, runs, {});
}

FailureOr<Value> WeightBuilder::vector(Operation *user, StringRef tensor) {
  auto weight = find(user, tensor);
  if (failed(weight))
    return failure();
  int64_t size = cast<RankedTensorType>(weight->getType()).getDimSize(0);
  return define(tensor, RankedTensorType::get({size}, b.getF32Type()),
                {rowRun(tensor, 0, size, 0)}, {});
}

FailureOr<Value> WeightBuilder::bias(Operation *user, StringRef name,
                                     ArrayRef<Part> parts) {
  SmallVector<Attribute> runs;
  int64_t base = 0;
  for (const Part &part : parts) {
    int64_t width = part.heads ? part.heads->paddedWidth() : 0;
    if (!part.tensor.empty()) {
      auto weight = find(user, part.tensor);
      if (failed(weight))
        return failure();
      int64_t size = cast<RankedTensorType>(weight->getType()).getDimSize(0);
      if (part.heads) {
        part.heads->forEachRun([&](int64_t src, int64_t count, int64_t dst) {
          runs.push_back(rowRun(part.tensor, src, count, base + dst));
        });
      } else {
        runs.push_back(rowRun(part.tensor, 0, size, base));
        width = size;
      }
    }
    base += width;
  }
  auto type =
      RankedTensorType::get({roundUp(base, kStripRows)}, b.getF32Type());
  return define(name, type, runs, {});
}

Value WeightBuilder::literal(StringRef name, ArrayRef<double> values) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())},
                                    b.getF64Type());
  return define(name, type, {}, {}, b.getDenseF64ArrayAttr(values));
}

} // namespace retort
