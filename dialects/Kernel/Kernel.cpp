//===- Kernel.cpp - The kernel dialect --------------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "dialects/Kernel/Kernel.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

#include "dialects/Kernel/KernelDialect.cpp.inc"
#include "dialects/Kernel/KernelEnums.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Kernel/KernelTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Kernel/KernelOps.cpp.inc"

FailureOr<retort::CacheElement>
FieldParser<retort::CacheElement>::parse(AsmParser &parser) {
  std::string name;
  SMLoc at = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalKeywordOrString(&name)))
    if (auto element = retort::parseCacheElement(name))
      return *element;
  return parser.emitError(at, "expected f32, f16, bf16 or int8, found '")
         << name << "'";
}

AsmPrinter &retort::operator<<(AsmPrinter &printer, CacheElement element) {
  printer << llvm::StringRef(cacheElementName(element));
  return printer;
}

namespace retort::kernel {

void KernelDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Kernel/KernelTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Kernel/KernelOps.cpp.inc"
      >();
}

bool isActivation(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 2 && t.isDynamicDim(0) && !t.isDynamicDim(1) &&
         t.getElementType().isF32() &&
         (!t.getEncoding() || encoding::getActivationEncoding(type));
}

bool isPlainActivation(Type type) {
  return isActivation(type) && !encoding::getActivationEncoding(type);
}

bool isTokens(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 1 && t.isDynamicDim(0) &&
         t.getElementType().isInteger(32);
}

bool isIds(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 2 && t.isDynamicDim(0) && !t.isDynamicDim(1) &&
         t.getElementType().isInteger(32);
}

bool isPackedMatrix(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 2 && t.hasStaticShape() &&
         t.getElementType().isF32() && encoding::getPackedEncoding(type);
}

bool isStaticVector(Type type) {
  auto t = dyn_cast<RankedTensorType>(type);
  return t && t.getRank() == 1 && t.hasStaticShape() && !t.getEncoding() &&
         (t.getElementType().isF32() || t.getElementType().isF64());
}

namespace {

int64_t dim(Value v, unsigned i) {
  return cast<RankedTensorType>(v.getType()).getDimSize(i);
}

/// Quantized rows of the kind that the weight is multiplied with.
LogicalResult verifyInputEncoding(Operation *op, Value x, Value weight) {
  auto found = encoding::getActivationEncoding(x.getType());
  auto expected = ActivationEncoding::forWeights(
      *encoding::getPackedEncoding(weight.getType()));
  if (!found || found == expected)
    return success();
  auto diag = op->emitOpError("expected inputs that are plain");
  if (expected)
    diag << " or " << expected->str();
  return diag << " for weights " << weight.getType() << ", found "
              << found->str();
}

/// Groups of a quantized activation lie in whole units of 128 elements.
LogicalResult verifyResultStride(Operation *op, Value result) {
  if (!encoding::getActivationEncoding(result.getType()) ||
      strideOf(result) % kStrideMultiple == 0)
    return success();
  return op->emitOpError("expected a quantized result's stride to be a "
                         "multiple of ")
         << kStrideMultiple << ", found " << strideOf(result);
}

/// Every column that a packed matrix holds must have an activation to meet.
LogicalResult verifyInput(Operation *op, Value x, Value weight) {
  if (failed(verifyInputEncoding(op, x, weight)))
    return failure();
  auto encoding = *encoding::getPackedEncoding(weight.getType());
  int64_t padded = roundUp(dim(weight, 1), encoding.blockCols());
  if (strideOf(x) < padded)
    return op->emitOpError("expected a row stride of at least ")
           << padded << " for the weight's padded columns, found "
           << strideOf(x);
  return success();
}

LogicalResult verifyCaches(Operation *op, CacheType keys, CacheType values,
                           int64_t numHeads) {
  if (keys.getKind() != CacheKind::Keys ||
      values.getKind() != CacheKind::Values)
    return op->emitOpError("expected a cache of keys, then one of values");
  if (keys.getNumHeads() != values.getNumHeads() ||
      keys.getHeadSize() != values.getHeadSize() ||
      keys.getElement() != values.getElement())
    return op->emitOpError("expected caches of one shape and element, found ")
           << keys << " and " << values;
  if (keys.getHeadSize() <= 0 || keys.getHeadSize() % 32)
    return op->emitOpError("expected a padded head size that is a positive "
                           "multiple of 32, found ")
           << keys.getHeadSize();
  if (keys.getNumHeads() <= 0 || numHeads <= 0 || numHeads % keys.getNumHeads())
    return op->emitOpError("expected query heads that are a multiple of the ")
           << keys.getNumHeads() << " key/value heads, found " << numHeads;
  return success();
}

} // namespace

