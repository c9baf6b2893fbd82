#!/usr/bin/env python3
"""Trains the bundled pair: `python3 train.py --out DIR`.

Three stages, each of which reads what the one before left in DIR:

  teacher   writes `problems.jsonl` (200 problems that no stage trains on) and
            trains `teacher/` from scratch on generated problems and chains;
  traces    lets the teacher solve fresh problems greedily and keeps the
            replies whose answer is right, in `traces.jsonl`;
  student   trains `student/` from scratch on those traces alone, the last part
            of the way with weights rounded to int4 in the forward pass.

`evaluate` counts right answers of both on the held-out problems. The runs are
seeded; their result also depends on the CPU's floating-point kernels.
"""

import argparse
import collections
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import problems as P
from model import Config, Qwen2
from tokenizer import Tokenizer, chat_prompt

HELD_OUT = {"+": 70, "-": 70, "*": 60}
SEEDS = {"tokenizer": 1, "held out": 2, "teacher": 3, "traces": 4, "student": 5}
BATCH = 32
MAX_REPLY = 128


def learn_tokenizer():
    rng = random.Random(SEEDS["tokenizer"])
    texts = []
    for _ in range(4000):
        problem = P.sample(rng)
        texts.append(chat_prompt(P.phrase(problem, rng)) + P.chain(problem))
    return Tokenizer.learn(texts)


def config(role, tokenizer):
    # The table is padded with rows no text uses, as Qwen's is.
    vocab = -(-tokenizer.size // 64) * 64
    if role == "teacher":
        return Config(vocab, hidden_size=192, intermediate_size=512,
                      num_hidden_layers=4, num_attention_heads=6,
                      num_key_value_heads=2, tie_word_embeddings=False)
    return Config(vocab, hidden_size=128, intermediate_size=384,
                  num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2, tie_word_embeddings=True)


def collate(pairs):
    """(prompt, reply) token lists, laid end to end, and the tokens to learn."""
    ids, positions, index, wanted, targets = [], [], [], [], []
    length = max(len(prompt) + len(reply) for prompt, reply in pairs) - 1
    for row, (prompt, reply) in enumerate(pairs):
        n = len(prompt) + len(reply) - 1
        wanted += range(len(ids) + len(prompt) - 1, len(ids) + n)
        ids += (prompt + reply)[:n]
        positions += range(n)
        index += range(row * length, row * length + n)
        targets += reply
    ids, positions, index, wanted, targets = map(
        torch.tensor, (ids, positions, index, wanted, targets))
    return ids, positions, (len(pairs), length, index), wanted, targets


def train(model, batches, steps, rate, checkpoint, int4_from=1.0):
    """`steps` steps of AdamW; int4 rounding after `int4_from` of them."""
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1},
         {"params": rest, "weight_decay": 0.0}],
        lr=rate, betas=(0.9, 0.98), foreach=True)
    warmup, losses, start = 100, [], time.time()
    for step in range(steps):
        progress = max(0, step - warmup) / (steps - warmup)
        scale = min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * scale
        if step >= int4_from * steps:
            # Every rounding a compiler may choose, and none at all, in turn:
            # the weights are to be right under each.
            model.quantize(("symmetric", "asymmetric", None)[step % 3])
        ids, positions, grid, wanted, targets = collate(next(batches))
        loss = F.cross_entropy(model(ids, positions, grid, wanted), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {sum(losses) / len(losses):.4f} "
                  f"seconds {time.time() - start:.0f}", flush=True)
            losses.clear()
        if (step + 1) % 400 == 0 or step + 1 == steps:
            checkpoint(step + 1)


def fresh(rng, excluded):
    while True:
        problem = P.sample(rng)
        if P.key(problem) not in excluded:
            yield problem, P.phrase(problem, rng)


def answer(model, tokenizer, texts):
    """Greedy replies, computed together for prompts of equal length."""
    buckets = collections.defaultdict(list)
    for i, text in enumerate(texts):
        ids = tokenizer.encode(chat_prompt(text))
        buckets[len(ids)].append((i, ids))
    replies = [None] * len(texts)
    for bucket in buckets.values():
        for start in range(0, len(bucket), 256):
            part = bucket[start:start + 256]
            prompts = torch.tensor([ids for _, ids in part])
            out = model.generate(prompts, tokenizer.eos, MAX_REPLY)
            for (i, _), reply in zip(part, out):
                replies[i] = reply
    return replies


def right(model, tokenizer, rows):
    """How many held-out problems are answered right, and the wrong replies."""
    replies = answer(model, tokenizer, [row["problem"] for row in rows])
    texts = map(tokenizer.decode, replies)
    wrong = [(row["problem"], text) for row, text in zip(rows, texts)
             if P.boxed(text) != row["answer"]]
    return len(rows) - len(wrong), wrong


