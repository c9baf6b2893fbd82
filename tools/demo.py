#!/usr/bin/env python3
"""Compiles the bundled arithmetic pair and lets it calculate.

Builds three artifacts (the teacher and the student as stored, the student in
int4), shows each one solving a few problems, and counts how many of the
held-out problems each solves under greedy decoding.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples/arithmetic"
MODELS = [
    # name, checkpoint, flags, least share of right answers
    ("teacher", "teacher", [], 0.97),
    ("student", "student", [], 0.90),
    ("student-int4", "student", ["--weights", "int4"], 0.90),
]


def ask(retort, model, problem):
    command = [retort, "run", model, "-p", problem, "--temp", "0", "-n", "200",
               "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def is_right(reply, answer):
    boxed = re.findall(r"\\boxed\{(-?\d+)\}", reply)
    return bool(boxed) and boxed[-1] == answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retort", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--show", type=int, default=3, metavar="N",
                        help="problems to print for each model")
    parser.add_argument("--limit", type=int, default=200, metavar="N",
                        help="problems to solve with each model")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = (EXAMPLES / "problems.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines][:args.limit]

    summary, missed = [], False
    for name, checkpoint, flags, least in MODELS:
        model = args.out / f"{name}.retort"
        command = [args.retort, "compile", EXAMPLES / checkpoint, "-o", model]
        print(f"\n$ {' '.join(map(str, command + flags))}", flush=True)
        subprocess.run(command + flags, check=True)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            replies = list(pool.map(
                lambda p: ask(args.retort, model, p["problem"]), problems))
        seconds = time.monotonic() - start
        for problem, reply in list(zip(problems, replies))[:args.show]:
            print(f"\n> {problem['problem']}\n{reply.strip()}")
        right = sum(is_right(reply, problem["answer"])
                    for problem, reply in zip(problems, replies))
        missed |= right < least * len(problems)
        size = model.stat().st_size / 1e6
        summary.append(f"{name:14} {size:6.2f} MB   {right} of {len(problems)} "
                       f"right, in {seconds:.1f} s")
    print("\n" + "\n".join(summary))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
