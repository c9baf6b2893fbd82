"""Arithmetic problems and the reasoning chains that solve them.

A problem is `(op, a, b)` with `op` one of `+`, `-`, `*`. `phrase` words it the
way a user would, `chain` writes the reply: the schoolbook algorithm from the
lowest column up, in `<think>` tags, and the answer in `\\boxed{}`.
"""

import json

COLUMNS = ("ones", "tens", "hundreds")
WORDS = {"+": "plus", "-": "minus", "*": "times"}

PHRASES = (
    "{a}{s}{b}=?",
    "{a} {s} {b} = ?",
    "{a}{s}{b}",
    "{a} {s} {b}",
    "{a}{s}{b}=",
    "What is {a}{s}{b}?",
    "What is {a} {s} {b}?",
    "Compute {a} {s} {b}.",
    "Calculate {a}{s}{b}",
    "What is {a} {w} {b}?",
    "{a} {w} {b}",
)


def solve(problem):
    op, a, b = problem
    return a + b if op == "+" else a - b if op == "-" else a * b


def key(problem):
    """What makes two problems the same: operand order counts in `-` alone."""
    op, a, b = problem
    return (op, a, b) if op == "-" else (op, min(a, b), max(a, b))


def phrase(problem, rng):
    op, a, b = problem
    return rng.choice(PHRASES).format(a=a, b=b, s=op, w=WORDS[op])


def _number(rng):
    digits = rng.choices((1, 2, 3), weights=(1, 3, 6))[0]
    return rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def sample(rng, op=None):
    op = op or rng.choices("+-*", weights=(33, 40, 27))[0]
    if op == "*":
        # The one-digit times one-digit table is rehearsed along the way.
        a = rng.randrange(10, 100) if rng.random() < 0.92 else rng.randrange(10)
        b = rng.randrange(10)
        return (op, a, b) if rng.random() < 0.5 else (op, b, a)
    a, b = _number(rng), _number(rng)
    if op == "-" and rng.random() < 0.15:
        # Near-equal operands are rare among uniform pairs, yet they are the
        # ones that need a long comparison and leading zeros to be dropped.
        b = min(999, max(0, a + rng.randint(-20, 20)))
    return (op, a, b)


def _digits(value, width):
    """The digits of `value`, lowest first."""
    return [int(c) for c in reversed(str(value).zfill(width))]


def chain(problem):
    op, a, b = problem
    if op == "*":
        lines = _multiply(max(a, b), min(a, b))
    else:
        width = len(str(max(a, b)))
        lines = [f"{a:0{width}}{op}{b:0{width}}"]
        lines += _add(a, b, width) if op == "+" else _subtract(a, b, width)
    thought = "\n".join(lines)
    return f"<think>\n{thought}\n</think>\n\n\\boxed{{{solve(problem)}}}"


def _add(a, b, width):
    lines, carry = [], 0
    for column, x, y in zip(COLUMNS, _digits(a, width), _digits(b, width)):
        total = x + y + carry
        lines.append(f"{column}: {x}+{y}+{carry}={total}")
        carry = total // 10
    return lines


def _subtract(a, b, width):
    # Digits from the highest down until two differ: that decides the sign.
    steps = []
    for x, y in zip(reversed(_digits(a, width)), reversed(_digits(b, width))):
        steps.append(f"{x}{'<' if x < y else '>' if x > y else '='}{y}")
        if x != y:
            break
    lines = ["compare: " + ", ".join(steps)]
    if a < b:
        a, b = b, a
        lines.append(f"negative: {a:0{width}}-{b:0{width}}")
    borrow = 0
    for column, x, y in zip(COLUMNS, _digits(a, width), _digits(b, width)):
        top = x + 10 if x < y + borrow else x
        lines.append(f"{column}: {top}-{y}-{borrow}={top - y - borrow}")
        borrow = top // 10
    return lines


def _multiply(a, b):
    lines, carry = [f"{a}*{b}"], 0
    for column, x in zip(COLUMNS, reversed(str(a))):
        product = int(x) * b
        line = f"{column}: {x}*{b}={product}"
        if column != "ones":
            line += f", {product}+{carry}={product + carry}"
        lines.append(line)
        carry = product // 10
    return lines


def held_out(rng, counts):
    """`counts[op]` distinct problems of each kind, as (problem, wording)."""
    seen, out = set(), []
    for op, count in counts.items():
        while count:
            problem = sample(rng, op)
            if key(problem) not in seen:
                seen.add(key(problem))
                out.append((problem, phrase(problem, rng)))
                count -= 1
    rng.shuffle(out)
    return out


def write_held_out(path, items):
    with open(path, "w") as file:
        for problem, text in items:
            row = {"problem": text, "answer": str(solve(problem))}
            file.write(json.dumps(row) + "\n")


def boxed(reply):
    """The answer of a reply, or None where it has none after its chain."""
    _, closed, tail = reply.partition("</think>")
    _, opened, tail = tail.partition("\\boxed{")
    return tail.partition("}")[0] if closed and opened and "}" in tail else None
