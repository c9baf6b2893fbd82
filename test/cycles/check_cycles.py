#!/usr/bin/env python3
"""Judges the hot loops of kernels by llvm-mca, for CPUs that need not be here.

For each linear kernel and target, kernel-bench prints the assembly; the
innermost loop with the most multiplications is given to llvm-mca, which says
how many cycles a named CPU needs for an iteration if all data is in the
first-level cache. cycles.txt holds these beside the multiplications of an
iteration; a kernel fails if it needs more cycles per multiplication than its
line says, by more than the tolerance. With --write the file is written anew:
do that when a kernel has become faster, or slower for a reason.
"""

import argparse
import pathlib
import re
import subprocess
import sys

TABLE = pathlib.Path(__file__).with_name("cycles.txt")
TOLERANCE = 0.05
ITERATIONS = 100

# Target: LLVM's triple and the CPU that is asked about.
CPUS = {
    "x86-64-v3": ("x86_64-unknown-linux-gnu", "znver3"),
    "x86-64-v4": ("x86_64-unknown-linux-gnu", "icelake-server"),
    "x86-64-amx": ("x86_64-unknown-linux-gnu", "sapphirerapids"),
    "aarch64": ("aarch64-unknown-linux-gnu", "neoverse-n1"),
    "aarch64-i8mm": ("aarch64-unknown-linux-gnu", "neoverse-v1"),
}

# Kernel: what kernel-bench is asked for.
KERNELS = {
    "int4-one": ("int4<32>", 1),
    "int4-few": ("int4<32>", 4),
    "int4-many": ("int4<32>", 512),
    "int8-one": ("int8<32>", 1),
    "int8-many": ("int8<32>", 512),
    "bf16-one": ("bf16", 1),
    "bf16-many": ("bf16", 512),
}

# Encoding, or kernel, and target: instructions that multiply, and the
# multiplications of weights with inputs that one does, by the registers that it
# names. Where a product takes several of them each has its share.
MULTIPLY = {
    ("int4", "x86-64-v3"): {r"vpmaddubsw.*%ymm": 32},
    ("int8", "x86-64-v3"): {r"vpmaddwd.*%ymm": 16},
    ("bf16", "x86-64-v3"): {r"vfmadd\d+ps.*%ymm": 8},
    ("int4", "x86-64-v4"): {r"vpdpbusd.*%zmm": 64},
    ("int8", "x86-64-v4"): {r"vpdpwssd.*%zmm": 32},
    ("bf16", "x86-64-v4"): {r"vfmadd\d+ps.*%zmm": 16},
    ("int4", "x86-64-amx"): {r"vpdpbusd.*%zmm": 64, r"tdpb[us]sd": 8192},
    ("int8", "x86-64-amx"): {r"vpdpwssd.*%zmm": 32, r"tdpb[us]sd": 4096},
    ("bf16", "x86-64-amx"): {r"vfmadd\d+ps.*%zmm": 16},
    ("int4", "aarch64"): {r"\bsdot": 16},
    ("int8-one", "aarch64"): {r"\bsdot": 16 / 3},
    ("int8-many", "aarch64"): {r"\bsdot": 8},
    ("bf16", "aarch64"): {r"\bfmla\s+v\d+\.4s": 4},
    ("int4", "aarch64-i8mm"): {r"\bsdot": 16, r"\bsmmla": 32},
    ("int8", "aarch64-i8mm"): {r"\busdot": 16, r"\busmmla": 32},
    ("bf16", "aarch64-i8mm"): {r"\bfmla\s+v\d+\.4s": 4},
}

LABEL = re.compile(r"^(\.L\w+):")
JUMP = re.compile(r"^\s+(?:j\w+|b|b\.\w+|cbn?z|tbn?z)\s+.*?(\.L\w+)\s*$")


