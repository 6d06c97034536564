# SPDX-License-Identifier: Apache-2.0
"""Windows that slide by the machine's clock, with nobody touching the accounts: short ones, so that it can be watched."""

import time

from harness import now_ms
from oracle import Window
from policies import SECOND

SHORT = [Window("6s", 6 * SECOND, SECOND), Window("4s", 4 * SECOND, 2 * SECOND)]


def retweets(world, n, **more):
    now = now_ms()
    return [world.record({"type": "retweet", "actor": "a", "target": f"u{i}", "actor_followers": i * 400,
                          "ts": now - i % 5000, **more}, now) for i in range(n)]


def watch(world, seconds):
    """Every account is right, or was within 2 s, all the time."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        world.check(boards=False)
        time.sleep(0.1)


def test_scores_fall_within_two_seconds_of_their_edge(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*retweets(world, 400))
        world.wait_until_read()
        watch(world, 9)
        assert all(int(fields[b"score"]) == 0 for fields in world.read_accounts().values())
        world.check()
        assert daemon.metrics()["cloutd_edge_lag_seconds"] < 2


def test_an_event_from_the_future_counts_when_its_time_comes(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    with world.daemon() as daemon:
        daemon.wait_ready()
        now = now_ms()
        world.send(*(world.record({"type": "follow", "actor": "a", "target": f"u{i}", "ts": now + 100 * i}, now)
                     for i in range(40)))
        world.wait_until_read()
        watch(world, 12)
        world.check()


def test_scores_that_should_have_fallen_while_nobody_ran_fall_after_the_start(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="4s")
    world.send(*retweets(world, 300))
    world.run_until_end()
    world.check(boards=False)
    time.sleep(8)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_right(10)
        # Then the clock goes on as if nothing had been.
        world.send(*retweets(world, 100))
        world.wait_until_read()
        watch(world, 7)
        world.check()


def test_until_end_brings_everything_to_two_seconds_before_its_exit(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    world.send(*retweets(world, 300))
    world.run_until_end()
    time.sleep(7)
    world.run_until_end()  # nothing to read, everything to slide
    world.check(now=now_ms() - 200)


def test_accounts_that_are_not_in_memory_slide_too(new_world):
    world = new_world(clock="wall", windows=[Window("20s", 20 * SECOND, 5 * SECOND)], headline="20s",
                      memory_limit="1MiB", partitions=2)
    with world.daemon() as daemon:
        daemon.wait_ready()
        for _ in range(4):
            world.send(*retweets(world, 12_000))
        world.wait_until_read()
        assert daemon.metrics()["cloutd_account_evictions_total"] > 0
        time.sleep(max(0, 24 - (now_ms() - world.oracle.now_ms) / 1000))
        watch(world, 2)
        assert all(int(fields[b"score"]) == 0 for fields in world.read_accounts().values())
        world.check()
