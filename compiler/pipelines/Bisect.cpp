//===- Bisect.cpp - Where two models part -----------------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/pipelines/Bisect.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace retort {
namespace {

using checkpoint::ModelConfig;
using reference::TraceOp;
using reference::TracePoint;

Status invalidArgument(const std::string &message) {
  return Status::error(Code::InvalidArgument, message);
}

std::string describe(TracePoint point) {
  return (point.layer < 0 ? std::string()
                          : "layer " + std::to_string(point.layer) + " ") +
         std::string(traceOpName(point.op));
}

/// Sums of squares: of differences, and of what they are set against.
struct Sums {
  double difference = 0, norm = 0;

  void add(const Sums &other) {
    difference += other.difference;
    norm += other.norm;
  }
  /// Infinite rather than not a number, so that it compares.
  double relative() const {
    double value =
        norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
    return std::isfinite(value) ? value : INFINITY;
  }
};

/// The rows of all tokens at a point.
struct Rows {
  int64_t cols = 0;
  size_t seen = 0; ///< tokens
  std::vector<float> values;

  std::span<const float> row(size_t token, int64_t count) const {
    return std::span(values).subspan(token * static_cast<size_t>(cols),
                                     static_cast<size_t>(count));
  }
};

using Trace = std::map<TracePoint, Rows>;

/// What is known of B at a point, by token.
struct Found {
  size_t seen = 0;
  std::vector<Sums> error, step;
  /// The first token whose error exceeds the tolerance, and B's row.
  size_t exceeding = SIZE_MAX;
  std::vector<float> exceedingRow;
};

Differences differencesOf(std::span<const Sums> sums) {
  Differences out;
  Sums all;
  for (const Sums &of : sums) {
    all.add(of);
    out.tokens.push_back(of.relative());
  }
  out.all = all.relative();
  return out;
}

class Bisection {
public:
  Bisection(TracedModel &a, TracedModel &b, std::span<const int32_t> tokens,
            const BisectOptions &options)
      : a(a), b(b), tokens(tokens), options(options),
        ids(options.ids ? options.ids : a.config().vocabSize) {}

  Result<BisectReport> run();

private:
  Status record();
  Status compare();
  Status force();
  /// Elements of a row that are compared.
  int64_t compared(TracePoint point, const Rows &rows) const {
    return point.op == TraceOp::Logits ? ids : rows.cols;
  }
  bool isCommon(TracePoint point) const {
    auto it = found.find(point);
    return it != found.end() && it->second.seen == tokens.size();
  }
  /// The residual stream in front of the op at a point, as A has it; null if
  /// the op doesn't add to one.
  const Rows *residualBefore(TracePoint point) const;
  Parting describeParting(size_t index, TracePoint point) const;

