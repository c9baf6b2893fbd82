//===- Unicode.cpp - UTF-8 and character classes --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Unicode.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utf8proc.h>
#include <vector>

namespace retort::text {
namespace {

/// The bytes a second byte may take after a given lead byte.
bool secondByteFits(uint8_t lead, uint8_t second) {
  switch (lead) {
  case 0xE0:
    return second >= 0xA0 && second <= 0xBF;
  case 0xED:
    return second >= 0x80 && second <= 0x9F;
  case 0xF0:
    return second >= 0x90 && second <= 0xBF;
  case 0xF4:
    return second >= 0x80 && second <= 0x8F;
  default:
    return second >= 0x80 && second <= 0xBF;
  }
}

size_t lengthFromLead(uint8_t lead) {
  if (lead < 0x80)
    return 1;
  if (lead >= 0xC2 && lead <= 0xDF)
    return 2;
  if (lead >= 0xE0 && lead <= 0xEF)
    return 3;
  if (lead >= 0xF0 && lead <= 0xF4)
    return 4;
  return 0;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

struct ByteAlphabet {
  std::array<char32_t, 256> characters{};
  std::array<int16_t, 512> bytes{};

  constexpr ByteAlphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) ||
                       (b >= 0xAE && b <= 0xFF);
      characters[b] = printable ? static_cast<char32_t>(b) : next++;
      bytes[characters[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr ByteAlphabet kByteAlphabet;

template <typename Map>
std::string mapCharacters(std::string_view text, Map map) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();)
    map(out, decodeUtf8(text, pos));
  return out;
}

void appendUpper(std::string &out, char32_t c) {
  if (c == 0xDF)
    out += "SS";
  else
    appendUtf8(out, static_cast<char32_t>(
                        utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void appendLower(std::string &out, char32_t c) {
  appendUtf8(out, static_cast<char32_t>(
                      utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

/// Puts each run of combining marks into canonical order. utf8proc's own
/// ordering takes quadratic time in the length of a run.
void orderMarks(std::vector<utf8proc_int32_t> &points) {
  auto combiningClass = [](utf8proc_int32_t c) -> int {
    return utf8proc_get_property(c)->combining_class;
  };
  // The position makes the order of equal classes stay as it is.
  std::vector<std::tuple<int, size_t, utf8proc_int32_t>> marks;
  for (size_t begin = 0; begin < points.size(); ++begin) {
    size_t end = begin;
    while (end < points.size() && combiningClass(points[end]) != 0)
      ++end;
    if (end - begin > 1) {
      marks.clear();
      for (size_t i = begin; i < end; ++i)
        marks.push_back({combiningClass(points[i]), i, points[i]});
      std::sort(marks.begin(), marks.end());
      for (size_t i = begin; i < end; ++i)
        points[i] = std::get<2>(marks[i - begin]);
    }
    begin = std::max(begin, end);
  }
}

} // namespace

Utf8Step stepUtf8(std::string_view bytes) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  size_t length = lengthFromLead(at(0));
  if (length == 0)
    return {Utf8Step::Invalid, 1};
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size())
      return {Utf8Step::Incomplete, i};
    bool fits = i == 1 ? secondByteFits(at(0), at(1)) : (at(i) & 0xC0) == 0x80;
    if (!fits)
      return {Utf8Step::Invalid, i};
  }
  return {Utf8Step::Valid, length};
}

size_t findInvalidUtf8(std::string_view bytes) {
  for (size_t pos = 0; pos < bytes.size();) {
    if (static_cast<uint8_t>(bytes[pos]) < 0x80) {
      ++pos;
      continue;
    }
    Utf8Step step = stepUtf8(bytes.substr(pos));
    if (step.kind != Utf8Step::Valid)
      return pos;
    pos += step.length;
  }
  return std::string_view::npos;
}

Status validateUtf8(std::string_view bytes, std::string_view what) {
  size_t bad = findInvalidUtf8(bytes);
  if (bad == std::string_view::npos)
    return Status::ok();
  constexpr const char *kHex = "0123456789abcdef";
  uint8_t byte = static_cast<uint8_t>(bytes[bad]);
  return Status::error(Code::InvalidArgument,
                       std::string(what) + ": byte offset " +
                           std::to_string(bad) +
                           ": expected valid UTF-8, found byte 0x" +
                           kHex[byte >> 4] + kHex[byte & 15]);
}

std::string toValidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    Utf8Step step = stepUtf8(bytes);
    if (step.kind == Utf8Step::Valid)
      out += bytes.substr(0, step.length);
    else
      out += "\xEF\xBF\xBD";
    bytes.remove_prefix(step.length);
  }
  return out;
}

char32_t decodeUtf8(std::string_view text, size_t &pos) {
  auto at = [&](size_t i) -> char32_t {
    return static_cast<uint8_t>(text[pos + i]);
  };
  char32_t lead = at(0), c;
  size_t length = 1;
  if (lead < 0x80) {
    c = lead;
  } else if (lead < 0xE0) {
    c = (lead & 0x1F) << 6 | (at(1) & 0x3F);
    length = 2;
  } else if (lead < 0xF0) {
    c = (lead & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    length = 3;
  } else {
    c = (lead & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 |
        (at(3) & 0x3F);
    length = 4;
  }
  pos += length;
  return c;
}

char32_t decodeUtf8Backwards(std::string_view text, size_t &pos) {
  do
    --pos;
  while (pos > 0 && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80);
  size_t begin = pos;
  return decodeUtf8(text, begin);
}

void appendUtf8(std::string &out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t countCharacters(std::string_view text) {
  size_t count = 0;
  for (char c : text)
    count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

bool isWhitespace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool isLetter(char32_t c) {
  utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool isWord(char32_t c) {
  utf8proc_category_t k = category(c);
  // The circled and squared letters are the part of Other_Alphabetic that is
  // not in M.
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) ||
         k == UTF8PROC_CATEGORY_PC || (c >= 0x24B6 && c <= 0x24E9) ||
         (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
}

bool isNumeric(char32_t c) {
  utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool isPrintable(char32_t c) {
  utf8proc_category_t k = category(c);
  if (k == UTF8PROC_CATEGORY_CN || k >= UTF8PROC_CATEGORY_ZS)
    return c == ' ';
  return true;
}

std::string toUpper(std::string_view text) {
  return mapCharacters(text, appendUpper);
}

std::string toLower(std::string_view text) {
  return mapCharacters(text, appendLower);
}

std::string toTitle(std::string_view text) {
  bool inside = false;
  return mapCharacters(text, [&](std::string &out, char32_t c) {
    if (inside)
      appendLower(out, c);
    else
      appendUpper(out, c);
    inside = isLetter(c);
  });
}

Result<std::string> normalize(std::string_view text, NormalForm form) {
  // ASCII is unchanged by all four forms.
  bool ascii = true;
  for (char c : text)
    ascii &= static_cast<uint8_t>(c) < 0x80;
  if (ascii)
    return std::string(text);
  bool compose = form == NormalForm::NFC || form == NormalForm::NFKC;
  bool compatible = form == NormalForm::NFKC || form == NormalForm::NFKD;
  auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (compatible ? UTF8PROC_COMPAT : 0));

  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    constexpr int kLongest = 32; // no character decomposes into more than 18
    utf8proc_int32_t parts[kLongest];
    int boundClass = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(decodeUtf8(text, pos)), parts, kLongest,
        options, &boundClass);
    if (n < 0 || n > kLongest)
      return Status::error(Code::InvalidArgument,
                           "cannot normalize the text: byte offset " +
                               std::to_string(pos) + ": " + utf8proc_errmsg(n));
    points.insert(points.end(), parts, parts + n);
  }
  orderMarks(points);
  utf8proc_ssize_t length = utf8proc_normalize_utf32(
      points.data(), static_cast<utf8proc_ssize_t>(points.size()), options);
  if (length < 0)
    return Status::error(Code::Internal,
                         std::string("cannot normalize the text: ") +
                             utf8proc_errmsg(length));
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    appendUtf8(out, static_cast<char32_t>(points[static_cast<size_t>(i)]));
  return out;
}

char32_t byteToCharacter(uint8_t byte) {
  return kByteAlphabet.characters[byte];
}

int characterToByte(char32_t c) {
  return c < kByteAlphabet.bytes.size() ? kByteAlphabet.bytes[c] : -1;
}

} // namespace retort::text
