//===- TokenizeCommand.cpp - Text to ids and back ---------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/api/ModelText.h"
#include "tools/common/Commands.h"

#include <optional>
#include <sys/stat.h>

namespace retort::tools {
namespace {

struct TokenizeOptions {
  std::string path;
  std::optional<std::string> text, jsonl;
  bool decode = false, special = false;
};

bool isDirectory(const std::string &path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

Result<ModelText> openText(const std::string &path) {
  if (isDirectory(path))
    return ModelText::readDirectory(path);
  OpenOptions options;
  options.weights = WeightCheck::Never; // they are not used
  options.allowMissingWeights = true;
  RETORT_ASSIGN_OR_RETURN(auto artifact, Artifact::open(path, options));
  RETORT_ASSIGN_OR_RETURN(ModelText text, ModelText::read(*artifact));
  if (!text.hasTokenizer())
    return Status::error(Code::NotFound,
                         path + ": was compiled without a tokenizer");
  return text;
}

Status answerLines(const ModelText &model, const std::string &path) {
  RETORT_ASSIGN_OR_RETURN(std::string input, readInput(path));
  std::string_view rest = input;
  while (!rest.empty()) {
    size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos)
      continue;
    RETORT_ASSIGN_OR_RETURN(std::string answer, model.answerLine(line));
    RETORT_RETURN_IF_ERROR(writeOut(answer + "\n"));
  }
  return Status::ok();
}

Status tokenizeText(const TokenizeOptions &o) {
  if (o.jsonl && (o.text || o.decode || o.special))
    throw UsageError("--jsonl excludes TEXT, --decode and --special");
  RETORT_ASSIGN_OR_RETURN(ModelText model, openText(o.path));
  if (o.jsonl)
    return answerLines(model, *o.jsonl);
  std::string input = o.text.value_or("");
  if (!o.text) {
    RETORT_ASSIGN_OR_RETURN(input, readInput("-"));
  }
  if (o.decode) {
    RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, parseIds(input));
    RETORT_ASSIGN_OR_RETURN(std::string text, model.decode(ids, !o.special));
    return writeOut(text + "\n");
  }
  RETORT_RETURN_IF_ERROR(checkUtf8("text", input));
  RETORT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                          model.encode(input, o.special));
  return writeOut(formatIds(ids) + "\n");
}

} // namespace

Action addTokenizeCommand(CLI::App &command) {
  auto o = std::make_shared<TokenizeOptions>();
  command.add_option("PATH", o->path, "Checkpoint directory or compiled model")
      ->required();
  command.add_option("TEXT", o->text,
                     "Text, or ids with --decode; default: standard input");
  command.add_flag("--decode", o->decode, "Turn ids into text");
  command.add_flag("--special", o->special,
                   "Add special tokens to ids; show them in text");
  command.add_option("--jsonl", o->jsonl,
                     "Answer a file of JSON lines; -: standard input");
  return [o] { return tokenizeText(*o); };
}

} // namespace retort::tools
