//===- TemplateLexer.cpp - Template tokens --------------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/TemplateAst.h"
#include "runtime/text/Unicode.h"

#include <charconv>

namespace retort::text::jinja {
namespace {

constexpr size_t kMaxTokens = 1 << 20;

bool isNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool isDigit(char c) { return c >= '0' && c <= '9'; }

/// All line ends become line feeds and one at the very end is dropped.
std::string unifyLines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n')
      ++i;
  }
  if (out.ends_with('\n'))
    out.pop_back();
  return out;
}

class Lexer {
public:
  explicit Lexer(std::string source) : owned(std::move(source)), in(owned) {}

  Result<std::vector<Token>> run() {
    while (pos < in.size()) {
      RETORT_RETURN_IF_ERROR(textUpToTag());
      if (pos < in.size())
        RETORT_RETURN_IF_ERROR(tag());
      if (tokens.size() > kMaxTokens)
        return bad("the template is too long");
    }
    emit(Token::End);
    return std::move(tokens);
  }

private:
  Status bad(const std::string &message) const {
    return Status::error(Code::InvalidData,
                         "line " + std::to_string(line) + ": " + message);
  }

  bool startsWith(std::string_view text) const {
    return in.substr(pos).starts_with(text);
  }
  char peek(size_t ahead = 0) const {
    return pos + ahead < in.size() ? in[pos + ahead] : '\0';
  }
  void advance(size_t n) {
    for (size_t i = 0; i < n; ++i)
      line += in[pos + i] == '\n';
    pos += n;
  }
  Token &emit(Token::Kind kind, std::string text = {}) {
    Token token;
    token.kind = kind;
    token.text = std::move(text);
    token.line = line;
    tokens.push_back(std::move(token));
    return tokens.back();
  }

  void skipSpace() {
    for (size_t next = pos; pos < in.size();) {
      if (!isWhitespace(decodeUtf8(in, next)))
        return;
      advance(next - pos);
    }
  }

  /// What is left of the text before a tag: `-` strips white space and lines,
  /// a block or comment that is first in its line strips the indentation.
  std::string_view strippedLeft(std::string_view text, char sign,
                                bool isPrint) const {
    if (sign == '-') {
      size_t end = text.size();
      while (end > 0) {
        size_t before = end;
        if (!isWhitespace(decodeUtf8Backwards(text, before)))
          break;
        end = before;
      }
      return text.substr(0, end);
    }
    if (sign == '+' || isPrint)
      return text;
    size_t lineStart = text.rfind('\n');
    lineStart = lineStart == std::string_view::npos ? 0 : lineStart + 1;
    if (lineStart == 0 && !atLineStart)
      return text;
    for (size_t i = lineStart; i < text.size();)
      if (!isWhitespace(decodeUtf8(text, i)))
        return text;
    return text.substr(0, lineStart);
  }

  Status textUpToTag() {
    size_t begin = pos, at = pos;
    for (;; ++at) {
      at = in.find('{', at);
      if (at == std::string_view::npos || at + 1 >= in.size()) {
        at = in.size();
        break;
      }
      if (in[at + 1] == '{' || in[at + 1] == '%' || in[at + 1] == '#')
        break;
    }
    std::string_view text = in.substr(begin, at - begin);
    if (at < in.size())
      text = strippedLeft(text, at + 2 < in.size() ? in[at + 2] : '\0',
                          in[at + 1] == '{');
    if (!text.empty())
      emit(Token::Text, std::string(text));
    advance(at - begin);
    return Status::ok();
  }

  /// Passes the end of a tag. `trims` says that a line feed behind it goes.
  void finishTag(size_t length, bool strips, bool trims) {
    advance(length);
    size_t before = pos;
    if (strips)
      skipSpace();
    else if (trims && peek() == '\n')
      advance(1);
    atLineStart = pos > before && in[pos - 1] == '\n';
  }

