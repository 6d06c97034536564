#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""guards.py - what do the guards of the protocol cost, from Kafka to Redis?

    bench/guards.py [PAIRS]        needs a release build (cmake --preset release && cmake --build --preset release)

2,000,000 events over 1,000,000 accounts lie in a real Kafka.  cloutd-guards reads them into an empty redis-server to
the end, once with MULTI, EXEC, WATCH and the look at the own keys, once without (bench/guards_link.c), in turns, so that
whatever else the machine does meets both.  The scores of every run are compared with the oracle.  Time runs from
the assignment of the partitions to the end of the process.
"""

import os
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
os.environ.setdefault("CLOUTD_BUILD", str(ROOT / "build" / "release"))

import harness  # noqa: E402  the build's folder is named before
from oracle import Window  # noqa: E402
from policies import DAY, HOUR  # noqa: E402

EVENTS, ACCOUNTS, CHUNK = 2_000_000, 1_000_000, 100_000
T0 = 1_718_000_000_000


def fill(world):
    rnd = random.Random(99)
    partition_of = [world.partition_of(b"u%d" % i) for i in range(ACCOUNTS)]
    types = ["retweet", "reply", "follow"]
    for begin in range(0, EVENTS, CHUNK):
        records = []
        for i in range(begin, begin + CHUNK):
            # Each account once, then a second round in which few draw most: as tests/integration/test_big.py.
            account = i if i < ACCOUNTS else int(ACCOUNTS * rnd.random() ** 4)
            now = T0 + i * 1500
            value = (f'{{"type":"{types[i % 3]}","actor":"a{i % 9973}","actor_followers":{i * 7919 % 250_000},'
                     f'"target":"u{account}","ts":{now - i % 7 * HOUR}}}').encode()
            records.append(harness.Record(partition_of[account], now, b"u%d" % account, value))
        world.send(*records)


def run(world, guards, number):
    world.redis.restart_empty()
    os.environ["CLOUTD_BENCH_GUARDS"] = guards
    before, redis_before = resource.getrusage(resource.RUSAGE_CHILDREN), world.redis.client.info()
    daemon = world.daemon("--until-end", kafka={**world.config["kafka"], "group": f"guards-{number}"})
    while not daemon.had_partitions():
        assert daemon.process.poll() is None, daemon.log_tail()
        time.sleep(0.002)
    began = time.monotonic()
    status = daemon.wait(300)
    seconds = time.monotonic() - began
    assert status == 0, daemon.log_tail()
    after, redis_after = resource.getrusage(resource.RUSAGE_CHILDREN), world.redis.client.info()
    world.check()
    return {"seconds": seconds,
            "cpu_us": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / EVENTS * 1e6,
            "redis_us": sum(redis_after[name] - redis_before[name]
                            for name in ("used_cpu_user", "used_cpu_sys")) / EVENTS * 1e6}


def main():
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="cloutd-guards-") as name:
        folder = Path(name)
        build = folder / "build"
        build.mkdir()
        (build / "cloutd").symlink_to(harness.BUILD.resolve() / "bench" / "cloutd-guards")
        harness.BUILD = build
        kafka = harness.Kafka(folder / "kafka")
        (folder / "world").mkdir()
        world = harness.World(kafka, folder / "world", partitions=4, lanes=2, headline="30d", boards=1000,
                              windows=[Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY)])
        try:
            print(f"guards: {EVENTS:,} events into Kafka ...", flush=True)
            fill(world)
            ratios, figures = [], {"on": [], "off": []}
            for pair in range(pairs):
                both = {}
                for guards in ("on", "off") if pair % 2 == 0 else ("off", "on"):
                    both[guards] = run(world, guards, f"{pair}-{guards}")
                    figures[guards].append(both[guards])
                    print(f"guards {guards:3}  {both[guards]['seconds']:6.2f} s  "
                          f"{EVENTS / both[guards]['seconds']:9,.0f} events/s  daemon {both[guards]['cpu_us']:.2f} us/event  "
                          f"Redis {both[guards]['redis_us']:.2f} us/event", flush=True)
                ratios.append(both["off"]["seconds"] / both["on"]["seconds"])
            for figure in ("seconds", "cpu_us", "redis_us"):
                on, off = (statistics.median(f[figure] for f in figures[guards]) for guards in ("on", "off"))
                print(f"median of {figure}: on {on:.2f}, off {off:.2f}, off / on {off / on:.3f}")
            print(f"throughput on / off: median {statistics.median(ratios):.3f}, min {min(ratios):.3f}, "
                  f"max {max(ratios):.3f} of {pairs} pairs")
        finally:
            world.close()
            kafka.stop()


if __name__ == "__main__":
    main()
