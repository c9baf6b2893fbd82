//===- KernelHarness.cpp - Compile and run kernels in tests ---------------===//
//------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/lower/KernelHarness.h"

#include "test/unit/lower/Emulation.h"

#include "compiler/codegen/Codegen.h"
#include "compiler/codegen/LoadedCode.h"

#include "mlir/Parser/Parser.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

namespace retort::test {

static float fromBF16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

std::vector<float> randomFloats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float &f : out)
    f = normal(random);
  return out;
}

PackedMatrix::PackedMatrix(PackedEncoding encoding, int64_t rows, int64_t cols,
                           uint32_t seed)
    : encoding(encoding), rows(rows), cols(cols),
      bytes(encoding.matrixBytes(rows, cols)), decoded(rows * cols) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  int64_t size = encoding.blockCols();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t b = 0; b < encoding.blocksPerStrip(cols); ++b) {
      uint8_t *block = bytes.data() + r / 32 * encoding.stripBytes(cols) +
                       b * encoding.blockBytes();
      int64_t lane = r % 32;
      float scale = 1;
      const IntegerFormat *format = encoding.integers();
      auto levels = format ? 1u << format->bits : 0;
      int zeroPoint = static_cast<int>(levels) / 2;
      if (encoding.isInteger()) {
        auto bits = static_cast<uint16_t>(
            std::bit_cast<uint32_t>(0.01f + 0.001f * (random() % 100)) >> 16);
        scale = fromBF16(bits);
        std::memcpy(block + encoding.scaleOffset() + lane * 2, &bits, 2);
        if (encoding.zeroPoints) {
          zeroPoint = static_cast<int>(random() % levels);
          block[encoding.zeroPointOffset() + lane] =
              static_cast<uint8_t>(zeroPoint);
        }
      }
      if (encoding.kind == EncodingKind::Fp8) {
        scale = 0.01f + 0.001f * static_cast<float>(random() % 100);
        std::memcpy(block + encoding.scaleOffset() + lane * 4, &scale, 4);
      }
      for (int64_t k = 0; k < size; ++k) {
        bool inside = b * size + k < cols;
        float value = 0;
        switch (encoding.kind) {
        case EncodingKind::F32:
          value = inside ? normal(random) : 0;
          std::memcpy(block + (k * 32 + lane) * 4, &value, 4);
          break;
        case EncodingKind::F16: {
          auto half = static_cast<_Float16>(inside ? normal(random) : 0);
          value = static_cast<float>(half);
          std::memcpy(block + (k * 32 + lane) * 2, &half, 2);
          break;
        }
        case EncodingKind::BF16: {
          auto bits = static_cast<uint16_t>(
              std::bit_cast<uint32_t>(inside ? normal(random) : 0) >> 16);
          value = fromBF16(bits);
          std::memcpy(block + (k * 32 + lane) * 2, &bits, 2);
          break;
        }
        case EncodingKind::Fp8: {
          // Subnormals too; 0x7f and 0xff are NaN.
          auto bits = static_cast<uint8_t>(inside ? random() % 256 : 0);
          bits = (bits & 0x7f) == 0x7f ? bits & 0x8e : bits;
          int exponent = bits >> 3 & 15, mantissa = bits & 7;
          value = exponent == 0
                      ? std::ldexp(float(mantissa), -9)
                      : std::ldexp(float(8 + mantissa), exponent - 10);
          value = scale * (bits & 0x80 ? -value : value);
          block[k * 32 + lane] = bits;
          break;
        }
        case EncodingKind::Int8: {
          int q = inside ? static_cast<int>(random() % 256) - 128 : 0;
          value = scale * static_cast<float>(q);
          block[k / 4 * 128 + lane * 4 + k % 4] = static_cast<uint8_t>(q);
          break;
        }
        default: {
          // Indices of a codebook have their zero somewhere.
          int zero = zeroPoint;
          if (format->codebook)
            zero = static_cast<int>(
                std::find(format->codebook, format->codebook + levels, 0) -
                format->codebook);
          int q = inside ? static_cast<int>(random() % levels) : zero;
          value =
              scale * static_cast<float>(format->codebook ? format->codebook[q]
                                                          : q - zeroPoint);
          // Bit by bit, as the layout is described.
          for (int bit = 0; bit < format->bits; ++bit) {
            bool isHigh = bit >= format->lowBits;
            int64_t plane =
                isHigh ? format->bits - format->lowBits : format->lowBits;
            int64_t j = k % 32 / 4;
            int64_t word = k / 32 * format->bits +
                           (isHigh ? format->lowBits : 0) + j * plane / 8;
            int64_t at = j * plane % 8 + (isHigh ? bit - format->lowBits : bit);
            block[word * 128 + lane * 4 + k % 4] |=
                static_cast<uint8_t>((q >> bit & 1) << at);
          }
          break;
        }
        }
        if (inside)
          decoded[r * cols + b * size + k] = value;
      }
    }
}