LogicalResult PartialsType::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t splits, int64_t groups,
                                   int64_t heads, int64_t size) {
  if (splits < 2 || groups < 1 || heads < 1 || size < 1)
    return emitError() << "expected at least 2 tiles and a positive shape, "
                          "found "
                       << splits << " and " << groups << " x " << heads << " x "
                       << size;
  return success();
}

LogicalResult WeightOp::verify() {
  auto type = cast<RankedTensorType>(getType());
  bool isMatrix = encoding::getPackedEncoding(type).has_value();
  if (!type.hasStaticShape() || type.getRank() != (isMatrix ? 2 : 1))
    return emitOpError("expected a packed matrix or a vector of static shape, "
                       "found ")
           << type;
  auto integer = [](Attribute attr) { return dyn_cast<IntegerAttr>(attr); };
  auto areIntegers = [&](ArrayRef<Attribute> run) {
    return llvm::all_of(run, integer);
  };
  for (Attribute attr : getRows().value_or(ArrayAttr::get(getContext(), {}))) {
    auto run = dyn_cast<ArrayAttr>(attr);
    if (!run || (run.size() != 4 && run.size() != 7) ||
        !isa<StringAttr>(run[0]) || !areIntegers(run.getValue().drop_front()))
      return emitOpError("expected row runs [tensor, src, count, dst] or "
                         "[tensor, src, count, dst, strip_stride, col_shift, "
                         "transposed], found ")
             << attr;
    if (run.size() == 4)
      continue;
    int64_t stripStride = integer(run[4]).getInt();
    int64_t colShift = integer(run[5]).getInt();
    int64_t transposed = integer(run[6]).getInt();
    if (stripStride < kStripRows || stripStride % kStripRows)
      return emitOpError("expected a strip_stride that is a positive multiple "
                         "of 32, found ")
             << stripStride;
    if (transposed != 0 && transposed != 1)
      return emitOpError("expected transposed to be 0 or 1, found ")
             << transposed;
    if (!isMatrix && (colShift || transposed))
      return emitOpError("expected a vector's row run to have no col_shift and "
                         "not to be transposed, found ")
             << attr;
  }
  for (Attribute attr : getCols().value_or(ArrayAttr::get(getContext(), {}))) {
    auto run = dyn_cast<ArrayAttr>(attr);
    if (!run || run.size() != 3 || !areIntegers(run.getValue()))
      return emitOpError("expected column runs [src, count, dst], found ")
             << attr;
  }
  return success();
}

LogicalResult EntryOp::verify() {
  Block &block = getBody().front();
  if (!llvm::hasSingleElement(block))
    return emitOpError("expected exactly one launch op in its body");
  Operation *launch = getLaunch();
  if (!isa<KernelDialect>(launch->getDialect()) || launch->getNumResults() == 0)
    return emitOpError("expected a launch of the kernel dialect, found ")
           << launch->getName();
  if (!llvm::equal(launch->getOperands(), block.getArguments()))
    return emitOpError(
        "expected the launch to take the entry's arguments in order");
  return success();
}

