#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""rules.py - does the page name every rule of the protocol, and where in the code each one lives?

    rules.py check PAGE            compares the table in PAGE with daemon/rules.h and the sources; exit 1 and what differs
    rules.py table RUNS            the table anew; RUNS holds what `sim --break-all` printed: which rule, after how many runs

A row of the table:  | NAME | section | file: function, ... | what breaks without it | runs |
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rules():
    """{name: (section, what breaks without it)}, in the order of rules.h"""
    text = re.sub(r'\s*\\\n\s*', " ", (ROOT / "daemon" / "rules.h").read_text())
    text = re.sub(r'" "', "", text)  # a sentence on two lines is two strings
    return {name: (section, without.replace('\\"', '"'))
            for name, section, without in re.findall(r'X\((\w+), "([^"]*)", *"((?:[^"\\]|\\.)*)"\)', text)}


def places():
    """{name: ["file: function", ...]}"""
    found = {}
    # What the daemon never does (BOARD_NO_CAP) has its place in the simulator, which does it.
    for path in [*sorted((ROOT / "daemon").glob("*.[ch]")), *sorted((ROOT / "tests" / "sim").glob("*.[ch]"))]:
        if path.name == "rules.h":
            continue
        function = "?"
        for line in path.read_text().splitlines():
            begins = re.match(r"[a-z][\w\s*]*?\b(\w+)\(", line)
            if begins and not line.rstrip().endswith(";"):
                function = begins[1]
            for name in re.findall(r"\bRULE\((\w+)\)", line):
                place = f"{path.name if path.parent.name == 'daemon' else path.relative_to(ROOT)}: {function}"
                if place not in found.setdefault(name, []):
                    found[name].append(place)
    return found


def table(runs):
    where = places()
    lines = ["| rule | § | lives in | without it | found after |", "|---|---|---|---|---|"]
    for name, (section, without) in rules().items():
        at = ", ".join(f"`{place}`" for place in where.get(name, ["nowhere"]))
        lines.append(f"| {name} | {section} | {at} | {without} | {runs.get(name, '?')} |")
    return "\n".join(lines)


def check(page):
    shown = {}
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"[A-Z][A-Z0-9_]+", cells[0]):
            shown[cells[0]] = cells
    wrong = [f"{name}: in the page, not in rules.h" for name in shown.keys() - rules().keys()]
    where = places()
    wrong += [f"{name}: no RULE({name}) in the sources" for name in rules().keys() - where.keys()]
    wrong += [f"{name}: RULE({name}) in {where[name][0]}, not in rules.h" for name in where.keys() - rules().keys()]
    for name, (section, without) in rules().items():
        if name not in shown:
            wrong.append(f"{name}: not in the page")
            continue
        want = [name, section, ", ".join(f"`{place}`" for place in where.get(name, [])), without]
        wrong += [f"{name}: the page says {got!r}, it is {is_!r}" for got, is_ in zip(shown[name], want) if got != is_]
        if not re.match(r"\d|not found", shown[name][4]):
            wrong.append(f"{name}: after how many runs the simulator finds it is not said")
    for text in wrong:
        print(f"{page}: {text}")
    return not wrong


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "check":
        return 0 if check(Path(sys.argv[2])) else 1
    if len(sys.argv) == 3 and sys.argv[1] == "table":
        print(table(dict(re.findall(r"^([A-Z][A-Z0-9_]+) +(\d+|not found)", Path(sys.argv[2]).read_text(), re.M))))
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main())