  Status tag() {
    if (startsWith("{#"))
      return comment();
    bool isPrint = startsWith("{{");
    if (!isPrint && isRaw())
      return raw();
    emit(isPrint ? Token::PrintBegin : Token::BlockBegin);
    advance(2);
    if (peek() == '-' || (peek() == '+' && !isPrint))
      advance(1);
    std::string_view close = isPrint ? "}}" : "%}";
    std::string brackets;
    for (;;) {
      skipSpace();
      if (pos >= in.size())
        return bad(std::string("expected '") + std::string(close) +
                   "', found the end of the template");
      if (brackets.empty()) {
        bool strips = peek() == '-' && in.substr(pos + 1).starts_with(close);
        bool keeps =
            !isPrint && peek() == '+' && in.substr(pos + 1).starts_with(close);
        if (strips || keeps || startsWith(close)) {
          emit(isPrint ? Token::PrintEnd : Token::BlockEnd);
          finishTag(strips || keeps ? 3 : 2, strips, !isPrint && !keeps);
          return Status::ok();
        }
      }
      RETORT_RETURN_IF_ERROR(expressionToken(brackets));
      if (tokens.size() > kMaxTokens)
        return bad("the template is too long");
    }
  }

  Status comment() {
    size_t end = in.find("#}", pos + 2);
    if (end == std::string_view::npos)
      return bad("a comment is not closed");
    char sign = end > pos + 2 ? in[end - 1] : '\0';
    advance(end - pos);
    finishTag(2, sign == '-', sign != '+');
    return Status::ok();
  }

  /// The length of `{% name %}` at `at`, or 0. Reports the sign at its end.
  size_t simpleTag(size_t at, std::string_view name, char &endSign) const {
    size_t begin = at;
    auto skip = [&] {
      while (at < in.size() && (in[at] == ' ' || (in[at] >= 9 && in[at] <= 13)))
        ++at;
    };
    if (!in.substr(at).starts_with("{%"))
      return 0;
    at += 2;
    if (at < in.size() && (in[at] == '-' || in[at] == '+'))
      ++at;
    skip();
    if (!in.substr(at).starts_with(name))
      return 0;
    at += name.size();
    skip();
    endSign = '\0';
    if (at < in.size() && (in[at] == '-' || in[at] == '+'))
      endSign = in[at++];
    return in.substr(at).starts_with("%}") ? at + 2 - begin : 0;
  }

  bool isRaw() const {
    char sign;
    return simpleTag(pos, "raw", sign) != 0;
  }

  Status raw() {
    char sign = '\0';
    finishTag(simpleTag(pos, "raw", sign), sign == '-', false);
    size_t begin = pos;
    for (size_t at = pos;; ++at) {
      at = in.find("{%", at);
      if (at == std::string_view::npos)
        return bad("expected 'endraw', found the end of the template");
      size_t length = simpleTag(at, "endraw", sign);
      if (length == 0)
        continue;
      std::string_view text =
          strippedLeft(in.substr(begin, at - begin), in[at + 2], false);
      if (!text.empty())
        emit(Token::Text, std::string(text));
      advance(at - begin);
      finishTag(length, sign == '-', sign != '+');
      return Status::ok();
    }
  }

