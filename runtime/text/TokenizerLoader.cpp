//===- TokenizerLoader.cpp - A tokenizer from its document ----------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Tokenizer.h"

namespace retort::text {
namespace {

constexpr int kMaxNesting = 16;

std::string indexed(const std::string &where, size_t index) {
  return where + '[' + std::to_string(index) + ']';
}

Status unsupported(const FieldReader &fields, const char *what,
                   const std::string &type) {
  return fields.error(Code::Unsupported,
                      std::string("unsupported ") + what + " '" + type + "'");
}

} // namespace

/// Fills a Tokenizer from the document, part by part.
class TokenizerLoader {
public:
  explicit TokenizerLoader(TokenizerDocument &&document)
      : document(std::move(document)) {}

  Result<Tokenizer> load() {
    RETORT_ASSIGN_OR_RETURN(FieldReader fields,
                            FieldReader::create(document.root, ""));
    RETORT_RETURN_IF_ERROR(readModel(fields));
    RETORT_RETURN_IF_ERROR(readNormalizer(at("normalizer"), "normalizer", 0));
    RETORT_ASSIGN_OR_RETURN(
        tokenizer.preTokenizer,
        PreTokenizer::create(at("pre_tokenizer"), "pre_tokenizer"));
    RETORT_RETURN_IF_ERROR(readAddedTokens());
    RETORT_RETURN_IF_ERROR(
        readPostProcessor(at("post_processor"), "post_processor", 0));
    int byteLevels = 0;
    RETORT_RETURN_IF_ERROR(
        readDecoder(at("decoder"), "decoder", 0, byteLevels));
    if (byteLevels != 1)
      return Status::error(Code::Unsupported,
                           "decoder: expected one ByteLevel, found " +
                               std::to_string(byteLevels));
    return std::move(tokenizer);
  }

private:
  const Json &at(const char *name) {
    static const Json null;
    auto it = document.root.find(name);
    return it == document.root.end() ? null : *it;
  }

  Status readModel(const FieldReader &root) {
    const Json *model = root.find("model");
    if (!model)
      return root.expected("model", "an object");
    RETORT_ASSIGN_OR_RETURN(FieldReader fields,
                            FieldReader::create(*model, "model"));
    // Files of early versions leave the type out; only BPE has merges.
    RETORT_ASSIGN_OR_RETURN(std::string type, fields.string("type"));
    if (type.empty() && fields.find("merges"))
      type = "BPE";
    if (type != "BPE")
      return unsupported(fields, "model", type);
    const Json *vocab = fields.find("vocab");
    if (!vocab || !vocab->is_object())
      return fields.expected("vocab", "an object");
    RETORT_RETURN_IF_ERROR(fields.requireArray("merges"));
    if (const Json *dropout = fields.find("dropout");
        dropout && !(dropout->is_number() && dropout->get<double>() == 0))
      return fields.error(Code::Unsupported, "unsupported field 'dropout'");
    for (const char *affix :
         {"continuing_subword_prefix", "end_of_word_suffix"}) {
      RETORT_ASSIGN_OR_RETURN(std::string value, fields.string(affix));
      if (!value.empty())
        return fields.error(Code::Unsupported, std::string("unsupported ") +
                                                   affix + " '" + value + "'");
    }
    Bpe::Options options;
    RETORT_ASSIGN_OR_RETURN(options.ignoreMerges,
                            fields.boolean("ignore_merges", false));
    RETORT_ASSIGN_OR_RETURN(options.byteFallback,
                            fields.boolean("byte_fallback", false));
    RETORT_ASSIGN_OR_RETURN(options.fuseUnknown,
                            fields.boolean("fuse_unk", false));
    if (fields.find("unk_token")) {
      RETORT_ASSIGN_OR_RETURN(options.unknownToken,
                              fields.requireString("unk_token"));
    }
    auto bpe = Bpe::create(std::move(document.vocabulary), document.merges,
                           std::move(options));
    if (!bpe)
      return bpe.takeStatus().withContext("model");
    tokenizer.bpe = std::move(*bpe);
    tokenizer.idLimit = tokenizer.bpe->vocabulary().size();
    return Status::ok();
  }

  /// A normalizer, post-processor or decoder with its `type`.
  struct Component {
    FieldReader fields;
    std::string type;
  };

  /// Nothing if the component is null, i.e. absent.
  static Result<std::optional<Component>>
  openComponent(const Json &json, const std::string &where, int depth) {
    if (json.is_null())
      return std::optional<Component>();
    if (depth > kMaxNesting)
      return Status::error(Code::Unsupported,
                           where + ": sequences nested too deeply");
    RETORT_ASSIGN_OR_RETURN(FieldReader fields,
                            FieldReader::create(json, where));
    RETORT_ASSIGN_OR_RETURN(std::string type, fields.requireString("type"));
    return std::optional<Component>({std::move(fields), std::move(type)});
  }