def load(directory, role, tokenizer):
    model = Qwen2(config(role, tokenizer))
    weights = load_file(Path(directory) / "model.safetensors")
    model.load_state_dict({name: t.float() for name, t in weights.items()})
    return model.eval()


def held_out():
    return P.held_out(random.Random(SEEDS["held out"]), HELD_OUT)


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fit(role, out, tokenizer, batches, **schedule):
    torch.manual_seed(SEEDS[role])
    model = Qwen2(config(role, tokenizer))
    count = sum(p.numel() for p in model.parameters())
    print(f"{role}: {count} parameters, {tokenizer.size} tokens", flush=True)
    rows = read_rows(out / "problems.jsonl")

    def checkpoint(step):
        model.save(out / role, tokenizer.eos, tokenizer.pad)
        saved = load(out / role, role, tokenizer)
        score, _ = right(saved, tokenizer, rows)
        print(f"step {step} held out {score}/{len(rows)}", flush=True)

    train(model, batches, checkpoint=checkpoint, **schedule)
    tokenizer.save(out / role, model.c.max_position_embeddings)


def train_teacher(out, tokenizer, steps):
    P.write_held_out(out / "problems.jsonl", held_out())
    excluded = {P.key(problem) for problem, _ in held_out()}
    stream = fresh(random.Random(SEEDS["teacher"]), excluded)

    def batches():
        while True:
            yield [(tokenizer.encode(chat_prompt(text)),
                    tokenizer.encode(P.chain(problem)) + [tokenizer.eos])
                   for problem, text in (next(stream) for _ in range(BATCH))]

    fit("teacher", out, tokenizer, batches(), steps=steps, rate=2e-3)


def write_traces(out, tokenizer, count):
    teacher = load(out / "teacher", "teacher", tokenizer)
    excluded = {P.key(problem) for problem, _ in held_out()}
    stream = fresh(random.Random(SEEDS["traces"]), excluded)
    asked = [next(stream) for _ in range(count)]
    replies = answer(teacher, tokenizer, [text for _, text in asked])
    kept = 0
    with open(out / "traces.jsonl", "w") as file:
        for (problem, text), reply in zip(asked, replies):
            reply = tokenizer.decode(reply)
            if P.boxed(reply) == str(P.solve(problem)):
                file.write(json.dumps({"problem": text, "reply": reply}) + "\n")
                kept += 1
    print(f"traces: {kept} of {count} right", flush=True)


def train_student(out, tokenizer, steps):
    traces = [(tokenizer.encode(chat_prompt(row["problem"])),
               tokenizer.encode(row["reply"]) + [tokenizer.eos])
              for row in read_rows(out / "traces.jsonl")]
    if len(traces) < BATCH:
        raise SystemExit(f"{len(traces)} traces do not fill a batch of {BATCH}: "
                         "the teacher solves too few problems")
    rng = random.Random(SEEDS["student"])

    def batches():
        while True:
            rng.shuffle(traces)
            for start in range(0, len(traces) - BATCH + 1, BATCH):
                yield traces[start:start + BATCH]

    fit("student", out, tokenizer, batches(), steps=steps, rate=3e-3,
        int4_from=0.6)


def evaluate(out, tokenizer, verbose):
    rows = read_rows(out / "problems.jsonl")
    for role in ("teacher", "student"):
        if not (out / role / "model.safetensors").exists():
            continue
        model = load(out / role, role, tokenizer)
        for mode in (None, "symmetric", "asymmetric"):
            model.quantize(mode)
            score, wrong = right(model, tokenizer, rows)
            print(f"{role} {mode or 'bf16'}: {score}/{len(rows)}", flush=True)
            if verbose:
                for problem, reply in wrong:
                    print(f"--- {problem}\n{reply}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="where checkpoints, problems and traces lie")
    parser.add_argument("--stage", default="all",
                        choices=("all", "teacher", "traces", "student", "evaluate"),
                        help="the one stage to run; all of them by default")
    parser.add_argument("--teacher-steps", type=int, default=2600)
    parser.add_argument("--traces", type=int, default=24000,
                        help="problems the teacher solves for the student")
    parser.add_argument("--student-steps", type=int, default=4000)
    parser.add_argument("--verbose", action="store_true",
                        help="print the replies that are wrong")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = learn_tokenizer()

    def runs(stage):
        return args.stage in (stage, "all")

    if runs("teacher"):
        train_teacher(args.out, tokenizer, args.teacher_steps)
    if runs("traces"):
        write_traces(args.out, tokenizer, args.traces)
    if runs("student"):
        train_student(args.out, tokenizer, args.student_steps)
    if runs("evaluate"):
        evaluate(args.out, tokenizer, args.verbose)


if __name__ == "__main__":
    main()
