#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""guards.py - what do the guards of the protocol cost, from Kafka to Redis?

    bench/guards.py [--pairs N] [--events N] [--callgrind redis|daemon]
    cmake --preset release && cmake --build --preset release        before

2,000,000 events, half of which meet a new account, lie in a real Kafka.  cloutd-guards reads them into an empty redis-server
to the end, once with all guards, once with a connection that leaves them out (bench/guards_link.c says which), in turns, so
that whatever else the machine does meets both.  The scores of every run are compared with the oracle.

Time runs from the assignment of the partitions to the end of the process, CPU time from its start.  With --callgrind
one of the two runs under valgrind and its instructions are counted, which repeat on a busy machine; it is some 50 times as slow
then, so give it fewer events.  The seconds mean nothing then.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
os.environ.setdefault("CLOUTD_BUILD", str(ROOT / "build" / "release"))

import children  # noqa: E402  it lies beside this file
import harness  # noqa: E402  the build's folder is named before
from oracle import Window  # noqa: E402
from policies import DAY, HOUR  # noqa: E402
from stream import fill_with_newcomers  # noqa: E402

GUARDS = harness.BUILD.resolve() / "bench" / "cloutd-guards"


class CpuTime:
    """us that Redis took."""

    what, unit = "Redis", "us"

    def begin(self, redis):
        self.before = self.now(redis)

    def end(self, redis):
        return (self.now(redis) - self.before) * 1e6

    def now(self, redis):
        cpu = redis.client.info("cpu")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


class Instructions:
    """Of a program that runs under callgrind; its place is @folder/name."""

    unit = "instructions"

    def __init__(self, folder, name, program):
        self.folder = folder
        (folder / "real").mkdir()
        real = folder / "real" / name
        real.symlink_to(program)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text("#!/bin/sh\nexec valgrind -q --tool=callgrind "
                                   f"--callgrind-out-file={folder}/out {real} \"$@\"\n")
        (folder / name).chmod(0o755)

    def begin(self, redis):
        self.end(redis)

    def end(self, _):
        """Since the last time."""
        dumps = list(self.folder.glob("out*"))
        total = sum(int(line.split()[1]) for dump in dumps for line in dump.read_text().splitlines()
                    if line.startswith("totals:"))
        for dump in dumps:
            dump.unlink()
        return total


class RedisInstructions(Instructions):
    """Redis runs on, so it is told to write down what it has so far."""

    what = "Redis"

    def __init__(self, folder):
        super().__init__(folder, "redis-server", Path(harness.redis_server_program(folder)).resolve())
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"

    def begin(self, redis):
        # What it does by the clock is the more, the slower the machine.
        for name, value in {"hz": 1, "dynamic-hz": "no", "activerehashing": "no"}.items():
            redis.client.config_set(name, value)
        super().begin(redis)

    def end(self, redis):
        subprocess.run(["callgrind_control", "--dump", str(redis.process.pid)], check=True, capture_output=True)
        return super().end(redis)


class DaemonInstructions(Instructions):
    what = "the daemon"

    def __init__(self, folder):
        super().__init__(folder, "cloutd", GUARDS)


METERS = {"redis": RedisInstructions, "daemon": DaemonInstructions}


def daemon_cpu_us():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (children.ru_utime + children.ru_stime) * 1e6


def run(world, meter, events, guards, number):
    world.redis.restart_empty()
    os.environ["CLOUTD_BENCH_GUARDS"] = guards
    meter.begin(world.redis)
    before_us = daemon_cpu_us()
    daemon = world.daemon("--until-end", kafka={**world.config["kafka"], "group": f"guards-{number}"})
    while not daemon.had_partitions():
        assert daemon.process.poll() is None, daemon.log_tail()
        time.sleep(0.002)
    began = time.monotonic()
    status = daemon.wait(3600)
    seconds = time.monotonic() - began
    assert status == 0, daemon.log_tail()
    daemon_us, metered = daemon_cpu_us() - before_us, meter.end(world.redis)
    calls = Counter({name[8:]: row["calls"] for name, row in world.redis.client.info("commandstats").items()})
    world.check()
    print(f"guards {guards:3}  {seconds:6.2f} s  {events / seconds:9,.0f} events/s  daemon {daemon_us / events:.2f} us/event  "
          f"{meter.what} {metered / events:,.2f} {meter.unit}/event", flush=True)
    print("           commands: " + ", ".join(f"{name} {n:,}" for name, n in calls.most_common(8)), flush=True)
    return {"seconds": seconds, "us of the daemon an event": daemon_us / events,
            f"{meter.unit} of {meter.what} an event": metered / events}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--callgrind", choices=METERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cloutd-guards-") as name, children.ended_with_us():
        folder = Path(name)
        build = folder / "build"
        build.mkdir()
        (build / "cloutd").symlink_to(GUARDS)
        meter = METERS[options.callgrind](build) if options.callgrind else CpuTime()
        harness.BUILD = build
        kafka = harness.Kafka(folder / "kafka")
        (folder / "world").mkdir()
        world = harness.World(kafka, folder / "world", partitions=4, lanes=2, headline="30d", boards=1000,
                              windows=[Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY)])
        try:
            print(f"guards: {options.events:,} events into Kafka ...", flush=True)
            fill_with_newcomers(world, options.events)
            pairs = []
            for pair in range(options.pairs):
                order = ("on", "off") if pair % 2 == 0 else ("off", "on")
                pairs.append({guards: run(world, meter, options.events, guards, f"{pair}-{guards}") for guards in order})
            for figure in pairs[0]["on"]:
                on, off = (statistics.median(pair[guards][figure] for pair in pairs) for guards in ("on", "off"))
                ratios = [pair["off"][figure] / pair["on"][figure] for pair in pairs]
                print(f"{figure}: median on {on:.2f}, off {off:.2f}; off / on in each pair: "
                      f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
        finally:
            world.close()
            kafka.stop()


if __name__ == "__main__":
    main()