def innermost_loops(assembly):
    """The instructions of each loop that holds no other."""
    lines, labels, loops = [], {}, []
    for line in assembly.splitlines():
        line = re.split(r"\s*(?:#|//)\s", line + " ")[0].rstrip()
        if label := LABEL.match(line):
            labels[label[1]] = len(lines)
        elif re.match(r"^\s+[a-z]", line):
            lines.append(line)
            jump = JUMP.match(line)
            if jump and jump[1] in labels:
                loops.append((labels[jump[1]], len(lines)))
    return [lines[start:end] for start, end in loops
            if not any((s, e) != (start, end) and start <= s and e <= end
                       for s, e in loops)]


def multiplications(loop, instructions):
    return sum(count for line in loop for pattern, count in
               instructions.items() if re.search(pattern, line))


def run(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def measure(options, kernel, target):
    """Multiplications and cycles of an iteration of the hot loop."""
    encoding, tokens = KERNELS[kernel]
    assembly = run([options.kernel_bench, "--target", target, "--encoding",
                    encoding, "--tokens", str(tokens), "--rows", "1024",
                    "--cols", "1536", "--dump", "asm"])
    instructions = MULTIPLY.get((kernel, target)) or MULTIPLY[
        encoding.partition("<")[0], target]
    loops = innermost_loops(assembly)
    hot = max(loops, key=lambda l: multiplications(l, instructions),
              default=[])
    count = round(multiplications(hot, instructions))
    if not count:
        sys.exit(f"{kernel} for {target}: expected a loop that multiplies, "
                 f"found {len(loops)} without")
    triple, cpu = CPUS[target]
    report = run([options.llvm_mca, f"-mtriple={triple}", f"-mcpu={cpu}",
                  f"-iterations={ITERATIONS}", "-instruction-info=0",
                  "-resource-pressure=0"], "\n".join(hot) + "\n")
    cycles = re.search(r"Total Cycles:\s+(\d+)", report)
    if not cycles:
        sys.exit(f"{kernel} for {target}: no cycles in\n{report}")
    return count, int(cycles[1]) / ITERATIONS


def read_table():
    table = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            kernel, target, _, count, cycles = line.split()
            table[kernel, target] = int(count), float(cycles)
    return table


def write_table(found):
    lines = [
        "# Hot loops by llvm-mca: multiplications and cycles of an iteration.",
        "# Written by check_cycles.py --write, checked by the test",
        "# retort_kernel_cycles.",
        f"# {'kernel':<10} {'target':<13} {'cpu':<15} {'multiply':>9} "
        f"{'cycles':>8}",
    ]
    lines += [f"{kernel:<12} {target:<13} {CPUS[target][1]:<15} {count:>9} "
              f"{cycles:>8.2f}"
              for (kernel, target), (count, cycles) in found.items()]
    TABLE.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel-bench", required=True)
    parser.add_argument("--llvm-mca", default="llvm-mca-22")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = {(kernel, target): measure(options, kernel, target)
             for kernel in KERNELS for target in CPUS}
    if options.write:
        write_table(found)
        return 0
    table, failed = read_table(), 0
    for key, (count, cycles) in found.items():
        name = " for ".join(key)
        if key not in table:
            print(f"{name}: expected a line in {TABLE.name}, found none")
            failed += 1
            continue
        kept_count, kept_cycles = table[key]
        change = cycles / count / (kept_cycles / kept_count) - 1
        if change > TOLERANCE:
            print(f"{name}: expected {kept_cycles / kept_count * 1024:.1f} "
                  f"cycles per 1024 multiplications, found "
                  f"{cycles / count * 1024:.1f} ({change:+.0%})")
            failed += 1
        elif change < -TOLERANCE:
            print(f"{name}: faster by {-change:.0%} than {TABLE.name} says")
    for key in table.keys() - found.keys():
        print(f"{' for '.join(key)}: a line in {TABLE.name} without a kernel")
        failed += 1
    if failed:
        print(f"{failed} lines differ; if that is meant, write them anew: "
              f"test/cycles/check_cycles.py --kernel-bench "
              f"{options.kernel_bench} --write")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
