# SPDX-License-Identifier: Apache-2.0
"""2,000,000 events over 1,000,000 accounts, every one of them compared; and what that cost.

The figures are for the machine at hand, with the broker and Redis on the same cores: they say whether something became
much slower, not how fast cloutd is (bench/ does)."""

import json
import resource
import time

import pytest

from oracle import Window
from policies import DAY, HOUR
from stream import fill_with_newcomers

EVENTS = 2_000_000


@pytest.mark.big
def test_two_million_events_over_a_million_accounts(new_world):
    world = new_world(partitions=4, lanes=2, windows=[Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY)],
                      headline="30d", boards=1000)
    fill_with_newcomers(world, EVENTS)
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
