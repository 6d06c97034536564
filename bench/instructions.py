#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""instructions.py - how many instructions do an event and an account cost?  What no other work on the machine can change.

    bench/instructions.py            print them
    bench/instructions.py --check    and fail if one is more than 3 % above what instructions.json says (./check does)
    bench/instructions.py --write    make them the figures of instructions.json

bench_lane runs under callgrind.  A figure is what the calls of some functions cost, with all that these call, for each call of
the first:

    decode    decode_event()      a message's line to an event
    find      table_find_likely() and the two look-ahead passes before it
    count     account_event()     its fold of a full or past stretch included
    encode    account_encode()    an account's commands for Redis, and gather_put(), its part of those for many

bench/run also shows what no figure is kept of, since it has polling in it: all that the thread does for an account that

    slide     slides out of a window, when a day passes
    load      has an event and is not in memory, less what one that is takes

They are as exact as the code that they count: another compiler or library makes other code, so they are compared only where
compiler, library and architecture are those that instructions.json names; elsewhere they are printed.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import children  # noqa: E402  it lies beside this file

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("CLOUTD_BUILD", ROOT / "build" / "release"))
COMMITTED = Path(__file__).resolve().with_name("instructions.json")
FUNCTIONS = {"decode": ["decode_event"], "find": ["table_find_likely", "table_prefetch_index", "table_prefetch_record"],
             "count": ["account_event"], "encode": ["account_encode", "gather_put"]}
SIZE = ("--accounts", "5000", "--events", "20000", "--rounds", "4")
SMALL = ("--accounts", "1000", "--events", "3000", "--rounds", "4")
TURN = ("slide", "events_for_touched")  # of bench_lane: each call is a part of the profile for itself
TOLERANCE = 0.03
DEFAULT_LAYOUT = "3 windows"
LAYOUTS = {"1 window of 24 buckets": "[{length: 24h, bucket: 1h}]",
           DEFAULT_LAYOUT: "[{length: 24h, bucket: 1h}, {length: 30d, bucket: 1d}, {length: 90d, bucket: 1d}]",
           "3 windows, one of 720 buckets": "[{length: 24h, bucket: 1h}, {length: 30d, bucket: 1h}, {length: 90d, bucket: 1d}]"}


def calls_of(profile):
    """{function: (calls, instructions with all that they call)} of a callgrind.out."""
    names, totals, callee, n = {}, {}, None, None
    for line in profile.splitlines():
        named = re.match(r"c?fn=\((\d+)\)(?: (.+))?", line)
        if named:
            if named[2]:
                names[named[1]] = named[2]
            if line.startswith("c"):
                callee = names[named[1]]
        elif line.startswith("calls="):
            n = int(line[6:].split()[0])
        elif n is not None:
            calls, cost = totals.get(callee, (0, 0))
            totals[callee] = calls + n, cost + int(line.split()[1])
            n = None
    return totals


def profile(*arguments, size=SIZE):
    """(callgrind's files in their order, what bench_lane printed)"""
    with tempfile.TemporaryDirectory(prefix="cloutd-instructions-") as folder:
        out = Path(folder, "out")
        parts = [f"--dump-{when}={function}" for function in TURN for when in ("before", "after")]
        done = subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", *parts,
                               BUILD / "bench" / "bench_lane", *size, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"bench_lane under callgrind: {done.returncode}\n{done.stdout[-2000:]}")
        files = sorted(out.parent.glob("out*"), key=lambda path: (path == out, int(path.suffix[1:] or 0)))
        return [path.read_text() for path in files], done.stdout


def count(*arguments, **size):
    """Instructions by figure, of what comes before the first turn."""
    totals = calls_of(profile(*arguments, **size)[0][0])
    missing = [name for functions in FUNCTIONS.values() for name in functions if name not in totals]
    if missing:
        raise RuntimeError(f"nobody calls {', '.join(missing)}: renamed, or inlined? FUNCTIONS says what a figure is made of")
    return {figure: round(sum(totals[name][1] for name in functions) / totals[functions[0]][0], 1)
            for figure, functions in FUNCTIONS.items()}


def count_turn(**size):
    """Instructions of the thread for an account."""
    files, said = profile("--turns", "1", **size)
    slide, strangers, residents = (int(re.search(r"^totals: (\d+)", text, re.MULTILINE)[1]) for text in files
                                   if "Trigger: --dump-after=" in text)
    printed = json.loads(said[said.index("figures: ") + len("figures: "):])
    return {"slide": slide / printed["slid"], "load": (strangers - residents) / printed["loaded"]}


def place():
    def version(*command):
        return re.search(r"\d+(\.\d+)+", subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]

    return {"compiler": "gcc " + version("gcc", "-dumpfullversion"), "libc": " ".join(platform.libc_ver()),
            "architecture": platform.machine()}


def by_windows(say=print, **size):
    """The figures, and what an event costs with other windows: the dearest as a multiple of the cheapest."""
    costs, figures = {}, {}
    for name, windows in LAYOUTS.items():
        figures[name] = count("--windows", windows, **size)
        costs[name] = sum(figures[name][part] for part in ("decode", "find", "count"))
        say(f"  {name}: {costs[name]:,.0f} an event, {figures[name]['encode']:,.0f} an account written")
    turn = count_turn(**size)
    say("  " + ", ".join(f"{name} {n:,.0f}" for name, n in {**figures[DEFAULT_LAYOUT], **turn}.items()))
    return {**figures[DEFAULT_LAYOUT], **turn, "windows": max(costs.values()) / min(costs.values())}


def main():
    parser = argparse.ArgumentParser(description="Count instructions.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with children.ended_with_us():
        figures, here = count(), place()
    print("figures: " + json.dumps(figures))
    if options.write:
        COMMITTED.write_text(json.dumps({**here, "figures": figures}, indent=1) + "\n")
        return
    committed = json.loads(COMMITTED.read_text())
    if {name: committed[name] for name in here} != here:
        print(f"not compared: this is {', '.join(here.values())}; instructions.json is of "
              f"{', '.join(committed[name] for name in here)}")
        return
    wrong = False
    for name, figure in figures.items():
        ratio = figure / committed["figures"][name]
        wrong = wrong or ratio > 1 + TOLERANCE
        print(f"{name:8} {figure:10,.1f}  committed {committed['figures'][name]:10,.1f}  {100 * ratio - 100:+.1f} %"
              + ("  TOO MANY" if ratio > 1 + TOLERANCE else "  fewer: --write says so" if ratio < 1 - TOLERANCE else ""))
    if options.check and wrong:
        sys.exit("an event or an account costs more than 3 % more instructions than it did")


if __name__ == "__main__":
    main()