/// Where quant k of a row is.
static int64_t quantIndex(ActivationEncoding encoding, int64_t k) {
  constexpr int64_t kOrder[] = {0, 2, 1, 3};
  return encoding.kind == ActivationKind::Int8 ? k : k / 4 * 4 + kOrder[k % 4];
}

QuantizedRows::QuantizedRows(ActivationEncoding encoding,
                             const std::vector<float> &values, int64_t cols,
                             int64_t stride, int64_t spareRows)
    : encoding(encoding), stride(stride),
      bytes((int64_t(values.size()) / cols + spareRows) *
            encoding.rowBytes(stride)),
      decoded(values.size()) {
  int64_t rows = static_cast<int64_t>(values.size()) / cols;
  std::memset(row(rows), 0xff, spareRows * encoding.rowBytes(stride));
  auto limit = static_cast<float>(encoding.limit());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < stride; g += 32) {
      auto value = [&](int64_t k) {
        return k < cols ? values[r * cols + k] : 0.f;
      };
      float amax = 0;
      for (int64_t k = g; k < g + 32; ++k)
        amax = std::max(amax, std::fabs(value(k)));
      float scale = amax / limit;
      int16_t negatedSums[2] = {};
      for (int64_t k = g; k < g + 32; ++k) {
        auto quant = static_cast<int32_t>(
            amax > 0 ? std::lrint(value(k) * (limit / amax)) : 0);
        negatedSums[k % 4 / 2] -= static_cast<int16_t>(quant);
        std::memcpy(row(r) + quantIndex(encoding, k) * encoding.quantBytes(),
                    &quant, encoding.quantBytes());
        if (k < cols)
          decoded[r * cols + k] = scale * static_cast<float>(quant);
      }
      std::memcpy(row(r) + encoding.scalesOffset(stride) + g / 32 * 4, &scale,
                  4);
      if (encoding.kind == ActivationKind::Int8)
        std::memcpy(row(r) + encoding.sumsOffset(stride) + g / 32 * 4,
                    negatedSums, 4);
    }
}

float QuantizedRows::decode(ActivationEncoding encoding, int64_t stride,
                            const uint8_t *row, int64_t k) {
  int16_t quant = 0;
  std::memcpy(&quant, row + quantIndex(encoding, k) * encoding.quantBytes(),
              encoding.quantBytes());
  if (encoding.kind == ActivationKind::Int8)
    quant = static_cast<int8_t>(quant);
  float scale;
  std::memcpy(&scale, row + encoding.scalesOffset(stride) + k / 32 * 4, 4);
  return scale * static_cast<float>(quant);
}

std::string QuantizedRows::type(ActivationEncoding encoding, int64_t stride) {
  return "tensor<?x" + std::to_string(stride) + "xf32, #encoding.activation<" +
         (encoding.kind == ActivationKind::Int8 ? "int8" : "int16") + ", 32>>";
}

std::string PackedMatrix::type() const {
  std::string name = encoding.str();
  if (size_t at = name.find('<'); at != std::string::npos) {
    name.replace(at, 1, ", ");
    name.pop_back();
  }
  return "tensor<" + std::to_string(rows) + "x" + std::to_string(cols) +
         "xf32, #encoding.packed<" + name + ">>";
}

int64_t HeadCache::element(int64_t slot, int64_t i) const {
  if (!encoding.isInt8())
    return isKeys ? i * 16 + slot : slot * size + i;
  return isKeys ? i / 4 * 64 + slot * 4 + i % 4
                : i / 32 * 512 + slot / 4 * 128 + i % 32 * 4 + slot % 4;
}

