//===- RegexSyntax.cpp - From Oniguruma to PCRE2 --------------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/text/Regex.h"

#include "runtime/text/Unicode.h"

#include <algorithm>
#include <array>
#include <pcre2.h>

namespace retort::text {
namespace {

constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-"
    "\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}";
constexpr std::string_view kWord =
    "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
constexpr std::string_view kAlpha = "\\p{L}\\p{Nl}\\p{Alphabetic}";
constexpr std::string_view kHex = "0-9A-Fa-f";

constexpr int kMaxNesting = 100;

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isAlpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// General categories by their long names; the short names pass as they are.
struct LongName {
  std::string_view name, category;
};
constexpr std::array<LongName, 21> kLongNames = {{
    {"letter", "L"},
    {"lowercaseletter", "Ll"},
    {"uppercaseletter", "Lu"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"separator", "Z"},
    {"control", "Cc"},
    {"other", "C"},
}};

std::string foldName(std::string_view name) {
  std::string out;
  for (char c : name)
    if (c != '_' && c != ' ' && c != '-')
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

/// Asks PCRE2, whose table of scripts is the one that will be used.
bool isScript(const std::string &name) {
  std::string pattern = "\\p{sc:" + name + '}';
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                    pattern.size(), PCRE2_UTF, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Translator {
public:
  explicit Translator(std::string_view pattern) : in(pattern) {}

  Result<std::string> run() {
    while (pos < in.size())
      RETORT_RETURN_IF_ERROR(item());
    if (!groups.empty())
      return bad("a group that is not closed");
    return std::move(out);
  }

private:
  Status bad(const std::string &what) const {
    return Status::error(Code::Unsupported, "pattern '" + std::string(in) +
                                                "': byte offset " +
                                                std::to_string(pos) + ": " +
                                                what + " is not supported");
  }

  char peek(size_t ahead = 0) const {
    return pos + ahead < in.size() ? in[pos + ahead] : '\0';
  }

  void atom(std::string_view text) {
    lastAtom = out.size();
    out += text;
  }

  Status item() {
    char c = in[pos];
    switch (c) {
    case '\\':
      return escape();
    case '[':
      lastAtom = out.size();
      return characterClass();
    case '(':
      return openGroup();
    case ')':
      if (groups.empty())
        return bad("a ')' without its '('");
      lastAtom = groups.back();
      groups.pop_back();
      out += in[pos++];
      return Status::ok();
    case '{':
      return braces();
    case '*':
    case '+':
    case '?':
      out += in[pos++];
      if (peek() == '?' || peek() == '+')
        out += in[pos++];
      return Status::ok();
    case '|':
      out += in[pos++];
      lastAtom = out.size();
      return Status::ok();
    default: {
      size_t begin = pos;
      decodeUtf8(in, pos);
      atom(in.substr(begin, pos - begin));
      return Status::ok();
    }
    }
  }

  Status openGroup() {
    if (groups.size() >= kMaxNesting)
      return bad("nesting groups this deep");
    groups.push_back(out.size());
    lastAtom = out.size();
    out += in[pos++];
    if (peek() != '?')
      return Status::ok();
    out += in[pos++];
    for (std::string_view prefix : {":", "=", "!", ">", "<=", "<!"})
      if (in.substr(pos).starts_with(prefix)) {
        out += prefix;
        pos += prefix.size();
        lastAtom = out.size();
        return Status::ok();
      }
    if (peek() == '#') {
      size_t close = in.find(')', pos);
      if (close == std::string_view::npos)
        return bad("a comment that is not closed");
      out.resize(groups.back());
      groups.pop_back();
      pos = close + 1;
      return Status::ok();
    }
    if (peek() == '<') {
      size_t close = in.find('>', pos);
      if (close == std::string_view::npos)
        return bad("a group name that is not closed");
      out += in.substr(pos, close + 1 - pos);
      pos = close + 1;
      lastAtom = out.size();
      return Status::ok();
    }
    for (;; ++pos) {
      char c = peek();
      if (c == 'm')
        out += 's';
      else if (c == 'i' || c == 'x' || c == '-')
        out += c;
      else if (c == ':' || c == ')')
        break;
      else
        return bad("this group");
    }
    if (peek() == ')')
      return Status::ok();
    out += in[pos++];
    lastAtom = out.size();
    return Status::ok();
  }

  /// `{n}`, `{n,}`, `{,m}` and `{n,m}`; any other brace is a literal.
  Status braces() {
    size_t end = pos + 1;
    std::string low, high;
    while (end < in.size() && isDigit(in[end]))
      low += in[end++];
    bool comma = end < in.size() && in[end] == ',';
    if (comma)
      for (++end; end < in.size() && isDigit(in[end]);)
        high += in[end++];
    bool counts =
        end < in.size() && in[end] == '}' && (!low.empty() || !high.empty());
    if (!counts) {
      ++pos;
      atom("\\{");
      return Status::ok();
    }
    pos = end + 1;
    out += '{' + (low.empty() ? "0" : low) + (comma ? "," + high : "") + '}';
    if (peek() == '+' || (peek() == '?' && !comma)) {
      out.insert(lastAtom, "(?:");
      out += ')';
      out += in[pos++];
    } else if (peek() == '?') {
      out += in[pos++];
    }
    return Status::ok();
  }

  /// The members of the class that `\p{name}` stands for.
  Status property(std::string &set) {
    bool negated = in[pos] == 'P';
    ++pos;
    if (peek() != '{')
      return bad("a property without braces");
    size_t close = in.find('}', pos);
    if (close == std::string_view::npos)
      return bad("a property that is not closed");
    std::string_view name = in.substr(pos + 1, close - pos - 1);
    if (name.starts_with("^")) {
      negated = !negated;
      name.remove_prefix(1);
    }
    for (char c : name)
      if (!isAlpha(c) && !isDigit(c) && c != '_' && c != ' ' && c != '-')
        return bad("property '" + std::string(name) + "'");
    std::string folded = foldName(name);
    std::string target(name);
    if (folded == "space" || folded == "whitespace") {
      set += negated ? kNotSpace : kSpace;
      pos = close + 1;
      return Status::ok();
    }
    for (const LongName &known : kLongNames)
      if (folded == known.name)
        target = known.category;
    if (folded == "digit")
      target = "Nd";
    else if (folded == "alpha")
      target = "Alphabetic";
    else if (folded == "upper")
      target = "Uppercase";
    else if (folded == "lower")
      target = "Lowercase";
    std::string property = negated ? "\\P{" : "\\p{";
    // Names of one or two letters are general categories. Of the longer ones
    // those that name a script mean Script, where PCRE2 would take
    // Script_Extensions.
    bool script = target.size() > 2 && isScript(target);
    set += property + (script ? "sc:" : "") + target + '}';
    pos = close + 1;
    return Status::ok();
  }

  /// A class escape as members of a bracket; false if `\c` is none.
  Result<bool> classEscape(std::string &set, bool inBracket) {
    switch (in[pos]) {
    case 's':
      set += kSpace;
      break;
    case 'S':
      set += kNotSpace;
      break;
    case 'd':
      set += "\\p{Nd}";
      break;
    case 'D':
      set += "\\P{Nd}";
      break;
    case 'w':
      set += kWord;
      break;
    case 'h':
      set += kHex;
      break;
    case 'W':
    case 'H':
      if (inBracket)
        return bad(std::string("'\\") + in[pos] + "' inside brackets");
      set += '^';
      set += in[pos] == 'W' ? kWord : kHex;
      break;
    case 'p':
    case 'P':
      RETORT_RETURN_IF_ERROR(property(set));
      return true;
    default:
      return false;
    }
    ++pos;
    return true;
  }

  /// A character written as an escape; false if `\c` is none.
  Result<bool> characterEscape() {
    char c = in[pos];
    if (c == 'v') {
      out += "\\x{b}";
      ++pos;
      return true;
    }
    if (c == 'n' || c == 'r' || c == 't' || c == 'f' || c == 'a' || c == 'e') {
      out += {'\\', c};
      ++pos;
      return true;
    }
    if (c == 'u' || c == 'x') {
      size_t begin = pos + 1, end;
      if (c == 'x' && peek(1) == '{') {
        end = in.find('}', pos);
        if (end == std::string_view::npos)
          return bad("a code point that is not closed");
        ++begin;
        pos = end + 1;
      } else {
        end = std::min(in.size(), begin + (c == 'u' ? 4 : 2));
        pos = end;
      }
      std::string_view digits = in.substr(begin, end - begin);
      if (digits.empty() || digits.size() > 8 ||
          digits.find_first_not_of("0123456789abcdefABCDEF") !=
              std::string_view::npos)
        return bad("code point '" + std::string(digits) + "'");
      out += "\\x{" + std::string(digits) + '}';
      return true;
    }
    if (isAlpha(c) || isDigit(c))
      return false;
    size_t begin = pos;
    decodeUtf8(in, pos);
    if (static_cast<uint8_t>(c) < 0x80)
      out += '\\';
    out += in.substr(begin, pos - begin);
    return true;
  }

  Status escape() {
    ++pos;
    if (pos == in.size())
      return bad("a backslash at the end");
    lastAtom = out.size();
    std::string set;
    RETORT_ASSIGN_OR_RETURN(bool isClass, classEscape(set, false));
    if (isClass) {
      out += '[' + set + ']';
      return Status::ok();
    }
    RETORT_ASSIGN_OR_RETURN(bool isCharacter, characterEscape());
    if (isCharacter)
      return Status::ok();
    char c = in[pos];
    std::string word = '[' + std::string(kWord) + ']';
    switch (c) {
    case 'b':
      out += "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word +
             ")(?=" + word + "))";
      break;
    case 'B':
      out += "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" +
             word + "))";
      break;
    case 'A':
    case 'z':
    case 'Z':
    case 'G':
    case 'X':
    case 'R':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
      out += {'\\', c};
      break;
    default:
      return bad(std::string("'\\") + c + "'");
    }
    ++pos;
    return Status::ok();
  }

  /// `[:name:]`, as members of a bracket.
  Status posixBracket() {
    size_t close = in.find(":]", pos);
    if (close == std::string_view::npos)
      return bad("a POSIX bracket that is not closed");
    std::string_view name = in.substr(pos + 2, close - pos - 2);
    if (name == "alpha")
      out += kAlpha;
    else if (name == "digit")
      out += "\\p{Nd}";
    else if (name == "alnum")
      (out += kAlpha) += "\\p{Nd}";
    else if (name == "space")
      out += kSpace;
    else if (name == "upper")
      out += "\\p{Uppercase}";
    else if (name == "lower")
      out += "\\p{Lowercase}";
    else if (name == "punct")
      out += "\\p{P}$+<=>^`|~";
    else if (name == "cntrl")
      out += "\\p{Cc}";
    else if (name == "word")
      out += kWord;
    else if (name == "xdigit")
      out += kHex;
    else if (name == "blank")
      out += "\\t\\p{Zs}";
    else
      return bad("POSIX bracket '" + std::string(name) + "'");
    pos = close + 2;
    return Status::ok();
  }

  Status characterClass() {
    out += in[pos++];
    if (peek() == '^')
      out += in[pos++];
    return classMembers(1);
  }

  /// The members up to and with the closing bracket. A bracket inside is a
  /// union, whose members belong to the outer class as well.
  Status classMembers(int depth) {
    if (depth > kMaxNesting)
      return bad("nesting brackets this deep");
    for (bool first = true;; first = false) {
      if (pos >= in.size())
        return bad("a bracket that is not closed");
      char c = in[pos];
      if (c == ']' && !first) {
        ++pos;
        if (depth == 1)
          out += ']';
        return Status::ok();
      }
      if (c == ']') {
        out += "\\]";
        ++pos;
      } else if (c == '[' && peek(1) == ':') {
        RETORT_RETURN_IF_ERROR(posixBracket());
      } else if (c == '[') {
        ++pos;
        if (peek() == '^')
          return bad("a negated bracket inside brackets");
        RETORT_RETURN_IF_ERROR(classMembers(depth + 1));
      } else if (c == '&' && peek(1) == '&') {
        return bad("'&&' inside brackets");
      } else if (c == '\\') {
        ++pos;
        if (pos == in.size())
          return bad("a backslash at the end");
        std::string set;
        RETORT_ASSIGN_OR_RETURN(bool isClass, classEscape(set, true));
        out += set;
        if (isClass)
          continue;
        RETORT_ASSIGN_OR_RETURN(bool isCharacter, characterEscape());
        if (isCharacter)
          continue;
        if (in[pos] != 'b')
          return bad(std::string("'\\") + in[pos] + "' inside brackets");
        out += "\\x{8}";
        ++pos;
      } else {
        size_t begin = pos;
        decodeUtf8(in, pos);
        out += in.substr(begin, pos - begin);
      }
    }
  }

  std::string_view in;
  size_t pos = 0;
  std::string out;
  size_t lastAtom = 0;        ///< where the last atom begins in `out`
  std::vector<size_t> groups; ///< where each open group begins in `out`
};

} // namespace

Result<std::string> translateOniguruma(std::string_view pattern) {
  RETORT_RETURN_IF_ERROR(validateUtf8(pattern, "pattern"));
  return Translator(pattern).run();
}

} // namespace retort::text
