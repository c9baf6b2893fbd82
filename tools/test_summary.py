#!/usr/bin/env python3
"""Adds up the test results in a folder of XML files.

GoogleTest, ctest and lit write the same dialect of XML. A ctest entry whose
binary also wrote a GoogleTest file is counted by its cases. A binary that died
before it could write that file counts as one failure. The last line printed is
`N passed, N failed`; the exit code is 1 if something failed or nothing ran.

With --record NAME --status N, adds the result of one command to the folder.
"""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as xml


def case_state(case):
    """'passed', 'failed' or 'skipped'."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None or case.get("result") in (
            "skipped", "suppressed"):
        return "skipped"
    if case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "failed" if case.get("status") == "fail" else "passed"


def read_cases(path):
    """Pairs of a full test name and its state."""
    try:
        root = xml.parse(path).getroot()
    except xml.ParseError as error:
        return [(f"{path.name} ({error})", "failed")]
    return [(f"{case.get('classname', '')}.{case.get('name', '')}".strip("."),
             case_state(case)) for case in root.iter("testcase")]


def collect(folder):
    gtest = {}
    for path in sorted(folder.glob("*-gtest/*.xml")):
        preset = path.parent.name.removesuffix("-gtest")
        gtest[preset, path.stem] = read_cases(path)
    cases = []
    for path in sorted(folder.glob("*.xml")):
        preset = path.stem.removesuffix("-ctest")
        for name, state in read_cases(path):
            # ctest names a GoogleTest entry after its binary, and so does
            # GoogleTest its file.
            inner = gtest.get((preset, name.rpartition(".")[2]))
            if path.stem.endswith("-ctest") and inner is not None:
                failed = any(s == "failed" for _, s in inner)
                cases += [(f"{preset}: {n}", s) for n, s in inner]
                if state == "failed" and not failed:
                    cases.append((f"{preset}: {name} (exit)", "failed"))
            else:
                cases.append((f"{path.stem}: {name}", state))
    return cases


def record(folder, name, status):
    suite = xml.Element("testsuite")
    case = xml.SubElement(suite, "testcase", name=name)
    if status:
        xml.SubElement(case, "failure", message=f"exit code {status}")
    xml.ElementTree(suite).write(folder / f"command-{name}.xml")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--status", type=int, default=0)
    args = parser.parse_args()
    if args.record:
        record(args.folder, args.record, args.status)
        return 0
    cases = collect(args.folder)
    for name, state in cases:
        if state != "passed":
            print(f"{state}: {name}")
    count = {s: sum(1 for _, state in cases if state == s)
             for s in ("passed", "failed", "skipped")}
    if count["skipped"]:
        print(f"{count['skipped']} skipped")
    print(f"{count['passed']} passed, {count['failed']} failed", flush=True)
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