float HeadCache::get(int64_t position, int64_t head, int64_t i) {
  uint8_t *base = block(position, head);
  int64_t at = element(position % kCachePositions, i);
  auto ofBF16 = [](uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  };
  switch (encoding.element) {
  case CacheElement::F32:
    return reinterpret_cast<float *>(base)[at];
  case CacheElement::F16:
    return static_cast<float>(reinterpret_cast<_Float16 *>(base)[at]);
  case CacheElement::BF16:
    return ofBF16(reinterpret_cast<uint16_t *>(base)[at]);
  case CacheElement::Int8:
    break;
  }
  return ofBF16(*scale(position, head, i)) *
         static_cast<float>(reinterpret_cast<int8_t *>(base)[at]);
}

void HeadCache::set(int64_t position, int64_t head,
                    std::vector<float> elements) {
  roundCached(encoding.element, elements);
  uint8_t *base = block(position, head);
  for (int64_t i = 0; i < size; ++i) {
    int64_t at = element(position % kCachePositions, i);
    float x = elements[i];
    switch (encoding.element) {
    case CacheElement::F32:
      reinterpret_cast<float *>(base)[at] = x;
      break;
    case CacheElement::F16:
      reinterpret_cast<_Float16 *>(base)[at] = static_cast<_Float16>(x);
      break;
    case CacheElement::BF16:
      reinterpret_cast<uint16_t *>(base)[at] =
          static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
      break;
    case CacheElement::Int8: {
      // Rounded elements are multiples of the scale, the largest 127 of it but
      // for the rounding of the scale.
      float amax = 0;
      int64_t group = i / kCacheGroup * kCacheGroup;
      for (int64_t j = group; j < group + kCacheGroup; ++j)
        amax = std::max(amax, std::abs(elements[j]));
      float s = amax / 127;
      *scale(position, head, i) =
          static_cast<uint16_t>((std::bit_cast<uint32_t>(s) + 0x7fff) >> 16);
      s = std::bit_cast<float>(static_cast<uint32_t>(*scale(position, head, i))
                               << 16);
      reinterpret_cast<int8_t *>(base)[at] =
          static_cast<int8_t>(s > 0 ? std::nearbyint(x / s) : 0);
      break;
    }
    }
  }
}

struct CompiledKernel::Loaded {
  LoadedCode loaded;
  retort_kernel_fn function;
};

Result<CompiledKernel> CompiledKernel::compile(const std::string &entry,
                                               const Target &target) {
  return make(entry, target, /*isEmulated=*/false);
}

Result<CompiledKernel> CompiledKernel::emulate(const std::string &entry,
                                               const Target &target) {
  return make(entry, target, /*isEmulated=*/true);
}

Result<CompiledKernel> CompiledKernel::make(const std::string &entry,
                                            const Target &target,
                                            bool isEmulated) {
  mlir::DialectRegistry registry;
  registerCodegenDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      entry, mlir::ParserConfig(&context));
  if (!module)
    return Status::error(Code::InvalidData, "cannot parse " + entry);
  CompiledKernel kernel;
  auto op = *module->getOps<kernel::EntryOp>().begin();
  kernel.tiles = getTiling(op.getLaunch(), op.getTokens());
  auto compiled = [&]() -> Result<std::vector<char>> {
    if (!isEmulated)
      return compileToSharedObject(*module, target, 1);
    RETORT_ASSIGN_OR_RETURN(std::string ir,
                            dumpCode(*module, target, TextForm::LLVMIR));
    return emulateCode(std::move(ir));
  };
  RETORT_ASSIGN_OR_RETURN(std::vector<char> object, compiled());
  RETORT_ASSIGN_OR_RETURN(LoadedCode loaded, LoadedCode::load(object));
  retort_kernel_fn function = loaded.find("k");
  if (!function)
    return Status::error(Code::NotFound, "the object exports no kernel k");
  kernel.code = std::make_shared<Loaded>(Loaded{std::move(loaded), function});
  return kernel;
}

void CompiledKernel::run(const std::vector<void *> &args,
                         retort_kernel_scalars scalars) const {
  // Contents undefined: whatever must be initialised has to be.
  AlignedBytes scratch(std::max<int64_t>(64, tiles.scratchBytes));
  std::memset(scratch.data(), 0xff, std::max<int64_t>(64, tiles.scratchBytes));
  int64_t count =
      tiles.tiles * (tiles.tokensPerTile == 0
                         ? 1
                         : ceilDiv(scalars.n_tokens, tiles.tokensPerTile));
  if (tiles.prepares)
    code->function(args.data(), &scalars, scratch.data(), -1);
  for (int64_t i = count - 1; i >= 0; --i)
    code->function(args.data(), &scalars, scratch.data(), i);
}

} // namespace retort::test
