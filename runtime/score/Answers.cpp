//===- Answers.cpp - Final answers and when they are right ------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/score/Answers.h"

#include <cctype>
#include <cstdint>
#include <vector>

namespace retort::score {
namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool isSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' ||
         c == '\v';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && isSpace(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && isSpace(text.back()))
    text.remove_suffix(1);
  return text;
}

/// The index behind the bracket that closes the one at `open`; npos if none
/// does. A backslash takes a bracket's meaning.
size_t closing(std::string_view text, size_t open, char left, char right) {
  size_t depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == left) {
      ++depth;
    } else if (text[i] == right && --depth == 0) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

/// Replaces every occurrence.
void replaceAll(std::string &text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
       at += to.size())
    text.replace(at, from.size(), to);
}

/// Replaces a command that isn't the beginning of a longer one.
void replaceCommand(std::string &text, std::string_view command,
                    std::string_view to) {
  for (size_t at = 0; (at = text.find(command, at)) != std::string::npos;) {
    size_t end = at + command.size();
    if (end < text.size() && isLetter(text[end])) {
      at = end;
      continue;
    }
    text.replace(at, command.size(), to);
    at += to.size();
  }
}

/// Length of the number at text[at], 0 if there is none: digits with
/// thousands separators, then a decimal part.
size_t numberLength(std::string_view text, size_t at) {
  size_t i = at;
  while (i < text.size() && isDigit(text[i]))
    ++i;
  size_t lead = i - at;
  auto isGroup = [&](size_t comma) {
    if (comma + 3 >= text.size() || text[comma] != ',')
      return false;
    for (size_t k = 1; k <= 3; ++k)
      if (!isDigit(text[comma + k]))
        return false;
    return comma + 4 >= text.size() || !isDigit(text[comma + 4]);
  };
  if (lead >= 1 && lead <= 3)
    while (isGroup(i))
      i += 4;
  if (i + 1 < text.size() && text[i] == '.' && isDigit(text[i + 1])) {
    ++i;
    while (i < text.size() && isDigit(text[i]))
      ++i;
  }
  return i - at;
}

/// An exact fraction in lowest terms, the denominator positive.
struct Rational {
  int64_t top = 0, bottom = 1;
  bool operator==(const Rational &) const = default;
};

std::optional<Rational> makeRational(__int128 top, __int128 bottom) {
  if (bottom == 0)
    return std::nullopt;
  if (bottom < 0) {
    top = -top;
    bottom = -bottom;
  }
  __int128 a = top < 0 ? -top : top, b = bottom;
  while (b != 0) {
    __int128 rest = a % b;
    a = b;
    b = rest;
  }
  if (a > 1) {
    top /= a;
    bottom /= a;
  }
  if (top > INT64_MAX || top < -INT64_MAX || bottom > INT64_MAX)
    return std::nullopt;
  return Rational{static_cast<int64_t>(top), static_cast<int64_t>(bottom)};
}

/// Digits, separators and a decimal part, without a sign, all of `text`.
std::optional<Rational> parseDecimal(std::string_view text) {
  if (text.empty() || numberLength(text, 0) != text.size())
    return std::nullopt;
  __int128 top = 0, bottom = 1;
  bool decimals = false;
  for (char c : text) {
    if (c == '.') {
      decimals = true;
      continue;
    }
    if (c == ',')
      continue;
    top = top * 10 + (c - '0');
    if (decimals)
      bottom *= 10;
    constexpr __int128 kLimit = __int128(1) << 100;
    if (top > kLimit || bottom > kLimit)
      return std::nullopt;
  }
  return makeRational(top, bottom);
}

/// Without a sign: a decimal number, a fraction, a mixed number.
std::optional<Rational> parseUnsigned(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos)
    return parseDecimal(trim(text));
  std::string_view front = trim(text.substr(0, slash));
  auto bottom = parseDecimal(trim(text.substr(slash + 1)));
  // "3 1/2": the whole part stands before a blank.
  Rational whole;
  if (size_t blank = front.find(' '); blank != std::string_view::npos) {
    auto parsed = parseDecimal(front.substr(0, blank));
    if (!parsed)
      return std::nullopt;
    whole = *parsed;
    front = trim(front.substr(blank));
  }
  auto top = parseDecimal(front);
  if (!top || !bottom || bottom->top == 0)
    return std::nullopt;
  auto part = makeRational(__int128(top->top) * bottom->bottom,
                           __int128(top->bottom) * bottom->top);
  if (!part || whole.top == 0)
    return part;
  // Both products are below 2^126.
  return makeRational(__int128(whole.top) * part->bottom +
                          __int128(part->top) * whole.bottom,
                      __int128(whole.bottom) * part->bottom);
}

