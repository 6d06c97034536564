# SPDX-License-Identifier: Apache-2.0
"""What repeats another event counts once: whoever reads it, and however often he begins anew."""

import random

import pytest

from harness import UNDER_SANITIZER, seeds
from policies import KRED, counting_once
from stream import Stream, read_by_two_of_which_one_dies, read_in_pieces

SEED = seeds("CLOUTD_SEED", 1)[0]
EVENTS = 2_000 if UNDER_SANITIZER else 6_000


@pytest.mark.sanitizer
def test_read_in_pieces_by_daemons_that_stop_or_are_killed(new_world):
    print(f"CLOUTD_SEED={SEED}")
    rnd = random.Random(SEED)
    world = new_world(policy=counting_once(KRED, "act", 3000))
    stream = Stream(SEED, world, repeats=0.3)
    read_in_pieces(world, stream, rnd, EVENTS, 4)
    world.check()
    assert world.oracle.results["duplicate"] > EVENTS // 50
    assert not any("the log no longer has" in daemon.log() for daemon in world.daemons)


@pytest.mark.sanitizer
def test_the_books_have_them(new_world):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(policy=counting_once(KRED, "event", 40))
    world.send(*Stream(SEED, world, repeats=0.3).records(EVENTS))
    world.check_books(world.run_until_end())
    world.check()
    assert world.oracle.results["duplicate"] > EVENTS // 50


@pytest.mark.sanitizer
def test_two_daemons_share_the_partitions_and_one_dies(new_world):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(policy=counting_once(KRED, "act", 2000), partitions=4, clock="wall")
    read_by_two_of_which_one_dies(world, Stream(SEED, world, accounts=300, repeats=0.3), EVENTS)
    assert world.oracle.results["duplicate"] > EVENTS // 50
