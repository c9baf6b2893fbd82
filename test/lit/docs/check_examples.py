#!/usr/bin/env python3
"""Checks that the examples in docs/ are what the tests say.

A page marks an example as a part of a test:

    <!-- from test/lit/docs/quantize.mlir: after -->
    ```mlir
    ...
    ```

and the test marks the part with the lines `// doc: after` and `// doc: end`.
Lines of the part that FileCheck reads count without their `// PREFIX-NEXT:`, so
what a page shows as output is checked letter by letter. With --write the pages
are brought up to date instead.
"""

import pathlib
import re
import sys

EXAMPLE = re.compile(
    r"<!-- from (?P<file>\S+): (?P<part>\S+) -->\n```mlir\n(?P<text>.*?)```\n",
    re.DOTALL)
FENCE = re.compile(r"^```mlir$", re.MULTILINE)
CHECK = re.compile(r"^// [A-Z]+(?:-NEXT|-SAME|-LABEL)?(?:\{LITERAL\})?: ?")


def read_part(root, file, name):
    """The text of a marked part, or an error message after None."""
    path = root / file
    if not path.exists():
        return None, f"no such test: {file}"
    lines, inside = [], False
    for line in path.read_text().splitlines():
        if line.strip() == f"// doc: {name}":
            inside = True
        elif line.strip() == "// doc: end":
            inside = False
        elif inside:
            lines.append(CHECK.sub("", line))
    if not lines:
        return None, f"{file} has no part '// doc: {name}'"
    return "\n".join(lines) + "\n", None


def check_page(root, page, write):
    text = page.read_text()
    errors = []

    def replace(match):
        part, error = read_part(root, match["file"], match["part"])
        if error:
            errors.append(error)
            return match[0]
        if part != match["text"] and not write:
            errors.append(f"the example from {match['file']} ({match['part']}) "
                          f"differs from the test, which has\n{part}")
        return match[0].replace(f"```mlir\n{match['text']}", f"```mlir\n{part}")

    updated = EXAMPLE.sub(replace, text)
    marked = len(EXAMPLE.findall(text))
    if len(FENCE.findall(text)) != marked:
        errors.append("an mlir example names no test that it is from")
    if write:
        page.write_text(updated)
    return marked, [f"{page.relative_to(root)}: {error}" for error in errors]


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    root = pathlib.Path(arguments[0]).resolve()
    total, errors = 0, []
    for page in sorted((root / "docs").glob("*.md")):
        marked, found = check_page(root, page, "--write" in sys.argv)
        total += marked
        errors += found
    print("\n".join(errors) or f"{total} examples are what the tests say")
    return 1 if errors or not total else 0


if __name__ == "__main__":
    sys.exit(main())