LogicalResult EmbedOp::verify() {
  int64_t padded = dim(getWeight(), 1);
  if (strideOf(getResult()) < padded)
    return emitOpError("expected a result stride of at least ")
           << padded << ", found " << strideOf(getResult());
  return success();
}

LogicalResult RmsNormOp::verify() {
  int64_t width = dim(getWeight(), 0), offset = getOffset();
  if (offset < 0 || offset % 32 || offset + width > strideOf(getX()))
    return emitOpError("expected ")
           << width << " elements from a multiple of 32 on in a row of "
           << strideOf(getX()) << ", found offset " << offset;
  if (strideOf(getResult()) < width)
    return emitOpError("expected a result stride of at least ")
           << width << ", found " << strideOf(getResult());
  if (failed(verifyResultStride(*this, getResult())))
    return failure();
  if (!getQuantized().empty() && !isPlainActivation(getResult().getType()))
    return emitOpError("expected the first of several results to be plain, "
                       "found ")
           << getResult().getType();
  llvm::SmallPtrSet<Type, 4> seen = {getResult().getType()};
  for (Value result : getQuantized()) {
    if (strideOf(result) != strideOf(getResult()) ||
        !seen.insert(result.getType()).second)
      return emitOpError("expected results of one stride, each in another "
                         "form, found ")
             << result.getType();
    if (failed(verifyResultStride(*this, result)))
      return failure();
  }
  return success();
}

LogicalResult LinearOp::verify() {
  if (failed(verifyInput(*this, getX(), getWeight())))
    return failure();
  bool swiglu = getEpilogue() == Epilogue::Swiglu;
  int64_t rows = dim(getWeight(), 0), step = swiglu ? 64 : 32;
  if (rows <= 0 || rows % step)
    return emitOpError("expected weight rows that are a positive multiple of ")
           << step << ", found " << rows;
  int64_t out = swiglu ? rows / 2 : rows;
  if (strideOf(getResult()) < out)
    return emitOpError("expected a result stride of at least ")
           << out << ", found " << strideOf(getResult());
  if (getBias() && dim(getBias(), 0) != rows)
    return emitOpError("expected a bias of ")
           << rows << " elements, found " << dim(getBias(), 0);
  if (!swiglu && !isPlainActivation(getResult().getType()))
    return emitOpError("expected a plain result without the swiglu epilogue, "
                       "found ")
           << getResult().getType();
  if (failed(verifyResultStride(*this, getResult())))
    return failure();
  if (getResidual() && swiglu)
    return emitOpError("expected no residual beside the swiglu epilogue");
  if (getResidual() && getResidual().getType() != getResult().getType())
    return emitOpError("expected a residual of the result's type");
  return success();
}

LogicalResult RopeTableOp::verify() {
  auto type = cast<RankedTensorType>(getResult().getType());
  if (!isPlainActivation(type) ||
      type.getDimSize(1) != 2 * dim(getInvFreq(), 0))
    return emitOpError("expected a result tensor<?x")
           << 2 * dim(getInvFreq(), 0) << "xf32>, found " << type;
  if (dim(getInvFreq(), 0) % 16)
    return emitOpError(
               "expected frequencies padded to a multiple of 16, found ")
           << dim(getInvFreq(), 0);
  return success();
}

LogicalResult RopeCacheOp::verify() {
  CacheType keys = getKeys().getType();
  if (failed(verifyCaches(*this, keys, getValues().getType(), getNumHeads())))
    return failure();
  if (getNewKeys().getType() != keys ||
      getNewValues().getType() != getValues().getType())
    return emitOpError("expected it to return caches of the types it took");
  int64_t size = keys.getHeadSize();
  int64_t all = (getNumHeads() + 2 * keys.getNumHeads()) * size;
  if (strideOf(getQkv()) < all)
    return emitOpError("expected a qkv stride of at least ")
           << all << ", found " << strideOf(getQkv());
  if (strideOf(getQ()) < static_cast<int64_t>(getNumHeads()) * size)
    return emitOpError("expected a query stride of at least ")
           << getNumHeads() * size << ", found " << strideOf(getQ());
  auto table = cast<RankedTensorType>(getTable().getType());
  if (!isPlainActivation(table) || table.getDimSize(1) != size)
    return emitOpError("expected a table tensor<?x")
           << size << "xf32>, found " << table;
  return success();
}

