#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tables.py - the tables of docs/performance.md, out of what bench/run --json has kept.

    bench/run --json FILE; bench/tables.py FILE

In the page a table lies between <!-- table NAME --> and <!-- end -->.  Those of whose figures all are in FILE are written anew,
each with the commit and the load; the rest stays as it is, and so is of the commit that it names.
"""

import json
import re
import statistics
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def number(value):
    if value == round(value) and abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:,.3f}" if abs(value) < 2 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def shown(value):
    """A number; of several the median, with least and most; or why there is none."""
    if isinstance(value, str):
        return f"not measured here: {value}"
    if not isinstance(value, list):
        return number(value)
    return number(statistics.median(value)) + (f" ({number(min(value))} to {number(max(value))})" if len(value) > 1 else "")


def table(*rows):
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *rest]


def goals(run, _):
    if any(goal["measured"] == "not asked for" for goal in run["goals"]):
        raise KeyError("goals")
    return table(("what", "measured", "goal", ""),
                 *((goal["what"], shown(run["figures"].get(goal["figure"], goal["measured"])),
                    {"<=": "≤ ", ">=": "≥ "}[goal["how"]] + number(goal["limit"]),
                    {True: "met", False: "**not met**", None: ""}[goal["met"]]) for goal in run["goals"]))


def instructions(_, figure):
    return table(("", "instructions"),
                 *((what, number(figure(f"instructions.{name}"))) for what, name in (
                     ("decode a message of 135 bytes, keys in one order", "decode"),
                     ("find its account, with both look-ahead passes", "find"), ("count it", "count"),
                     ("encode an account's commands for Redis", "encode"),
                     ("all that the thread does for an account that slides out of a window", "slide"),
                     ("the same to load one", "load"),
                     ("an event with other windows, most ÷ least", "windows"))))


def decode(_, figure):
    rivals = [name for name in ("yyjson", "simdjson", "jansson") if not isinstance(figure(f"decode.to_{name}.stable"), str)]
    return table(("ns of CPU an event", "", *(f"÷ {name}" for name in rivals)),
                 *((what, shown(figure(f"decode.{key}_ns")),
                    *(shown(figure(f"decode.to_{name}.{key}")) if key in ("stable", "shuffled") else "" for name in rivals))
                   for what, key in (("keys in one order", "stable"), ("5 % in another order", "some_odd"),
                                     ("keys shuffled, spaces", "shuffled"), ("escapes in both ids", "escaped"))))


def finding(_, figure):
    sizes = sorted({int(name.split(".")[2]) for name in figure.names if name.startswith("table.decoded_batches_ns.")})
    if not sizes:
        raise KeyError("table.decoded_batches_ns")
    return table(("ns of CPU, behind the decoder", "", "in batches of 64", "one by one", "chained table with a mutex",
                  "batches ÷ one by one"),
                 *((f"{size:,} accounts", law.replace("_", " "),
                    *(shown(figure(f"table.decoded_{way}.{size}.{law}")) for way in (
                        "batches_ns", "singly_ns", "mutex_ns", "to_singly")))
                   for size in sizes for law in ("even", "zipf_1.0", "zipf_1.1")))


def histories(_, figure):
    return table(("buckets in use", "add", "all windows", "rival's"),
                 *((str(n), *(shown(figure(f"window.{what}_ns.{n}")) for what in ("add", "tally", "rival_tally")))
                   for n in (1, 5, 30, 114)))


def lane(_, figure):
    return table(("ns of CPU of a lane's thread", ""),
                 *((what, shown(figure(f"lane.{name}"))) for what, name in (
                     ("an event, in batches", "event_ns"), ("an event, one by one", "event_singly_ns"),
                     ("an account written: folded, added up, packed, guarded, acknowledged", "write_ns"),
                     ("the rival: its public fields by `redisAppendCommand()`", "rival_write_ns"),
                     ("an account written ÷ the rival's", "write_to_rival"),
                     ("an account that slides out of a window, written", "slide_ns"), ("an account loaded", "load_ns"))))


def pipe(_, figure):
    figure("pipe.cloutd.cpu_ns")
    names = [name for name in ("floor", "cloutd", "naive", "go") if f"pipe.{name}.cpu_ns" in figure.names]
    rows = (("CPU an event, ns", "cpu_ns"), ("events a second", "events_per_s"), ("CPU of Redis an event, ns", "redis_cpu_ns"),
            ("CPU of Redis an account write, ns", "redis_cpu_ns_per_write"), ("account writes", "account_writes"),
            ("bytes to Redis an event", "redis_bytes_in"), ("peak RSS, MiB", "peak_rss_mib"))
    return table(("", *names),
                 *((what, *(shown(figure(f"pipe.{name}.{key}")) if f"pipe.{name}.{key}" in figure.names else "–" for name in names))
                   for what, key in rows),
                 ("**cloutd's CPU ÷**", *("" if name == "cloutd" else shown(figure(f"pipe.cpu_to_{name}")) for name in names)))


def live(_, figure):
    return table(("", ""),
                 *((what, shown(figure(name))) for what, name in (
                     ("highest sustained rate, events a second", "live.sustained_per_s"),
                     ("at half of it, from produce to readable, ms: median", "live.p50_ms"), ("99 %", "live.p99_ms"),
                     ("99.9 %", "live.p999_ms"), ("catch-up, events a second", "catchup.events_per_s"),
                     ("its floors: the bare loop", "catchup.floor_events_per_s"),
                     ("Redis fed once", "catchup.refill_events_per_s"),
                     ("10,000,000 accounts: the rate that holds", "klout.rate_per_s"))))


TABLES = {function.__name__: function for function in (goals, instructions, decode, finding, histories, lane, pipe, live)}


def main():
    run = json.loads(Path(sys.argv[1]).read_text())
    figures = run["figures"]

    def figure(name):
        if figures[name] == "not asked for":
            raise KeyError(name)
        return figures[name]

    figure.names = figures.keys()
    of = f"Commit {run['machine']['commit']}, {run['date']}, {run['size']}, load {run['machine']['load']:.1f} at the start."

    def written(match):
        try:
            lines = TABLES[match[1]](run, figure)
        except KeyError as missing:
            print(f"{match[1]}: stays, for there is no {missing.args[0]}")
            return match[0]
        return "\n".join([f"<!-- table {match[1]} -->", of, "", *lines, "<!-- end -->"])

    PAGE.write_text(re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", written, PAGE.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main()