std::optional<Rational> parseNumber(std::string_view text) {
  text = trim(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text = trim(text.substr(1));
  }
  auto value = parseUnsigned(text);
  if (value && negative)
    value->top = -value->top;
  return value;
}

/// Reads the argument of a command at text[at]: a group in braces, or one
/// character. Moves `at` behind it.
std::optional<std::string> takeArgument(std::string_view text, size_t &at) {
  while (at < text.size() && isSpace(text[at]))
    ++at;
  if (at >= text.size())
    return std::nullopt;
  if (text[at] == '{') {
    size_t end = closing(text, at, '{', '}');
    if (end == std::string_view::npos)
      return std::nullopt;
    std::string inner(text.substr(at + 1, end - at - 2));
    at = end;
    return inner;
  }
  if (text[at] == '\\' || text[at] == '}')
    return std::nullopt;
  return std::string(1, text[at++]);
}

/// "\frac{a}{b}" and "\frac12" become a/b, in parentheses unless they are
/// plain numbers or letters; "2\frac12" becomes "2 1/2".
std::string flattenFractions(std::string text) {
  constexpr std::string_view kFrac = "\\frac";
  // From the end, so that inner fractions are gone when outer ones are read.
  size_t at = text.size();
  while ((at = text.rfind(kFrac, at)) != std::string::npos) {
    size_t end = at + kFrac.size();
    auto top = takeArgument(text, end);
    auto bottom = top ? takeArgument(text, end) : std::nullopt;
    if (bottom) {
      auto wrap = [](std::string part) {
        part = std::string(trim(part));
        for (size_t i = 0; i < part.size(); ++i)
          if (!isDigit(part[i]) && !isLetter(part[i]) && part[i] != '.' &&
              part[i] != ',' && !(part[i] == '-' && i == 0))
            return "(" + part + ")";
        return part;
      };
      std::string flat = wrap(*top) + "/" + wrap(*bottom);
      if (at > 0 && isDigit(text[at - 1]))
        flat = " " + flat;
      text.replace(at, end - at, flat);
    }
    if (at == 0)
      break;
    --at;
  }
  return text;
}

/// Takes away a command around text, leaving what is in its braces.
void unwrapCommand(std::string &text, std::string_view command) {
  for (size_t at = 0; (at = text.find(command, at)) != std::string::npos;) {
    size_t open = at + command.size();
    if (open >= text.size() || text[open] != '{') {
      at = open;
      continue;
    }
    size_t end = closing(text, open, '{', '}');
    if (end == std::string::npos)
      return;
    // A blank keeps "5\text{cm}" from becoming one word.
    text = text.substr(0, at) + " " + text.substr(open + 1, end - open - 2) +
           text.substr(end);
  }
}

/// Without what only decides how an answer looks.
std::string stripLayout(std::string_view answer) {
  std::string text(trim(answer));
  // A thin space between digits separates thousands.
  for (size_t at = 1; (at = text.find("\\,", at)) != std::string::npos;) {
    if (isDigit(text[at - 1]) && at + 2 < text.size() && isDigit(text[at + 2]))
      text.erase(at, 2);
    else
      ++at;
  }
  for (const char *space : {"\\!", "\\,", "\\;", "\\:", "\\ ", "~"})
    replaceAll(text, space, space == std::string_view("\\!") ? "" : " ");
  replaceAll(text, "{,}", ",");
  replaceAll(text, "\\$", "");
  replaceAll(text, "$", "");
  replaceAll(text, "\\(", "");
  replaceAll(text, "\\)", "");
  replaceAll(text, "\\[", "");
  replaceAll(text, "\\]", "");
  replaceAll(text, "\\%", "");
  replaceAll(text, "%", "");
  replaceAll(text, "\\{", "{");
  replaceAll(text, "\\}", "}");
  for (const char *degree : {"^{\\circ}", "^\\circ", "°"})
    replaceAll(text, degree, "");
  replaceAll(text, "−", "-");
  for (const char *gone :
       {"\\left", "\\right", "\\displaystyle", "\\quad", "\\qquad", "\\limits"})
    replaceCommand(text, gone, "");
  for (const char *frac : {"\\dfrac", "\\tfrac", "\\cfrac"})
    replaceCommand(text, frac, "\\frac");
  // "\frac12" has a digit behind it, which replaceCommand allows.
  for (const char *times : {"\\times", "\\cdot"})
    replaceCommand(text, times, "*");
  for (const char *wrap :
       {"\\text", "\\textbf", "\\textit", "\\textrm", "\\mathrm", "\\mathbf",
        "\\mbox", "\\boxed", "\\operatorname"})
    unwrapCommand(text, wrap);
  text = flattenFractions(std::move(text));
  std::string_view shown = trim(text);
  while (!shown.empty() && (shown.back() == '.' || shown.back() == ','))
    shown = trim(shown.substr(0, shown.size() - 1));
  return std::string(shown);
}