template <typename Op> static Op partOf(FusedOp fused) {
  auto parts = fused.getBody().front().getOps<Op>();
  return parts.empty() ? Op() : *parts.begin();
}
RmsNormOp FusedOp::getNorm() { return partOf<RmsNormOp>(*this); }
LinearOp FusedOp::getLinear() { return partOf<LinearOp>(*this); }
RopeCacheOp FusedOp::getRope() { return partOf<RopeCacheOp>(*this); }

LogicalResult FusedOp::verify() {
  Block &block = getBody().front();
  if (!llvm::equal(block.getArgumentTypes(), getInputs().getTypes()))
    return emitOpError("expected a body that takes the types of its inputs");
  auto yield = dyn_cast<YieldOp>(block.back());
  RmsNormOp norm = getNorm();
  LinearOp linear = getLinear();
  RopeCacheOp rope = getRope();
  Operation *last = rope ? rope.getOperation() : linear.getOperation();
  size_t parts = bool(norm) + bool(linear) + bool(rope);
  if (!yield || !linear || parts < 2 ||
      block.getOperations().size() != parts + 1 || last->getNextNode() != yield)
    return emitOpError("expected a linear behind an rms_norm or in front of a "
                       "rope_cache, and a yield");
  if (!llvm::equal(yield.getResults(), last->getResults()) ||
      !llvm::equal(yield.getResults().getTypes(), getResultTypes()))
    return emitOpError("expected it to return what its last launch does");
  auto isHandedOn = [](Operation *from, OpOperand &to) {
    return from->getNumResults() == 1 && from->getResult(0) == to.get() &&
           from->hasOneUse();
  };
  if (norm && !isHandedOn(norm, linear.getXMutable()))
    return emitOpError("expected rows of one form that the linear alone takes "
                       "from the norm");
  if (!rope)
    return success();
  if (!isHandedOn(linear, rope.getQkvMutable()))
    return emitOpError("expected the rope_cache alone to take the linear's "
                       "result");
  CacheType keys = rope.getKeys().getType();
  int64_t rows =
      (static_cast<int64_t>(rope.getNumHeads()) + 2 * keys.getNumHeads()) *
      keys.getHeadSize();
  if (linear.getResidual() || linear.getEpilogue() != Epilogue::None ||
      dim(linear.getWeight(), 0) != rows)
    return emitOpError("expected a linear of ")
           << rows
           << " rows without residual and epilogue in front of the "
              "rope_cache";
  return success();
}

bool readsPosition(Operation *launch) {
  auto fused = dyn_cast<FusedOp>(launch);
  return launch->hasTrait<ReadsPosition>() || (fused && fused.getRope());
}

LogicalResult AttentionOp::verify() {
  CacheType keys = getKeys().getType();
  if (failed(verifyCaches(*this, keys, getValues().getType(), getNumHeads())))
    return failure();
  int64_t width = getNumHeads() * keys.getHeadSize();
  if (strideOf(getQ()) < width || strideOf(getResult()) < width)
    return emitOpError("expected strides of at least ")
           << width << ", found " << strideOf(getQ()) << " and "
           << strideOf(getResult());
  if (Value value = getPartials()) {
    auto partials = cast<PartialsType>(value.getType());
    int64_t groups = keys.getNumHeads();
    if (partials.getGroups() != groups ||
        partials.getHeads() != static_cast<int64_t>(getNumHeads()) / groups ||
        partials.getSize() != keys.getHeadSize())
      return emitOpError("expected partials for ")
             << groups << " x " << getNumHeads() / groups << " x "
             << keys.getHeadSize() << ", found " << partials;
  }
  return verifyResultStride(*this, getResult());
}