  TracedModel &a, &b;
  std::span<const int32_t> tokens;
  const BisectOptions &options;
  int64_t ids;
  Trace trace; ///< of A, points with all tokens alone
  std::map<TracePoint, Found> found;
};

Status Bisection::record() {
  RETORT_RETURN_IF_ERROR(
      a.run(tokens, [&](TracePoint point, int64_t first, int64_t cols,
                        std::span<float> rows) {
        Rows &to = trace[point];
        to.cols = cols;
        to.values.resize(tokens.size() * static_cast<size_t>(cols));
        std::ranges::copy(rows, to.values.begin() + first * cols);
        to.seen += rows.size() / static_cast<size_t>(cols);
        return Status::ok();
      }));
  std::erase_if(trace, [&](const auto &entry) {
    return entry.second.seen != tokens.size();
  });
  return Status::ok();
}

Status Bisection::compare() {
  return b.run(tokens, [&](TracePoint point, int64_t first, int64_t cols,
                           std::span<float> rows) {
    auto it = trace.find(point);
    if (it == trace.end())
      return Status::ok();
    const Rows &expected = it->second;
    int64_t count = compared(point, expected);
    if (count > cols || (point.op != TraceOp::Logits && count != cols))
      return Status::error(Code::Internal,
                           describe(point) + ": rows of " +
                               std::to_string(expected.cols) + " and of " +
                               std::to_string(cols) + " elements");
    Found &to = found[point];
    to.error.resize(tokens.size());
    size_t here = rows.size() / static_cast<size_t>(cols);
    to.seen += here;
    for (size_t i = 0; i < here; ++i) {
      size_t token = static_cast<size_t>(first) + i;
      auto have = rows.subspan(i * static_cast<size_t>(cols),
                               static_cast<size_t>(count));
      std::span<const float> want = expected.row(token, count);
      Sums &sums = to.error[token];
      for (size_t k = 0; k < have.size(); ++k) {
        double d = double(have[k]) - want[k];
        sums.difference += d * d;
        sums.norm += double(want[k]) * want[k];
      }
      if (sums.relative() > options.tolerance && token < to.exceeding) {
        to.exceeding = token;
        to.exceedingRow.assign(have.begin(), have.end());
      }
    }
    return Status::ok();
  });
}

const Rows *Bisection::residualBefore(TracePoint point) const {
  if (!isResidual(point.op) || point.op == TraceOp::Embedding)
    return nullptr;
  for (auto it = trace.find(point); it != trace.begin();)
    if (--it; isResidual(it->first.op))
      return &it->second;
  return nullptr;
}

Status Bisection::force() {
  return b.run(tokens, [&](TracePoint point, int64_t first, int64_t cols,
                           std::span<float> rows) {
    if (!isCommon(point))
      return Status::ok();
    const Rows &expected = trace.at(point);
    const Rows *before = residualBefore(point);
    int64_t count = compared(point, expected);
    Found &to = found.at(point);
    to.step.resize(tokens.size());
    for (size_t i = 0; i < rows.size() / static_cast<size_t>(cols); ++i) {
      size_t token = static_cast<size_t>(first) + i;
      auto have = rows.subspan(i * static_cast<size_t>(cols),
                               static_cast<size_t>(count));
      std::span<const float> want = expected.row(token, count);
      Sums &sums = to.step[token];
      for (size_t k = 0; k < have.size(); ++k) {
        double d = double(have[k]) - want[k];
        double made = want[k];
        if (before)
          made -= before->row(token, count)[k];
        sums.difference += d * d;
        sums.norm += made * made;
      }
      std::ranges::copy(want, have.begin());
    }
    return Status::ok();
  });
}

Parting Bisection::describeParting(size_t index, TracePoint point) const {
  constexpr int64_t kBeside = 2;
  const Found &at = found.at(point);
  const Rows &expected = trace.at(point);
  Parting out;
  out.index = index;
  out.token = at.exceeding;
  std::span<const float> want =
      expected.row(out.token, compared(point, expected));
  std::span<const float> have = at.exceedingRow;
  double most = -1;
  for (size_t k = 0; k < have.size(); ++k) {
    double d = std::abs(double(have[k]) - want[k]);
    if (!std::isfinite(d))
      d = INFINITY;
    if (d > most) {
      most = d;
      out.elements.worst = static_cast<int64_t>(k);
    }
  }
  out.elements.first = std::max<int64_t>(out.elements.worst - kBeside, 0);
  int64_t end = std::min<int64_t>(out.elements.worst + kBeside + 1,
                                  static_cast<int64_t>(have.size()));
  out.elements.a.assign(want.begin() + out.elements.first, want.begin() + end);
  out.elements.b.assign(have.begin() + out.elements.first, have.begin() + end);
  return out;
}

Result<BisectReport> Bisection::run() {
  RETORT_RETURN_IF_ERROR(record());
  RETORT_RETURN_IF_ERROR(compare());
  RETORT_RETURN_IF_ERROR(force());
  BisectReport report;
  double largest = -1;
  for (const auto &[point, at] : found) {
    if (!isCommon(point))
      continue;
    size_t index = report.points.size();
    if (!report.first && at.exceeding != SIZE_MAX)
      report.first = describeParting(index, point);
    report.points.push_back(
        {point, differencesOf(at.error), differencesOf(at.step)});
    const Differences &step = report.points.back().step;
    if (double worst = step.tokens[step.worst()]; worst > largest) {
      largest = worst;
      report.largestStep = index;
    }
  }
  return report;
}

Status checkTokens(const TracedModel &model, std::span<const int32_t> tokens) {
  int64_t vocab = model.config().vocabSize;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocab)
      return invalidArgument(model.describe() + ": token " + std::to_string(i) +
                             ": expected an id below " + std::to_string(vocab) +
                             ", found " + std::to_string(tokens[i]));
  if (static_cast<int64_t>(tokens.size()) > model.maxContext())
    return invalidArgument(model.describe() + ": expected at most " +
                           std::to_string(model.maxContext()) +
                           " tokens, its context, found " +
                           std::to_string(tokens.size()));
  return Status::ok();
}

} // namespace