/// "x = 5" -> "5": what a single letter is said to equal.
std::string_view withoutVariable(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos ||
      text.find('=', equals + 1) != std::string_view::npos)
    return text;
  std::string_view left = trim(text.substr(0, equals));
  return left.size() == 1 && isLetter(left[0]) ? trim(text.substr(equals + 1))
                                               : text;
}

/// "12 apples" -> "12": a number without the unit behind it, if that is words,
/// perhaps with a power.
std::optional<std::string_view> withoutUnit(std::string_view text) {
  size_t i = 0;
  if (i < text.size() && (text[i] == '-' || text[i] == '+'))
    ++i;
  while (i < text.size() &&
         (isDigit(text[i]) || text[i] == ',' || text[i] == '.' ||
          text[i] == '/' ||
          (text[i] == ' ' && i + 1 < text.size() && isDigit(text[i + 1]))))
    ++i;
  std::string_view number = trim(text.substr(0, i));
  std::string_view unit = trim(text.substr(i));
  if (number.empty() || unit.empty() || !isLetter(unit[0]))
    return std::nullopt;
  size_t letters = 0;
  for (size_t k = 0; k < unit.size(); ++k) {
    char c = unit[k];
    letters += isLetter(c);
    // A power may follow a unit: cm^2, cm^{2}; nothing else that calculates.
    bool isPower =
        c == '^' || c == '{' || c == '}' ||
        (isDigit(c) && k > 0 && (unit[k - 1] == '^' || unit[k - 1] == '{'));
    if (!isLetter(c) && !isSpace(c) && c != '/' && c != '.' && !isPower)
      return std::nullopt;
  }
  // One letter right behind the digits is a variable: 2x.
  if (letters < 2 && i > 0 && !isSpace(text[i - 1]) &&
      (i >= text.size() || !isSpace(text[i])))
    return std::nullopt;
  return number;
}

/// Elements between commas at the outermost level.
std::vector<std::string_view> splitList(std::string_view text) {
  std::vector<std::string_view> out;
  int depth = 0;
  size_t from = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    depth += c == '(' || c == '[' || c == '{';
    depth -= c == ')' || c == ']' || c == '}';
    if (c == ',' && depth == 0) {
      out.push_back(text.substr(from, i - from));
      from = i + 1;
    }
  }
  out.push_back(text.substr(from));
  return out;
}

/// True if the first character's bracket closes at the last one.
bool isBracketed(std::string_view text) {
  if (text.size() < 2)
    return false;
  char left = text.front();
  if (left != '(' && left != '[' && left != '{')
    return false;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    depth += c == '(' || c == '[' || c == '{';
    depth -= c == ')' || c == ']' || c == '}';
    if (depth == 0)
      return i + 1 == text.size();
  }
  return false;
}

/// What is left of an answer that is no number, for comparison.
std::string plainSpelling(std::string_view stripped) {
  std::string out;
  for (char c : stripped)
    if (!isSpace(c))
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  // \sqrt2 and \sqrt{2}, x^2 and x^{2}: braces around one character.
  std::string text;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] == '{' && i + 2 < out.size() && out[i + 2] == '}') {
      text += out[i + 1];
      i += 2;
    } else {
      text += out[i];
    }
  }
  // "(A)" is the choice A.
  if (text.size() == 3 && text[0] == '(' && isLetter(text[1]) && text[2] == ')')
    return text.substr(1, 1);
  return text;
}