LogicalResult HeadLinearOp::verify() {
  int64_t heads = getHeads(), rows = dim(getWeight(), 0);
  if (heads <= 0 || rows % (heads * kStripRows))
    return emitOpError("expected weight rows that are a multiple of 32 for "
                       "each of ")
           << heads << " heads, found " << rows;
  if (failed(verifyInputEncoding(*this, getX(), getWeight())))
    return failure();
  auto encoding = *encoding::getPackedEncoding(getWeight().getType());
  int64_t cols = roundUp(dim(getWeight(), 1), encoding.blockCols());
  int64_t xHead = getXHead(), resultHead = getResultHead();
  if (xHead <= 0 || xHead % 32 || (heads - 1) * xHead + cols > strideOf(getX()))
    return emitOpError("expected inputs of ")
           << heads << " heads at multiples of 32 in a row of "
           << strideOf(getX()) << ", found x_head " << xHead << " and " << cols
           << " columns";
  if (resultHead < rows / heads || resultHead % 32 ||
      (heads - 1) * resultHead + rows / heads > strideOf(getResult()))
    return emitOpError("expected results of ")
           << rows / heads << " elements at multiples of 32 in a row of "
           << strideOf(getResult()) << ", found result_head " << resultHead;
  return verifyResultStride(*this, getResult());
}

namespace {

LogicalResult verifyLatent(Operation *op, CacheType cache, int64_t rank,
                           Value table) {
  if (cache.getKind() != CacheKind::Latent || cache.getNumHeads() != 1)
    return op->emitOpError("expected a latent cache of one head, found ")
           << cache;
  if (!isPlainActivation(table.getType()) || strideOf(table) % 32)
    return op->emitOpError("expected a table of padded halves, found ")
           << table.getType();
  int64_t size = roundUp<int64_t>(rank, 32) + strideOf(table);
  if (rank <= 0 || cache.getHeadSize() != size)
    return op->emitOpError("expected a cache of ")
           << size << " elements, found " << cache;
  return success();
}

int64_t rowsPerExpert(Value weight, ExpertListsType lists) {
  int64_t rows = dim(weight, 0), experts = lists.getNumExperts();
  return experts > 0 && rows % experts == 0 ? rows / experts : 0;
}

} // namespace

LogicalResult LatentCacheOp::verify() {
  int64_t rank = dim(getNorm(), 0), offset = getOffset();
  CacheType cache = getCache().getType();
  if (failed(verifyLatent(*this, cache, rank, getTable())))
    return failure();
  if (getNewCache().getType() != cache)
    return emitOpError("expected it to return a cache of the type it took");
  if (offset < 0 || offset % 32 ||
      offset + cache.getHeadSize() > strideOf(getKv()))
    return emitOpError("expected ")
           << cache.getHeadSize() << " elements from a multiple of 32 on in a "
           << "row of " << strideOf(getKv()) << ", found offset " << offset;
  return success();
}

LogicalResult LatentAttentionOp::verify() {
  int64_t heads = getNumHeads(), rank = getRank();
  if (rank % 32)
    return emitOpError("expected a rank that is a multiple of 32, found ")
           << rank;
  if (failed(verifyLatent(*this, getCache().getType(), rank, getTable())))
    return failure();
  int64_t rope = strideOf(getTable());
  if (heads <= 0 || heads * rank > strideOf(getAbsorbed()))
    return emitOpError("expected ")
           << heads << " heads of " << rank << " in a row of "
           << strideOf(getAbsorbed());
  int64_t qHead = getQHead(), qRope = getQRope(), resultHead = getResultHead();
  if (qHead <= 0 || qHead % 32 || qRope < 0 || qRope % 32 ||
      (heads - 1) * qHead + qRope + rope > strideOf(getQ()))
    return emitOpError("expected rotary parts at multiples of 32 in a row of ")
           << strideOf(getQ()) << ", found q_head " << qHead << " and q_rope "
           << qRope;
  if (resultHead < rank || resultHead % 32 ||
      heads * resultHead > strideOf(getResult()))
    return emitOpError("expected results of ")
           << rank << " elements at multiples of 32 in a row of "
           << strideOf(getResult()) << ", found result_head " << resultHead;
  return verifyResultStride(*this, getResult());
}