  Status readNormalizer(const Json &json, const std::string &where, int depth) {
    RETORT_ASSIGN_OR_RETURN(auto component, openComponent(json, where, depth));
    if (!component)
      return Status::ok();
    const auto &[fields, type] = *component;
    constexpr std::pair<std::string_view, NormalForm> kForms[] = {
        {"NFC", NormalForm::NFC},
        {"NFD", NormalForm::NFD},
        {"NFKC", NormalForm::NFKC},
        {"NFKD", NormalForm::NFKD},
    };
    for (const auto &[name, form] : kForms)
      if (type == name) {
        tokenizer.normalizers.push_back(form);
        return Status::ok();
      }
    if (type != "Sequence")
      return unsupported(fields, "normalizer", type);
    RETORT_ASSIGN_OR_RETURN(const Json *list,
                            fields.requireArray("normalizers"));
    for (size_t i = 0; i < list->size(); ++i)
      RETORT_RETURN_IF_ERROR(readNormalizer(
          (*list)[i], indexed(fields.pathOf("normalizers"), i), depth + 1));
    return Status::ok();
  }

  Status readAddedTokens() {
    const Json &list = at("added_tokens");
    if (list.is_null())
      return Status::ok();
    if (!list.is_array())
      return Status::error(Code::InvalidData,
                           std::string("added_tokens: expected an array, "
                                       "found ") +
                               describeKind(list));
    for (size_t i = 0; i < list.size(); ++i)
      RETORT_RETURN_IF_ERROR(
          readAddedToken(list[i], indexed("added_tokens", i)));
    // Where a special token and another one have the same pattern, the
    // special one is found.
    for (bool special : {true, false})
      for (const AddedToken &token : tokenizer.added) {
        if (token.special != special)
          continue;
        if (!token.normalized) {
          tokenizer.rawMatcher.add(token, token.content);
          continue;
        }
        RETORT_ASSIGN_OR_RETURN(std::string pattern,
                                tokenizer.normalizeText(token.content));
        tokenizer.normalizedMatcher.add(token, pattern);
      }
    return Status::ok();
  }

  Status readAddedToken(const Json &json, const std::string &where) {
    RETORT_ASSIGN_OR_RETURN(FieldReader fields,
                            FieldReader::create(json, where));
    AddedToken token;
    RETORT_ASSIGN_OR_RETURN(token.content, fields.requireString("content"));
    const Json *id = fields.find("id");
    if (!id || !id->is_number_integer())
      return fields.expected("id", "an integer");
    int64_t value = id->is_number_unsigned() && id->get<uint64_t>() > INT64_MAX
                        ? INT64_MAX
                        : id->get<int64_t>();
    if (value < 0 || value >= kMaxTokenId)
      return fields.error(Code::InvalidData,
                          "token '" + token.content +
                              "': expected an id from 0 to " +
                              std::to_string(kMaxTokenId - 1) + ", found " +
                              std::to_string(value));
    token.id = static_cast<int32_t>(value);
    RETORT_ASSIGN_OR_RETURN(token.special, fields.boolean("special", false));
    RETORT_ASSIGN_OR_RETURN(token.normalized,
                            fields.boolean("normalized", !token.special));
    RETORT_ASSIGN_OR_RETURN(token.singleWord,
                            fields.boolean("single_word", false));
    RETORT_ASSIGN_OR_RETURN(token.stripLeft, fields.boolean("lstrip", false));
    RETORT_ASSIGN_OR_RETURN(token.stripRight, fields.boolean("rstrip", false));

    std::optional<std::string_view> sameId = tokenizer.idToToken(token.id);
    if (sameId && *sameId != token.content)
      return fields.error(Code::InvalidData,
                          "token '" + token.content + "': id " +
                              std::to_string(token.id) + " belongs to token '" +
                              std::string(*sameId) + "' already");
    int32_t sameContent = tokenizer.tokenToId(token.content);
    if (sameContent >= 0 && sameContent != token.id)
      return fields.error(
          Code::InvalidData,
          "token '" + token.content + "': expected one id, found " +
              std::to_string(sameContent) + " and " + std::to_string(token.id));
    if (tokenizer.addedById.count(token.id))
      return fields.error(Code::InvalidData,
                          "token '" + token.content + "' is listed twice");
    tokenizer.addedById[token.id] = tokenizer.added.size();
    tokenizer.addedByContent[token.content] = token.id;
    tokenizer.idLimit =
        std::max(tokenizer.idLimit, static_cast<size_t>(token.id) + 1);
    tokenizer.added.push_back(std::move(token));
    return Status::ok();
  }

