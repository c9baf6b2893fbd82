//===- BenchLedger.cpp - The roofline ledger of bench ---------------------===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tools/common/Bench.h"

#include <cstdio>

namespace retort::tools {

using Json = nlohmann::ordered_json;

namespace {

/// A line's time against what the machine would take at its best.
struct Roofline {
  double ns, gbps, gflops, roofNs;

  Roofline(const LedgerLine &line, const MachinePeaks &machine)
      : ns(std::max<double>(line.sum.nanoseconds, 1)),
        gbps(line.sum.bytes / ns), gflops(line.sum.flops / ns) {
    double peak = line.integers && machine.int8Gops > 0 ? machine.int8Gops
                                                        : machine.gflops;
    roofNs = std::max(line.sum.bytes / std::max(machine.readGbps, 1e-9),
                      line.sum.flops / std::max(peak, 1e-9));
  }
  double lostNs() const { return std::max(0.0, ns - roofNs); }
  double percentOfRoof() const { return 100 * roofNs / ns; }
};

/// The lines that lose most time, the worst first.
std::vector<const LedgerLine *> furthest(const LedgerPart &part,
                                         const MachinePeaks &machine) {
  constexpr size_t kMost = 3;
  std::vector<const LedgerLine *> lines;
  for (const LedgerLine &line : part.lines)
    lines.push_back(&line);
  std::stable_sort(lines.begin(), lines.end(), [&](auto *a, auto *b) {
    return Roofline(*a, machine).lostNs() > Roofline(*b, machine).lostNs();
  });
  lines.resize(std::min(lines.size(), kMost));
  return lines;
}

double launchSeconds(const LedgerPart &part) {
  double ns = 0;
  for (const LedgerLine &line : part.lines)
    ns += line.sum.nanoseconds;
  return ns / 1e9;
}

} // namespace

Json ledgerJson(const LedgerPart &part, const MachinePeaks &machine) {
  Json out = Json::array();
  for (const LedgerLine &line : part.lines) {
    Roofline at(line, machine);
    out.push_back({{"part", part.name},
                   {"phase", line.phase},
                   {"label", line.label},
                   {"runs", line.sum.runs},
                   {"ms", at.ns / 1e6},
                   {"bytes", line.sum.bytes},
                   {"flops", line.sum.flops},
                   {"gbps", at.gbps},
                   {"gflops", at.gflops},
                   {"percent_of_bandwidth", 100 * at.gbps / machine.readGbps},
                   {"percent_of_peak", 100 * at.gflops / machine.gflops},
                   {"percent_of_roof", at.percentOfRoof()}});
  }
  return out;
}

Json ledgerSumJson(const LedgerPart &part, const MachinePeaks &machine) {
  Json worst = Json::array();
  for (const LedgerLine *line : furthest(part, machine)) {
    Roofline at(*line, machine);
    worst.push_back({{"phase", line->phase},
                     {"label", line->label},
                     {"lost_ms_per_token", at.lostNs() / 1e6 / part.tokens},
                     {"percent_of_roof", at.percentOfRoof()}});
  }
  return {{"part", part.name},
          {"tokens", part.tokens},
          {"ms_per_token", 1e3 * part.seconds / part.tokens},
          {"launches_ms_per_token", 1e3 * launchSeconds(part) / part.tokens},
          {"furthest_from_roof", worst}};
}

std::string ledgerTable(const LedgerPart &part, const MachinePeaks &machine) {
  char row[256];
  std::string out;
  std::snprintf(row, sizeof row,
                "%s: %u tokens, %.3f ms each, of which launches %.3f ms "
                "(%.1f%%)\n",
                part.name.c_str(), part.tokens,
                1e3 * part.seconds / part.tokens,
                1e3 * launchSeconds(part) / part.tokens,
                100 * launchSeconds(part) / part.seconds);
  out += row;
  std::snprintf(row, sizeof row,
                "%-12s %-24s %6s %10s %6s %8s %6s %9s %6s %6s\n", "phase",
                "launch", "runs", "ms", "share", "GB/s", "of bw", "GFLOP/s",
                "of fma", "roof");
  out += row;
  for (const LedgerLine &line : part.lines) {
    Roofline at(line, machine);
    std::snprintf(row, sizeof row,
                  "%-12s %-24s %6llu %10.3f %5.1f%% %8.2f %5.1f%% %9.2f "
                  "%5.1f%% %5.1f%%\n",
                  line.phase.c_str(), line.label.c_str(),
                  static_cast<unsigned long long>(line.sum.runs), at.ns / 1e6,
                  100 * at.ns / 1e9 / launchSeconds(part), at.gbps,
                  100 * at.gbps / machine.readGbps, at.gflops,
                  100 * at.gflops / machine.gflops, at.percentOfRoof());
    out += row;
  }
  out += "furthest from the roof:";
  for (const LedgerLine *line : furthest(part, machine)) {
    Roofline at(*line, machine);
    std::snprintf(row, sizeof row, "%s %s loses %.3f ms a token (%.0f%% of it)",
                  out.back() == ':' ? "" : ",", line->label.c_str(),
                  at.lostNs() / 1e6 / part.tokens, at.percentOfRoof());
    out += row;
  }
  return out + "\n";
}

} // namespace retort::tools
