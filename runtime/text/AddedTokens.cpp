//===- AddedTokens.cpp - Tokens found before all else ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/AddedTokens.h"

#include "runtime/text/Unicode.h"

#include <algorithm>

namespace retort::text {
namespace {

bool endsWithWord(std::string_view text) {
  size_t pos = text.size();
  return pos > 0 && isWord(decodeUtf8Backwards(text, pos));
}

bool startsWithWord(std::string_view text) {
  size_t pos = 0;
  return !text.empty() && isWord(decodeUtf8(text, pos));
}

/// Where the white space at the end of `text` begins.
size_t trailingSpace(std::string_view text) {
  size_t begin = text.size();
  for (size_t pos = begin; pos > 0; begin = pos)
    if (!isWhitespace(decodeUtf8Backwards(text, pos)))
      break;
  return begin;
}

/// The length of the white space at the start of `text`.
size_t leadingSpace(std::string_view text) {
  size_t end = 0;
  for (size_t pos = 0; pos < text.size(); end = pos)
    if (!isWhitespace(decodeUtf8(text, pos)))
      break;
  return end;
}

} // namespace

void AddedTokenMatcher::add(const AddedToken &token, std::string_view pattern) {
  if (pattern.empty())
    return;
  uint32_t at = 0;
  for (char c : pattern) {
    uint8_t byte = static_cast<uint8_t>(c);
    auto &children = nodes[at].children;
    auto it =
        std::find_if(children.begin(), children.end(),
                     [&](const auto &child) { return child.first == byte; });
    if (it != children.end()) {
      at = it->second;
      continue;
    }
    uint32_t next = static_cast<uint32_t>(nodes.size());
    children.emplace_back(byte, next);
    nodes.emplace_back();
    at = next;
  }
  firstBytes[static_cast<uint8_t>(pattern[0])] = true;
  if (nodes[at].token >= 0)
    return;
  nodes[at].token = static_cast<int32_t>(tokens.size());
  tokens.push_back(token);
}

AddedTokenMatcher::Match AddedTokenMatcher::longestAt(std::string_view text,
                                                      size_t pos) const {
  Match match;
  uint32_t at = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    uint8_t byte = static_cast<uint8_t>(text[i]);
    const auto &children = nodes[at].children;
    auto it =
        std::find_if(children.begin(), children.end(),
                     [&](const auto &child) { return child.first == byte; });
    if (it == children.end())
      break;
    at = it->second;
    if (nodes[at].token >= 0)
      match = {i + 1 - pos, nodes[at].token};
  }
  return match;
}

void AddedTokenMatcher::split(std::string_view text,
                              std::vector<Segment> &segments) const {
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    if (!firstBytes[static_cast<uint8_t>(text[pos])]) {
      ++pos;
      continue;
    }
    Match match = longestAt(text, pos);
    if (match.token < 0) {
      ++pos;
      continue;
    }
    size_t begin = pos, end = pos + match.length;
    pos = end;
    const AddedToken &token = tokens[static_cast<size_t>(match.token)];
    if (token.singleWord && (endsWithWord(text.substr(0, begin)) ||
                             startsWithWord(text.substr(end))))
      continue;
    if (token.stripLeft)
      begin = std::max(trailingSpace(text.substr(0, begin)), done);
    if (token.stripRight)
      end += leadingSpace(text.substr(end));
    if (done < begin)
      segments.push_back({text.substr(done, begin - done), -1});
    segments.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size())
    segments.push_back({text.substr(done), -1});
}

} // namespace retort::text
