# SPDX-License-Identifier: Apache-2.0
"""Windows that slide by the machine's clock, with nobody touching the accounts: short ones, so that it can be watched."""

import time

from harness import now_ms, wait_for
from oracle import Window
from policies import SECOND

SHORT = [Window("6s", 6 * SECOND, SECOND), Window("4s", 4 * SECOND, 2 * SECOND)]


def retweets(world, n, **more):
    now = now_ms()
    return [world.record({"type": "retweet", "actor": "a", "target": f"u{i}", "actor_followers": i * 400,
                          "ts": now - i % 5000, **more}, now) for i in range(n)]


def watch(world, seconds):
    """Every account is right at the moment that it names, all the time.  How late that moment may be, tests/sim says with
    the clock in its hands; here everything has to come in the end."""
    began = now_ms()
    while now_ms() < began + seconds * 1000:
        world.check(now=began, boards=False)
        time.sleep(0.1)
    world.wait_until_right()


def all_have_fallen(world):
    wait_for(lambda: all(int(fields[b"score"]) == 0 for fields in world.read_accounts().values()), what="all have fallen")


def test_scores_fall_with_nobody_touching_them(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*retweets(world, 400))
        world.wait_until_read()
        watch(world, 9)
        all_have_fallen(world)
        world.wait_until_right()
        wait_for(lambda: daemon.metrics()["cloutd_edge_lag_seconds"] < 2, what="no edge is behind")


def test_an_event_from_the_future_counts_when_its_time_comes(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    with world.daemon() as daemon:
        daemon.wait_ready()
        now = now_ms()
        world.send(*(world.record({"type": "follow", "actor": "a", "target": f"u{i}", "ts": now + 100 * i}, now)
                     for i in range(40)))
        world.wait_until_read()
        watch(world, 12)


def test_scores_that_should_have_fallen_while_nobody_ran_fall_after_the_start(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="4s")
    world.send(*retweets(world, 300))
    began = now_ms()
    world.run_until_end()
    world.check(now=began, boards=False)
    time.sleep(8)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_right()
        # Then the clock goes on as if nothing had been.
        world.send(*retweets(world, 100))
        world.wait_until_read()
        watch(world, 7)


def test_until_end_brings_everything_to_two_seconds_before_its_exit(new_world):
    world = new_world(clock="wall", windows=SHORT, headline="6s")
    world.send(*retweets(world, 300))
    world.run_until_end()
    time.sleep(7)
    began = now_ms()
    world.run_until_end()  # nothing to read, everything to slide
    world.check(now=began)


def test_accounts_that_are_not_in_memory_slide_too(new_world):
    world = new_world(clock="wall", windows=[Window("12s", 12 * SECOND, 3 * SECOND)], headline="12s",
                      memory_limit="1MiB", partitions=2)
    with world.daemon() as daemon:
        daemon.wait_ready()
        for _ in range(4):
            world.send(*retweets(world, 12_000))
        world.wait_until_read()
        assert daemon.metrics()["cloutd_account_evictions_total"] > 0
        all_have_fallen(world)
        world.wait_until_right()