constexpr int kMaxNesting = 16;

bool equivalent(std::string_view a, std::string_view b, int depth) {
  a = trim(a);
  b = trim(b);
  auto x = parseNumber(a), y = parseNumber(b);
  if (!x)
    if (auto number = withoutUnit(a))
      x = parseNumber(*number);
  if (!y)
    if (auto number = withoutUnit(b))
      y = parseNumber(*number);
  if (x && y)
    return *x == *y;
  if (plainSpelling(a) == plainSpelling(b))
    return true;
  if (depth >= kMaxNesting)
    return false;
  bool bracketed = isBracketed(a) && isBracketed(b);
  if (bracketed && (a.front() != b.front() || a.back() != b.back()))
    return false;
  std::string_view insideA = bracketed ? a.substr(1, a.size() - 2) : a;
  std::string_view insideB = bracketed ? b.substr(1, b.size() - 2) : b;
  auto left = splitList(insideA), right = splitList(insideB);
  if (left.size() != right.size() || (left.size() == 1 && !bracketed))
    return false;
  for (size_t i = 0; i < left.size(); ++i)
    if (!equivalent(left[i], right[i], depth + 1))
      return false;
  return true;
}

} // namespace

std::optional<std::string> lastBoxed(std::string_view text) {
  size_t from = std::string_view::npos;
  while (true) {
    size_t boxed = text.rfind("\\boxed", from);
    size_t fbox = text.rfind("\\fbox", from);
    size_t at = boxed == std::string_view::npos  ? fbox
                : fbox == std::string_view::npos ? boxed
                                                 : std::max(boxed, fbox);
    if (at == std::string_view::npos)
      return std::nullopt;
    size_t open = at + (text.substr(at).starts_with("\\boxed") ? 6 : 5);
    while (open < text.size() && isSpace(text[open]))
      ++open;
    if (open < text.size() && text[open] == '{')
      if (size_t end = closing(text, open, '{', '}');
          end != std::string_view::npos)
        return std::string(trim(text.substr(open + 1, end - open - 2)));
    if (at == 0)
      return std::nullopt;
    from = at - 1;
  }
}

std::optional<std::string> lastNumber(std::string_view text) {
  std::optional<std::string> found;
  for (size_t i = 0; i < text.size();) {
    size_t length = isDigit(text[i]) ? numberLength(text, i) : 0;
    if (length == 0) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + length;
    // A fraction of two plain numbers is one; a date like 1/2/3 none.
    if (end + 1 < text.size() && text[end] == '/' && isDigit(text[end + 1]))
      end += 1 + numberLength(text, end + 1);
    bool negative =
        begin > 0 && text[begin - 1] == '-' &&
        (begin < 2 || (!isDigit(text[begin - 2]) &&
                       !isLetter(text[begin - 2]) && text[begin - 2] != ')'));
    // "-$5"
    if (begin > 1 && text[begin - 1] == '$' && text[begin - 2] == '-')
      negative = true;
    found =
        (negative ? "-" : "") + std::string(text.substr(begin, end - begin));
    i = end;
  }
  return found;
}

std::optional<std::string> extractAnswer(std::string_view reply,
                                         bool inThought) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  if (size_t at = reply.rfind(kClose); at != std::string_view::npos)
    reply = reply.substr(at + kClose.size());
  else if (inThought)
    return std::nullopt;
  // A thought that has not ended.
  if (reply.find(kOpen) != std::string_view::npos)
    return std::nullopt;
  if (auto boxed = lastBoxed(reply))
    return boxed;
  if (size_t at = reply.rfind("####"); at != std::string_view::npos) {
    std::string_view line = reply.substr(at + 4);
    line = trim(line.substr(0, line.find('\n')));
    if (!line.empty())
      return std::string(line);
  }
  return lastNumber(reply);
}

std::string normalizeAnswer(std::string_view answer) {
  std::string stripped = stripLayout(answer);
  return plainSpelling(withoutVariable(stripped));
}

bool equivalentAnswers(std::string_view a, std::string_view b) {
  std::string left = stripLayout(a), right = stripLayout(b);
  if (withoutVariable(left).empty() || withoutVariable(right).empty())
    return false;
  return equivalent(withoutVariable(left), withoutVariable(right), 0);
}

} // namespace retort::score
