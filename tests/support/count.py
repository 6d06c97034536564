#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count.py - how many tests passed, failed and were skipped?  Prints the three numbers.

    count.py ctest BUILD JUNIT     a program of Criterion counts the tests that its JSON names, any other counts as one
    count.py pytest JUNIT

What no report can be found for has failed: a run that was cut short must not look like a good one."""

import json
import sys
import xml.etree.ElementTree as xml
from pathlib import Path


def ctest(build, junit):
    passed = failed = skipped = 0
    for case in xml.parse(junit).iter("testcase"):
        kind, _, name = case.get("name").partition("/")
        good = case.get("status") == "run"
        report = Path(build, "tests", name + ".json")
        if kind == "unit" and report.exists() and report.stat().st_size > 0:
            counts = json.loads(report.read_text())
            bad = counts["failed"] + counts["errored"]
            passed += counts["passed"]
            skipped += counts["skipped"]
            # A leak, or a crash behind the last test: each test is fine, the program is not.
            failed += bad if bad or good else 1
        elif good:
            passed += 1
        else:
            failed += 1
    return passed, failed, skipped


def pytest(junit):
    suites = list(xml.parse(junit).iter("testsuite"))
    tests, bad, skipped = (sum(int(suite.get(name)) for suite in suites for name in names)
                           for names in (["tests"], ["failures", "errors"], ["skipped"]))
    return tests - bad - skipped, bad, skipped


def main():
    try:
        counts = {"ctest": ctest, "pytest": pytest}[sys.argv[1]](*sys.argv[2:])
    except (OSError, ValueError, KeyError, xml.ParseError) as error:
        print(f"count.py: {error!r}", file=sys.stderr)
        counts = 0, 1, 0
    print(*(counts if sum(counts) else (0, 1, 0)))


main()
