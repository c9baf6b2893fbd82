#!/usr/bin/env python3
"""Tests of tools/test_summary.py, by what it prints and how it exits."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools/test_summary.py"

GTEST = """<testsuites><testsuite name="A">
<testcase name="Good" classname="A" status="run" result="completed"/>
<testcase name="Skipped" classname="A" status="run" result="skipped">
<skipped message="no data"/></testcase>
{extra}</testsuite></testsuites>"""
GTEST_FAILURE = """<testcase name="Bad" classname="A" status="run">
<failure message="1 is not 2"/></testcase>"""
CTEST = """<testsuite>
<testcase name="unit" classname="unit" status="{status}">{inner}</testcase>
<testcase name="example" classname="example" status="run"/>
</testsuite>"""
LIT = """<testsuites><testsuite name="retort">
<testcase classname="retort" name="a.mlir"/>
<testcase classname="retort" name="b.mlir"><failure>diff</failure></testcase>
</testsuite></testsuites>"""


class Summary(unittest.TestCase):

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.addCleanup(self.scratch.cleanup)

    def write(self, path, text):
        path = self.folder / path
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def write_ctest(self, failed=False):
        self.write("dev-ctest.xml", CTEST.format(
            status="fail" if failed else "run",
            inner="<failure/>" if failed else ""))

    def expect(self, line, code):
        done = subprocess.run([sys.executable, TOOL, self.folder],
                              capture_output=True, text=True)
        self.assertEqual(done.stdout.splitlines()[-1], line, done.stdout)
        self.assertEqual(done.returncode, code)

    def test_counts_cases_instead_of_their_binary(self):
        self.write("dev-gtest/unit.xml", GTEST.format(extra=""))
        self.write_ctest()
        self.expect("2 passed, 0 failed", 0)

    def test_counts_failed_cases_once(self):
        self.write("dev-gtest/unit.xml", GTEST.format(extra=GTEST_FAILURE))
        self.write_ctest(failed=True)
        self.expect("2 passed, 1 failed", 1)

    def test_a_binary_that_dies_is_a_failure(self):
        self.write_ctest(failed=True)
        self.expect("1 passed, 1 failed", 1)

    def test_a_binary_that_fails_after_its_cases_is_a_failure(self):
        self.write("dev-gtest/unit.xml", GTEST.format(extra=""))
        self.write_ctest(failed=True)
        self.expect("2 passed, 1 failed", 1)

    def test_suites_of_one_name_stay_apart(self):
        self.write("asan-gtest/unit.xml", GTEST.format(extra=""))
        self.write_ctest()
        self.expect("2 passed, 0 failed", 0)

    def test_counts_lit(self):
        self.write("dev-lit-test.xml", LIT)
        self.expect("1 passed, 1 failed", 1)

    def test_broken_results_are_a_failure(self):
        self.write("dev-lit-test.xml", LIT[:60])
        self.expect("0 passed, 1 failed", 1)

    def test_nothing_is_a_failure(self):
        self.expect("0 passed, 0 failed", 1)

    def test_records_commands(self):
        for name, status in (("format", 0), ("build", 2)):
            subprocess.run([sys.executable, TOOL, "--record", name, "--status",
                            str(status), self.folder], check=True)
        self.expect("1 passed, 1 failed", 1)


if __name__ == "__main__":
    unittest.main()
