//===- TokenizerDocument.cpp - tokenizer.json in parts --------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TokenizerDocument.h"

#include <algorithm>

namespace retort::text {
namespace {

/// Builds the document but for the vocabulary and the merges, which are most
/// of it and go straight into compact tables.
class DocumentBuilder : public JsonBuilder {
public:
  Vocabulary vocabulary;
  bool hasVocabulary = false; ///< maybe an empty one

  /// The merges in ids; `vocabulary` must be finished.
  Result<std::vector<Merge>> merges() const {
    std::vector<Merge> out;
    out.reserve(mergeEntries.size());
    std::string_view blob = mergeText;
    for (const MergeEntry &m : mergeEntries) {
      std::string_view left = blob.substr(m.offset, m.left),
                       right = blob.substr(m.offset + m.left, m.right),
                       joined = blob.substr(m.offset, m.left + m.right);
      Merge merge{vocabulary.find(left), vocabulary.find(right),
                  vocabulary.find(joined)};
      const std::string_view *missing = merge.left < 0     ? &left
                                        : merge.right < 0  ? &right
                                        : merge.result < 0 ? &joined
                                                           : nullptr;
      if (missing)
        return Status::error(
            Code::InvalidData,
            "merges[" + std::to_string(out.size()) + "] ('" +
                std::string(left) + "' '" + std::string(right) + "'): token '" +
                std::string(*missing) + "' is not in the vocabulary");
      out.push_back(merge);
    }
    return out;
  }

  bool null() override { return scalar("null") && JsonBuilder::null(); }
  bool boolean(bool v) override {
    return scalar("a boolean") && JsonBuilder::boolean(v);
  }
  bool number_integer(number_integer_t v) override {
    if (mode == Mode::Vocabulary)
      return addToken(v);
    return scalar("a number") && JsonBuilder::number_integer(v);
  }
  bool number_unsigned(number_unsigned_t v) override {
    if (mode == Mode::Vocabulary)
      return addToken(static_cast<int64_t>(
          std::min<number_unsigned_t>(v, static_cast<uint64_t>(INT64_MAX))));
    return scalar("a number") && JsonBuilder::number_unsigned(v);
  }
  bool number_float(number_float_t v, const string_t &text) override {
    return scalar("a fraction") && JsonBuilder::number_float(v, text);
  }
  bool string(string_t &v) override {
    if (mode == Mode::Merges)
      return addMergeLine(v);
    if (mode == Mode::MergePair)
      return addMergePart(v);
    return scalar("a string") && JsonBuilder::string(v);
  }
  bool key(string_t &v) override {
    if (mode == Mode::Vocabulary) {
      token = std::move(v);
      return true;
    }
    if (depth() == 1)
      inModel = v == "model";
    return scalar("an object") && JsonBuilder::key(v);
  }
  bool start_object(size_t size) override {
    if (mode != Mode::Document)
      return scalar("an object");
    if (atModelField("vocab")) {
      mode = Mode::Vocabulary;
      hasVocabulary = true;
    }
    return JsonBuilder::start_object(size);
  }
  bool end_object() override {
    mode = Mode::Document;
    return JsonBuilder::end_object();
  }
  bool start_array(size_t size) override {
    if (mode == Mode::Merges) {
      mode = Mode::MergePair;
      mergeEntries.push_back({mergeText.size(), 0, 0});
      partsSeen = 0;
      return true;
    }
    if (mode != Mode::Document)
      return scalar("an array");
    if (atModelField("merges"))
      mode = Mode::Merges;
    return JsonBuilder::start_array(size);
  }
  bool end_array() override {
    if (mode == Mode::MergePair) {
      mode = Mode::Merges;
      if (partsSeen != 2)
        return fail(mergePath(mergeEntries.size() - 1) +
                    ": expected two tokens, found " +
                    std::to_string(partsSeen));
      return true;
    }
    mode = Mode::Document;
    return JsonBuilder::end_array();
  }

private:
  enum class Mode { Document, Vocabulary, Merges, MergePair };
  struct MergeEntry {
    size_t offset;
    uint32_t left, right;
  };

  bool atModelField(std::string_view name) const {
    return inModel && depth() == 2 && pendingKey() == name;
  }
  static std::string mergePath(size_t index) {
    return "model.merges[" + std::to_string(index) + ']';
  }

  /// Any value but those that the vocabulary and the merges consist of.
  bool scalar(const char *kind) {
    switch (mode) {
    case Mode::Document:
      return true;
    case Mode::Vocabulary:
      return fail("model.vocab: token '" + token +
                  "': expected an integer id, found " + kind);
    case Mode::Merges:
      return fail(mergePath(mergeEntries.size()) +
                  ": expected a string or an array, found " + kind);
    case Mode::MergePair:
      return fail(mergePath(mergeEntries.size() - 1) +
                  ": expected strings, found " + kind);
    }
    return false;
  }

  bool addToken(int64_t id) {
    Status status = vocabulary.add(token, id);
    return status.isOk() || fail("model.vocab: " + status.message());
  }

  bool addMergeLine(const std::string &line) {
    if (line.starts_with("#version"))
      return true;
    size_t space = line.find(' ');
    if (space == std::string::npos ||
        line.find(' ', space + 1) != std::string::npos)
      return fail(mergePath(mergeEntries.size()) +
                  ": expected two tokens with a space between them, found '" +
                  line + "'");
    mergeEntries.push_back({mergeText.size(), static_cast<uint32_t>(space),
                            static_cast<uint32_t>(line.size() - space - 1)});
    mergeText.append(line, 0, space).append(line, space + 1);
    return true;
  }

  bool addMergePart(const std::string &part) {
    MergeEntry &entry = mergeEntries.back();
    (partsSeen == 0 ? entry.left : entry.right) =
        static_cast<uint32_t>(part.size());
    mergeText += part;
    ++partsSeen;
    return true;
  }

  Mode mode = Mode::Document;
  bool inModel = false;
  std::string token; ///< the vocabulary's key whose id comes next
  std::string mergeText;
  std::vector<MergeEntry> mergeEntries;
  int partsSeen = 0;
};

} // namespace

Result<TokenizerDocument> parseTokenizerJson(std::string_view json) {
  DocumentBuilder builder;
  RETORT_RETURN_IF_ERROR(builder.parse(json));
  if (Status status = builder.vocabulary.finish(); !status)
    return std::move(status).withContext("model.vocab");
  TokenizerDocument document;
  // Whoever interprets the document says so if there is no vocabulary.
  if (builder.hasVocabulary) {
    auto merges = builder.merges();
    if (!merges)
      return merges.takeStatus().withContext("model");
    document.merges = std::move(*merges);
  }
  document.root = std::move(builder.root());
  document.vocabulary = std::move(builder.vocabulary);
  return document;
}

} // namespace retort::text
