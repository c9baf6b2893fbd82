#!/usr/bin/env python3
"""Measures Retort beside llama.cpp and OpenVINO GenAI on this machine.

For each pair of nearest weight formats the two engines run in turn, one round
after the other, so that whatever else the machine does falls on both. What
counts is the median over rounds of ours over theirs. llama.cpp comes as
llama-cpp-python from PyPI, built for this machine into a cache folder, OpenVINO
as openvino-genai, which reads llama.cpp's files.

Prints a table, writes all samples as JSON, and replaces the measured part of
docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import peer_llama_cpp
import peer_openvino

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Our weights, by the name of the artifact. With int4 alone, embedding and output
# matrix are int8.
WEIGHTS = {
    "int4": ["--weights", "int4,embedding=int4,head=int4", "--group-size", "32"],
    "int4-mix": ["--weights", "int4", "--group-size", "32"],
    "int8": ["--weights", "int8", "--group-size", "32"],
    "bf16": ["--weights", "bf16"],
}
PEERS = {"llama.cpp": peer_llama_cpp.Peer, "openvino": peer_openvino.Peer}
# What is compared: our weights, the peer and its file type.
PAIRS = {
    "int4:Q4_0": ("int4", "llama.cpp", "Q4_0"),
    "int4-mix:Q4_0": ("int4-mix", "llama.cpp", "Q4_0"),
    "int4:Q4_K_M": ("int4", "llama.cpp", "Q4_K_M"),
    "int8:Q8_0": ("int8", "llama.cpp", "Q8_0"),
    "bf16:BF16": ("bf16", "llama.cpp", "BF16"),
    "int4-mix:openvino": ("int4-mix", "openvino", "Q4_0"),
}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def parse_arguments():
    models = os.environ.get("RETORT_MODELS")
    cache = os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retort", type=pathlib.Path, required=True,
                        help="the tool to measure, from a release build")
    parser.add_argument("--checkpoint", type=pathlib.Path,
                        default=models and pathlib.Path(models, "qwen15"),
                        help="default: qwen15 in RETORT_MODELS")
    parser.add_argument("--gguf", type=pathlib.Path,
                        default=models and pathlib.Path(models, "qwen15.gguf"),
                        help="the same model for llama.cpp, in any type; "
                        "default: qwen15.gguf in RETORT_MODELS")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--cache", type=pathlib.Path,
                        default=pathlib.Path(cache, "retort-bench"),
                        help="for llama.cpp and converted models")
    parser.add_argument("--json", type=pathlib.Path,
                        default=ROOT / "build/bench.json")
    parser.add_argument("--docs", type=pathlib.Path,
                        default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    for name in ("checkpoint", "gguf"):
        path = getattr(args, name)
        if not path or not path.exists():
            parser.error(f"--{name}: no such model; set RETORT_MODELS or name it")
    return args


def compile_ours(args, weights):
    """The artifact of our weights, made anew if the compiler is newer."""
    flags = WEIGHTS[weights]
    artifact = args.cache / f"{args.checkpoint.name}-{weights}.retort"
    if (artifact.exists()
            and artifact.stat().st_mtime > args.retort.stat().st_mtime):
        return artifact
    print(f"compiling {artifact.name}", file=sys.stderr)
    subprocess.run([args.retort, "compile", args.checkpoint, "-o", artifact]
                   + flags, check=True)
    return artifact


def measure_ours(args, artifact):
    done = subprocess.run(
        [args.retort, "bench", artifact, "--prompt", str(args.prompt), "--gen",
         str(args.gen), "--reps", "1", "--threads", str(args.threads), "--json"],
        check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    return {"prefill_tps": found["prefill_tps"],
            "decode_tps": found["decode_tps"]}


def measure_pair(args, peers, pair):
    weights, engine, file_type = PAIRS[pair]
    peer = peers[engine]
    artifact = compile_ours(args, weights)
    gguf = peers["llama.cpp"].convert(args.gguf, file_type)
    rounds = []
    for number in range(args.rounds):
        theirs = peer.measure(gguf, args.prompt, args.gen, args.threads)
        ours = measure_ours(args, artifact)
        rounds.append({"ours": ours, "theirs": theirs})
        print(f"{pair} round {number + 1}: "
              + ", ".join(f"{key} {ours[key]:.1f} / {theirs[key]:.1f}"
                          for key in ours), file=sys.stderr)
    return {"pair": pair, "weights": weights, "peer": f"{engine} {file_type}",
            "our_bytes": artifact.stat().st_size,
            "their_bytes": gguf.stat().st_size, "rounds": rounds}


def summarize(result):
    """Medians of both and of their ratios."""
    row = {}
    for key in ("prefill_tps", "decode_tps"):
        ours = [r["ours"][key] for r in result["rounds"]]
        theirs = [r["theirs"][key] for r in result["rounds"]]
        row[key] = (statistics.median(ours), statistics.median(theirs),
                    statistics.median(o / t for o, t in zip(ours, theirs)))
    return row


def table(results):
    lines = ["| weights | peer | file, GB | prefill t/s | ratio "
             "| decode t/s | ratio |", "|---|---|---|---|---|---|---|"]
    for result in results:
        row = summarize(result)
        cells = [result["weights"], result["peer"],
                 f"{result['our_bytes'] / 1e9:.2f} / "
                 f"{result['their_bytes'] / 1e9:.2f}"]
        for ours, theirs, ratio in row.values():
            cells += [f"{ours:.1f} / {theirs:.1f}", f"**{ratio:.2f}**"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def versions(peers):
    return ", ".join(f"{p.name} {p.version()}" for p in peers.values())


def write_docs(path, args, peers, results):
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: expected the lines {BEGIN} and {END}")
    intro = (f"{processor()}, {args.threads} threads; "
             f"{versions(peers)}; {args.prompt} tokens of prompt, {args.gen} "
             f"generated; medians of {args.rounds} rounds, ours / theirs.")
    path.write_text(f"{before}{BEGIN}\n{intro}\n\n{table(results)}\n{END}{after}")


def main():
    args = parse_arguments()
    args.cache.mkdir(parents=True, exist_ok=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    # llama.cpp converts the files for all.
    engines = {"llama.cpp"} | {PAIRS[pair][1] for pair in args.pairs}
    peers = {e: PEERS[e](args.cache) for e in PEERS if e in engines}
    results = []
    for pair in args.pairs:
        results.append(measure_pair(args, peers, pair))
        args.json.write_text(json.dumps(
            {"processor": processor(), "threads": args.threads,
             "prompt": args.prompt, "gen": args.gen, "peers": versions(peers),
             "results": results}, indent=1))
    write_docs(args.docs, args, peers, results)
    print(table(results))


if __name__ == "__main__":
    main()
