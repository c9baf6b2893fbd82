//===- Unicode.h - UTF-8 and character classes ------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Checking, decoding and normalizing UTF-8, and the character classes that
/// tokenizers and templates are defined by. Text inside this library is valid
/// UTF-8: validateUtf8() stands at every entrance.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_TEXT_UNICODE_H
#define RETORT_RUNTIME_TEXT_UNICODE_H

#include "runtime/support/Status.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace retort::text {

/// The Unicode normalization forms that a `normalizer` can ask for.
enum class NormalForm { NFC, NFD, NFKC, NFKD };

/// One step of the maximal-subpart scan (Unicode 15, section 3.9).
struct Utf8Step {
  enum Kind { Valid, Invalid, Incomplete } kind;
  size_t length; ///< bytes of the character, or of the ill-formed subpart
};

/// Classifies the bytes at the start of `bytes`, which must not be empty.
/// `Incomplete` means that all of `bytes` is a proper prefix of a character.
Utf8Step stepUtf8(std::string_view bytes);

/// The offset of the first ill-formed byte, or npos for valid UTF-8.
size_t findInvalidUtf8(std::string_view bytes);

/// An error naming the offset of the first ill-formed byte, if there is one.
Status validateUtf8(std::string_view bytes, std::string_view what);

/// Replaces every maximal ill-formed subpart with U+FFFD.
std::string toValidUtf8(std::string_view bytes);

/// Decodes the character at `pos` of valid UTF-8 and moves `pos` behind it.
char32_t decodeUtf8(std::string_view text, size_t &pos);

/// Decodes the character that ends at `pos` and moves `pos` to its first byte.
char32_t decodeUtf8Backwards(std::string_view text, size_t &pos);

/// Appends one character; `c` must be a Unicode scalar value.
void appendUtf8(std::string &out, char32_t c);

/// The number of characters of valid UTF-8.
size_t countCharacters(std::string_view text);

/// The property White_Space.
bool isWhitespace(char32_t c);
/// What `\w` matches: Alphabetic, M, Nd, Pc and Join_Control.
bool isWord(char32_t c);
/// The general categories Nd, Nl and No.
bool isNumeric(char32_t c);
/// The general categories of letters.
bool isLetter(char32_t c);
/// What Python's `str.isprintable` accepts.
bool isPrintable(char32_t c);

/// Full case mapping is not attempted: one character maps to one, but for
/// U+00DF, which is "SS" in upper case.
std::string toUpper(std::string_view text);
std::string toLower(std::string_view text);
/// Upper case at the start of each run of letters, lower case inside it.
std::string toTitle(std::string_view text);

/// `text` in the given normal form.
Result<std::string> normalize(std::string_view text, NormalForm form);

/// The character that stands for a byte in a byte-level vocabulary: printable
/// bytes of Latin-1 stand for themselves, the others for U+0100 upwards.
char32_t byteToCharacter(uint8_t byte);

/// The byte for which `c` stands in a byte-level vocabulary, or -1.
int characterToByte(char32_t c);

} // namespace retort::text

#endif // RETORT_RUNTIME_TEXT_UNICODE_H
