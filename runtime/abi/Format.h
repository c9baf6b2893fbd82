//===- Format.h - The fixed part of an artifact file ------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The headers in front of an artifact and of its parts, and the footer behind
/// a standalone one.
///
/// ```
/// page 0            FileHeader, zeros up to the page's end
/// page 1 ...        sections, each beginning on a page (artifact.fbs: Section)
/// indexOffset       flatbuffer Index (artifact.fbs), zeros up to the page's
/// end fileSize          end of the artifact
/// ```
/// The weights of a split artifact are not in this file but in parts beside it
/// (PartHeader), which the index lists; there is then no weights section.
/// A standalone executable is `retort-run`, zeros up to a page boundary, an
/// artifact, and a StandaloneFooter as the file's last bytes.
/// Every byte of an artifact is covered by a hash or must be zero. Integers are
/// little-endian; hashes are XXH3-64 with seed 0.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_ABI_FORMAT_H
#define RETORT_RUNTIME_ABI_FORMAT_H

#include <cstdint>

namespace retort::abi {

/// Contains a byte above 127, a DOS end-of-file and a line feed, so that text
/// conversions and terminals are noticed (as PNG's signature does).
inline constexpr unsigned char kMagic[8] = {0x8e, 'R', 'E', 'T',
                                            'O',  'R', 'T', 0x0a};
inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kPageSize = 4096;
/// Tensors in the weights section begin on this boundary.
inline constexpr uint64_t kWeightAlignment = 64;

struct FileHeader {
  unsigned char magic[8];
  uint32_t version;
  uint32_t headerSize; ///< kPageSize
  uint64_t fileSize;   ///< bytes of the whole artifact, a multiple of kPageSize
  uint64_t indexOffset;
  uint64_t indexSize; ///< bytes of the flatbuffer, without padding
  uint64_t indexHash;
  uint64_t headerHash; ///< of the bytes before this field
};
static_assert(sizeof(FileHeader) == 56);

inline constexpr unsigned char kFooterMagic[8] = {0x8e, 'R', 'T',  'E',
                                                  'X',  'E', 0x1a, 0x0a};

struct StandaloneFooter {
  uint64_t artifactOffset; ///< from the start of the executable, page-aligned
  uint64_t artifactSize;
  unsigned char magic[8];
};
static_assert(sizeof(StandaloneFooter) == 24);

inline constexpr unsigned char kPartMagic[8] = {0x8e, 'R', 'T', 'P',
                                                'A',  'R', 'T', 0x0a};
inline constexpr uint32_t kPartVersion = 1;
/// A part's weights begin at this offset of its file, and parts are cut at
/// multiples of it: no page of any machine is larger, so that parts can be
/// mapped one behind the other.
inline constexpr uint64_t kPartAlignment = 65536;
inline constexpr uint64_t kMaxParts = 512;

/// In front of a part, followed by zeros up to kPartAlignment and `size` bytes
/// of weights, with which the file ends.
struct PartHeader {
  unsigned char magic[8];
  uint32_t version;
  uint32_t headerSize; ///< kPartAlignment
  uint64_t weightsId;  ///< the index's: parts and index belong together
  uint32_t number;     ///< from 1
  uint32_t count;
  uint64_t size;
  uint64_t headerHash; ///< of the bytes before this field
};
static_assert(sizeof(PartHeader) == 48);

/// Activation buffers hold roundUp(max_chunk, kTokenPadding) rows: kernels may
/// compute, and spoil, up to that many rows beyond the last token's.
inline constexpr uint64_t kTokenPadding = 8;
/// Phases that serve at most so many tokens give each of them, bit by bit, what
/// it would be given alone: guesses can be checked, and sequences decoded,
/// together.
inline constexpr uint64_t kExactTokens = 8;
/// Cache buffers hold roundUp(max_context, kPositionPadding) positions.
inline constexpr uint64_t kPositionPadding = 64;

} // namespace retort::abi

#endif // RETORT_RUNTIME_ABI_FORMAT_H