  Status expressionToken(std::string &brackets) {
    char c = peek();
    if (isNameStart(c)) {
      size_t end = pos;
      while (end < in.size() && (isNameStart(in[end]) || isDigit(in[end])))
        ++end;
      emit(Token::Name, std::string(in.substr(pos, end - pos)));
      pos = end;
      return Status::ok();
    }
    if (isDigit(c))
      return number();
    if (c == '\'' || c == '"')
      return string(c);
    for (std::string_view op : {"**", "//", "==", "!=", ">=", "<="})
      if (startsWith(op)) {
        emit(Token::Operator, std::string(op));
        advance(2);
        return Status::ok();
      }
    if (std::string_view("+-*/%~()[]{}<>=.:|,;").find(c) ==
        std::string_view::npos)
      return bad(std::string("unexpected character '") + c + "'");
    if (c == '(' || c == '[' || c == '{')
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c)
        return bad(std::string("unexpected '") + c + "'");
      brackets.pop_back();
    }
    emit(Token::Operator, std::string(1, c));
    advance(1);
    return Status::ok();
  }

  Status number() {
    int base = 10;
    if (peek() == '0') {
      char kind = static_cast<char>(peek(1) | 32);
      base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    }
    std::string digits;
    auto take = [&](auto accepts) {
      while (accepts(peek()) || (peek() == '_' && accepts(peek(1)))) {
        if (peek() != '_')
          digits += peek();
        ++pos;
      }
    };
    if (base != 10) {
      pos += 2;
      take([](char c) {
        return isDigit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f');
      });
      return integer(digits, base);
    }
    take(isDigit);
    bool isFloat = false;
    if (peek() == '.' && isDigit(peek(1))) {
      isFloat = true;
      digits += '.';
      ++pos;
      take(isDigit);
    }
    size_t sign = peek(1) == '+' || peek(1) == '-';
    if ((peek() | 32) == 'e' && isDigit(peek(1 + sign))) {
      isFloat = true;
      digits += 'e';
      if (sign)
        digits += peek(1);
      pos += 1 + sign;
      take(isDigit);
    }
    if (!isFloat)
      return integer(digits, 10);
    double value = 0;
    auto rc =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (rc.ec != std::errc())
      return bad("number '" + digits + "' is out of range");
    emit(Token::Float).number = value;
    return Status::ok();
  }

  Status integer(const std::string &digits, int base) {
    int64_t value = 0;
    auto rc = std::from_chars(digits.data(), digits.data() + digits.size(),
                              value, base);
    if (rc.ec != std::errc() || rc.ptr != digits.data() + digits.size())
      return bad("number '" + digits + "' is out of range");
    emit(Token::Integer, digits).integer = value;
    return Status::ok();
  }

  Status hexEscape(size_t digits, std::string &out) {
    uint32_t value = 0;
    const char *begin = in.data() + pos + 2;
    if (pos + 2 + digits > in.size())
      return bad("a string is not closed");
    auto rc = std::from_chars(begin, begin + digits, value, 16);
    if (rc.ptr != begin + digits || value > 0x10FFFF ||
        (value >= 0xD800 && value < 0xE000))
      return bad("'\\" + std::string(in.substr(pos + 1, digits + 1)) +
                 "' is no character");
    appendUtf8(out, value);
    advance(2 + digits);
    return Status::ok();
  }

  Status escape(std::string &out) {
    char c = peek(1);
    constexpr std::string_view kFrom = "\\'\"abfnrtv";
    constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    if (size_t i = kFrom.find(c); i != std::string_view::npos && c) {
      out += kTo[i];
      advance(2);
    } else if (c == '\n') {
      advance(2);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return hexEscape(c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    } else if (c >= '0' && c <= '7') {
      uint32_t value = 0;
      size_t n = 1;
      for (; n <= 3 && peek(n) >= '0' && peek(n) <= '7'; ++n)
        value = value * 8 + static_cast<uint32_t>(peek(n) - '0');
      appendUtf8(out, value);
      advance(n);
    } else if (c == 'N') {
      return bad("'\\N' is not supported");
    } else {
      out += '\\';
      advance(1);
    }
    return Status::ok();
  }

  Status string(char quote) {
    std::string out;
    int startLine = line;
    advance(1);
    while (pos < in.size() && in[pos] != quote) {
      if (in[pos] == '\\' && pos + 1 < in.size()) {
        RETORT_RETURN_IF_ERROR(escape(out));
      } else {
        out += in[pos];
        advance(1);
      }
    }
    if (pos >= in.size())
      return bad("a string is not closed");
    advance(1);
    emit(Token::String, std::move(out)).line = startLine;
    return Status::ok();
  }

  std::string owned;
  std::string_view in;
  size_t pos = 0;
  int line = 1;
  bool atLineStart = true; ///< nothing but tags stands before in this line
  std::vector<Token> tokens;
};

} // namespace

std::string describe(const Token &token) {
  switch (token.kind) {
  case Token::End:
    return "the end of the template";
  case Token::Text:
    return "text";
  case Token::PrintBegin:
    return "'{{'";
  case Token::PrintEnd:
    return "'}}'";
  case Token::BlockBegin:
    return "'{%'";
  case Token::BlockEnd:
    return "'%}'";
  case Token::String:
    return "a string";
  case Token::Integer:
  case Token::Float:
    return "a number";
  default:
    return "'" + token.text + "'";
  }
}

Result<std::vector<Token>> tokenizeTemplate(std::string_view source) {
  RETORT_RETURN_IF_ERROR(validateUtf8(source, "chat template"));
  return Lexer(unifyLines(source)).run();
}

} // namespace retort::text::jinja
