# SPDX-License-Identifier: Apache-2.0
"""2,000,000 events over 1,000,000 accounts, every one of them compared; and what that cost.

The figures are for the machine at hand, with the broker and Redis on the same cores: they say whether something became
much slower, not how fast cloutd is (bench/ does)."""

import json
import random
import resource
import time

import pytest

from harness import Record
from oracle import Window
from policies import DAY, HOUR

EVENTS, ACCOUNTS, CHUNK = 2_000_000, 1_000_000, 100_000
T0 = 1_718_000_000_000


@pytest.mark.big
def test_two_million_events_over_a_million_accounts(new_world):
    world = new_world(partitions=4, lanes=2, windows=[Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY)],
                      headline="30d", boards=1000)
    rnd = random.Random(99)
    partition_of = [world.partition_of(b"u%d" % i) for i in range(ACCOUNTS)]
    types = ["retweet", "reply", "follow"]
    for begin in range(0, EVENTS, CHUNK):
        records = []
        for i in range(begin, begin + CHUNK):
            # Each account once, then a second round in which few draw most.
            account = i if i < ACCOUNTS else int(ACCOUNTS * rnd.random() ** 4)
            now = T0 + i * 1500
            value = (f'{{"type":"{types[i % 3]}","actor":"a{i % 9973}","actor_followers":{i * 7919 % 250_000},'
                     f'"target":"u{account}","ts":{now - i % 7 * HOUR}}}').encode()
            records.append(Record(partition_of[account], now, b"u%d" % account, value))
        world.send(*records)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    redis_before = world.redis.client.info()
    began = time.monotonic()
    daemon = world.daemon("--until-end")
    peak_kib = 0
    while daemon.process.poll() is None:
        with open(f"/proc/{daemon.process.pid}/status") as status:
            peak_kib = max([peak_kib] + [int(line.split()[1]) for line in status if line.startswith("VmHWM")])
        assert time.monotonic() < began + 300, daemon.log_tail()
        time.sleep(0.05)
    seconds = time.monotonic() - began
    assert daemon.wait() == 0, daemon.log_tail()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    redis_after = world.redis.client.info()
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    redis_cpu = sum(redis_after[name] - redis_before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    print("figures: " + json.dumps({
        "events_per_second": round(EVENTS / seconds), "seconds": round(seconds, 1),
        "daemon_cpu_ns_per_event": round(cpu / EVENTS * 1e9), "redis_cpu_us_per_event": round(redis_cpu / EVENTS * 1e6, 2),
        "daemon_peak_rss_mib": peak_kib // 1024, "redis_used_memory_mib": redis_after["used_memory"] // 2**20}))
    world.check_positions()
    world.check_books(daemon.last_books())
    world.check()