  Status readPostProcessor(const Json &json, const std::string &where,
                           int depth) {
    RETORT_ASSIGN_OR_RETURN(auto component, openComponent(json, where, depth));
    if (!component)
      return Status::ok();
    const auto &[fields, type] = *component;
    if (type == "ByteLevel")
      return Status::ok(); // changes offsets alone
    if (type == "TemplateProcessing")
      return readTemplate(fields);
    if (type != "Sequence")
      return unsupported(fields, "post-processor", type);
    RETORT_ASSIGN_OR_RETURN(const Json *list,
                            fields.requireArray("processors"));
    for (size_t i = 0; i < list->size(); ++i)
      RETORT_RETURN_IF_ERROR(readPostProcessor(
          (*list)[i], indexed(fields.pathOf("processors"), i), depth + 1));
    return Status::ok();
  }

  Status readTemplate(const FieldReader &fields) {
    // A list of sequences in sequences would grow without bound.
    constexpr size_t kMaxTemplates = 8, kMaxParts = 64;
    RETORT_ASSIGN_OR_RETURN(const Json *single, fields.requireArray("single"));
    std::string path = fields.pathOf("single");
    std::vector<Tokenizer::TemplatePart> parts;
    size_t sequences = 0;
    for (size_t i = 0; i < single->size(); ++i) {
      const Json &entry = (*single)[i];
      std::string where = indexed(path, i);
      if (!entry.is_object() || entry.size() != 1)
        return Status::error(Code::InvalidData,
                             where +
                                 ": expected an object with Sequence or "
                                 "SpecialToken, found " +
                                 describeKind(entry));
      std::string kind = entry.begin().key();
      RETORT_ASSIGN_OR_RETURN(
          FieldReader part,
          FieldReader::create(*entry.begin(), where + '.' + kind));
      RETORT_ASSIGN_OR_RETURN(std::string id, part.requireString("id"));
      Tokenizer::TemplatePart out;
      if (kind == "Sequence") {
        if (id != "A")
          return part.error(Code::InvalidData,
                            "expected sequence 'A', found '" + id + "'");
        out.isSequence = true;
        ++sequences;
      } else if (kind == "SpecialToken") {
        RETORT_RETURN_IF_ERROR(readTemplateToken(fields, id, out.ids));
      } else {
        return Status::error(Code::Unsupported,
                             where + ": unsupported part '" + kind + "'");
      }
      parts.push_back(std::move(out));
    }
    if (sequences != 1 || parts.size() > kMaxParts ||
        tokenizer.templates.size() >= kMaxTemplates)
      return Status::error(Code::Unsupported,
                           path + ": expected sequence 'A' once, found it " +
                               std::to_string(sequences) + " times in " +
                               std::to_string(parts.size()) + " parts");
    tokenizer.templates.push_back(std::move(parts));
    return Status::ok();
  }

  Status readTemplateToken(const FieldReader &fields, const std::string &id,
                           std::vector<int32_t> &ids) {
    const Json *table = fields.find("special_tokens");
    if (!table || !table->is_object())
      return fields.expected("special_tokens", "an object");
    std::string where = fields.pathOf("special_tokens");
    auto it = table->find(id);
    if (it == table->end())
      return Status::error(Code::InvalidData,
                           where + ": token '" + id + "' is missing");
    RETORT_ASSIGN_OR_RETURN(FieldReader token,
                            FieldReader::create(*it, where + '.' + id));
    RETORT_ASSIGN_OR_RETURN(const Json *list, token.requireArray("ids"));
    for (const Json &value : *list) {
      if (!value.is_number_integer() || value < 0 || value >= kMaxTokenId ||
          !tokenizer.idToToken(value.get<int32_t>()))
        return Status::error(
            Code::InvalidData,
            token.pathOf("ids") + ": expected ids of tokens, found " +
                value.dump(-1, ' ', true, Json::error_handler_t::replace));
      ids.push_back(value.get<int32_t>());
    }
    return Status::ok();
  }

  Status readDecoder(const Json &json, const std::string &where, int depth,
                     int &byteLevels) {
    RETORT_ASSIGN_OR_RETURN(auto component, openComponent(json, where, depth));
    if (!component)
      return Status::ok();
    const auto &[fields, type] = *component;
    if (type == "ByteLevel") {
      ++byteLevels;
      return Status::ok();
    }
    if (type == "Fuse")
      return Status::ok(); // joins strings, which decoding does at any rate
    if (type != "Sequence")
      return unsupported(fields, "decoder", type);
    RETORT_ASSIGN_OR_RETURN(const Json *list, fields.requireArray("decoders"));
    for (size_t i = 0; i < list->size(); ++i)
      RETORT_RETURN_IF_ERROR(readDecoder((*list)[i],
                                         indexed(fields.pathOf("decoders"), i),
                                         depth + 1, byteLevels));
    return Status::ok();
  }

  TokenizerDocument document;
  Tokenizer tokenizer;
};

Result<Tokenizer> Tokenizer::create(TokenizerDocument document) {
  return TokenizerLoader(std::move(document)).load();
}

Result<Tokenizer> Tokenizer::create(std::string_view json) {
  RETORT_ASSIGN_OR_RETURN(TokenizerDocument document, parseTokenizerJson(json));
  return create(std::move(document));
}

} // namespace retort::text