size_t Differences::worst() const {
  return static_cast<size_t>(std::ranges::max_element(tokens) - tokens.begin());
}

Status checkComparable(const TracedModel &a, const TracedModel &b) {
  const ModelConfig &x = a.config(), &y = b.config();
  struct Figure {
    const char *what;
    int64_t a, b;
  };
  auto valueSize = [](const ModelConfig &c) {
    return c.mla ? c.mla->vHeadDim : c.headDim;
  };
  auto experts = [](const ModelConfig &c) {
    return c.moe ? c.moe->numExperts : 0;
  };
  auto dense = [](const ModelConfig &c) {
    return c.moe ? std::min(c.moe->firstDense, c.numLayers) : c.numLayers;
  };
  const Figure figures[] = {
      {"layers", x.numLayers, y.numLayers},
      {"hidden size", x.hiddenSize, y.hiddenSize},
      {"attention heads", x.numHeads, y.numHeads},
      {"key/value heads", x.numKvHeads, y.numKvHeads},
      {"head size", x.headDim, y.headDim},
      {"size of a head's values", valueSize(x), valueSize(y)},
      {"latent attention", x.mla.has_value(), y.mla.has_value()},
      {"intermediate size", x.intermediateSize, y.intermediateSize},
      {"experts", experts(x), experts(y)},
      {"layers without experts", dense(x), dense(y)},
  };
  for (const Figure &figure : figures)
    if (figure.a != figure.b)
      return invalidArgument(a.describe() + " and " + b.describe() +
                             " can't be compared: " + figure.what + ": " +
                             std::to_string(figure.a) + " and " +
                             std::to_string(figure.b));
  return Status::ok();
}

Result<BisectReport> bisect(TracedModel &a, TracedModel &b,
                            std::span<const int32_t> tokens,
                            const BisectOptions &options) {
  RETORT_RETURN_IF_ERROR(checkComparable(a, b));
  if (tokens.empty())
    return invalidArgument("expected at least one token, found none");
  int64_t vocabs[] = {a.config().vocabSize, b.config().vocabSize};
  if (options.ids == 0 && vocabs[0] != vocabs[1])
    return invalidArgument(
        a.describe() + " and " + b.describe() +
        " can't be compared: vocabulary: " + std::to_string(vocabs[0]) +
        " and " + std::to_string(vocabs[1]));
  if (options.ids > std::min(vocabs[0], vocabs[1]))
    return invalidArgument(
        "expected at most " + std::to_string(std::min(vocabs[0], vocabs[1])) +
        " ids to compare, found " + std::to_string(options.ids));
  for (const TracedModel *model : {&a, &b})
    RETORT_RETURN_IF_ERROR(checkTokens(*model, tokens));
  try {
    return Bisection(a, b, tokens, options).run();
  } catch (const std::bad_alloc &) {
    return Status::error(Code::OutOfMemory, "no memory for the values of " +
                                                std::to_string(tokens.size()) +
                                                " tokens: take fewer");
  }
}

} // namespace retort
