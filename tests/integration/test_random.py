# SPDX-License-Identifier: Apache-2.0
"""Random logs with everything in them, read by daemons that are stopped and killed at random moments.

The seed is printed; CLOUTD_SEED=N runs that one again."""

import os
import random
import subprocess

import pytest

from harness import ROOT, UNDER_SANITIZER, seeds
from oracle import Window
from policies import DAY, HOUR, KRED, MIXED, WINDOWS
from stream import Stream, read_in_pieces

ROUNDS = int(os.environ.get("CLOUTD_ROUNDS", "3"))
SEEDS = seeds("CLOUTD_SEED", ROUNDS)
EVENTS = 4_000 if UNDER_SANITIZER else 20_000


def random_world(new_world, rnd):
    windows, headline = rnd.choice([(WINDOWS, "30d"), (WINDOWS, "all"), ([Window("7d", 7 * DAY, HOUR)], "7d"),
                                    ([Window("24h", DAY, 4 * HOUR), Window("2d", 2 * DAY, 4 * HOUR)], "2d")])
    return new_world(policy=rnd.choice([KRED, MIXED]), windows=windows, headline=headline,
                     partitions=rnd.choice([1, 3, 8]), boards=rnd.choice([0, 10, 1000]), lanes=rnd.choice([1, 2, 3]),
                     flush_interval=rnd.choice(["1ms", "20ms", "1s"]), optout_as_actor=rnd.random() < 0.7)


def compare_with_the_script(world):
    """docs/score.py computes every account's score from what anybody can read."""
    done = subprocess.run(["/usr/bin/python3", ROOT / "docs/score.py"], capture_output=True, check=False,
                          env={**os.environ, "REDIS_URL": f"unix://{world.redis.socket}", "CLOUT_PREFIX": world.prefix})
    assert done.returncode == 0, done.stderr.decode()
    lines = [line.rsplit(b"\t", 2) for line in done.stdout.splitlines()]
    scores = {account: int(fields[b"score"]) for account, fields in world.read_accounts().items()}
    assert {account: int(computed) for account, computed, _ in lines} == scores
    assert {account: int(shown) for account, _, shown in lines} == scores


@pytest.mark.sanitizer
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_log_read_once(new_world, seed):
    print(f"CLOUTD_SEED={seed}")
    rnd = random.Random(seed)
    world = random_world(new_world, rnd)
    world.send(*Stream(seed, world).records(EVENTS))
    world.check_books(world.run_until_end())
    world.check()
    world.check_letters()
    compare_with_the_script(world)


@pytest.mark.sanitizer
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_log_with_stops_and_kills_in_between(new_world, seed):
    print(f"CLOUTD_SEED={seed}")
    rnd = random.Random(seed + 1)
    world = random_world(new_world, rnd)
    stream = Stream(seed, world, accounts=rnd.choice([50, 2000]))
    read_in_pieces(world, stream, rnd, EVENTS, 6)
    world.check()
    world.check_letters(exactly_once=False)