LogicalResult MoeRouteOp::verify() {
  int64_t experts = getExperts(), groups = getGroups();
  int64_t topK = getTopK(), topGroups = getTopGroups(), shared = getShared();
  if (experts <= 0 || experts > strideOf(getLogits()))
    return emitOpError("expected from 1 to ")
           << strideOf(getLogits()) << " experts, found " << experts;
  if (groups <= 0 || experts % groups || experts / groups < 2)
    return emitOpError("expected groups of at least two that divide the ")
           << experts << " experts, found " << groups;
  if (topGroups <= 0 || topGroups > groups || topK <= 0 ||
      topK > topGroups * (experts / groups))
    return emitOpError("expected top_k of the experts of top_groups groups, "
                       "found ")
           << topK << " and " << topGroups;
  if (shared < 0 || topK + shared > strideOf(getIds()) ||
      topK + shared > strideOf(getWeights()))
    return emitOpError("expected results of at least ")
           << topK + shared << " elements, found " << strideOf(getIds())
           << " and " << strideOf(getWeights());
  if (getBias() && dim(getBias(), 0) != experts)
    return emitOpError("expected a bias of ")
           << experts << " elements, found " << dim(getBias(), 0);
  return success();
}

LogicalResult MoeGroupOp::verify() {
  ExpertListsType lists = getLists().getType();
  if (lists.getNumExperts() <= 0 || lists.getSlots() <= 0 ||
      lists.getSlots() > strideOf(getIds()))
    return emitOpError("expected experts, and from 1 to ")
           << strideOf(getIds()) << " slots, found " << lists;
  return success();
}

LogicalResult MoeUpOp::verify() {
  ExpertListsType lists = getLists().getType();
  int64_t rows = rowsPerExpert(getWeight(), lists);
  if (failed(verifyInput(*this, getX(), getWeight())))
    return failure();
  if (rows == 0 || rows % (2 * kStripRows))
    return emitOpError("expected weight rows that are a multiple of 64 for "
                       "each of ")
           << lists.getNumExperts() << " experts, found "
           << dim(getWeight(), 0);
  int64_t slot = getResultSlot();
  if (slot < rows / 2 || slot % 32 ||
      lists.getSlots() * slot > strideOf(getResult()))
    return emitOpError("expected results of ")
           << rows / 2 << " elements at multiples of 32 in a row of "
           << strideOf(getResult()) << ", found result_slot " << slot;
  return verifyResultStride(*this, getResult());
}

LogicalResult MoeDownOp::verify() {
  ExpertListsType lists = getLists().getType();
  int64_t rows = rowsPerExpert(getWeight(), lists);
  if (rows == 0 || rows % kStripRows || rows > strideOf(getResult()))
    return emitOpError("expected weight rows that are a multiple of 32 up to ")
           << strideOf(getResult()) << " for each of " << lists.getNumExperts()
           << " experts, found " << dim(getWeight(), 0);
  if (failed(verifyInputEncoding(*this, getX(), getWeight())))
    return failure();
  auto encoding = *encoding::getPackedEncoding(getWeight().getType());
  int64_t cols = roundUp(dim(getWeight(), 1), encoding.blockCols());
  int64_t slot = getXSlot();
  if (slot < cols || slot % 32 || lists.getSlots() * slot > strideOf(getX()))
    return emitOpError("expected inputs of ")
           << cols << " elements at multiples of 32 in a row of "
           << strideOf(getX()) << ", found x_slot " << slot;
  if (getResidual().getType() != getResult().getType())
    return emitOpError("expected a residual of the result's type");
  return success();
}

} // namespace retort::kernel
