# SPDX-License-Identifier: Apache-2.0
"""conftest.py - where pytest looks for fixtures; at the end, how often everything was broken."""

# ruff: noqa: E402, F401  the folder first; fixtures are used by their names
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from fixtures import kafka, new_world, pytest_configure, pytest_runtest_makereport

import chaos


def pytest_terminal_summary(terminalreporter):
    # A line that begins with "figures:" is repeated by ./check.
    for what, counter in (("faults", chaos.faults), ("wires", chaos.wires), ("daemons", chaos.totals)):
        if counter:
            terminalreporter.write_line(f"figures: chaos {what}: " + ", ".join(
                f"{name} {n}" for name, n in sorted(counter.items())))
