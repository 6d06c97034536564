# SPDX-License-Identifier: Apache-2.0
"""conftest.py - where pytest looks for fixtures; at the end, how often everything was broken."""

# ruff: noqa: E402, F401  the folder first; fixtures are used by their names
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from fixtures import ca, kafka, new_world, pytest_configure, pytest_runtest_makereport

import chaos
from faults import FAULTS, PARTIES

COUNTERS = {"faults": chaos.faults, "wires": chaos.wires, "totals": chaos.totals}


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["chaos"] = {name: dict(counter) for name, counter in COUNTERS.items()}


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node):
    for name, counted in getattr(node, "workeroutput", {}).get("chaos", {}).items():
        COUNTERS[name].update(counted)


def pytest_terminal_summary(terminalreporter):
    # A line that begins with "figures:" is repeated by ./check.
    lines = [(party, {name: n for name, n in chaos.faults.items() if FAULTS[name].party == party}) for party in PARTIES]
    for what, counts in [*lines, ("the wires then", chaos.wires), ("the daemons counted", chaos.totals)]:
        if counts:
            terminalreporter.write_line(f"figures: {what}: " + ", ".join(
                f"{name} {n}" for name, n in sorted(counts.items())))
