# SPDX-License-Identifier: Apache-2.0
"""What repeats another event counts once: whoever reads it, and however often he begins anew."""

import random
import time

import pytest

from harness import UNDER_SANITIZER, seeds, wait_for
from policies import KRED, counting_once
from stream import Flow, Stream

SEED = seeds("CLOUTD_SEED", 1)[0]
EVENTS = 2_000 if UNDER_SANITIZER else 6_000


@pytest.mark.sanitizer
def test_read_in_pieces_by_daemons_that_stop_or_are_killed(new_world):
    print(f"CLOUTD_SEED={SEED}")
    rnd = random.Random(SEED)
    world = new_world(policy=counting_once(KRED, "act", 3000))
    stream = Stream(SEED, world, repeats=0.3)
    for _ in range(4):
        world.send(*stream.records(EVENTS // 4, step_ms=stream.span_ms // EVENTS))
        daemon = world.daemon()
        wait_for(daemon.had_partitions, what="an assignment")
        time.sleep(rnd.uniform(0, 0.4))
        if rnd.random() < 0.3:
            assert daemon.terminate() == 0, daemon.log_tail()
        else:
            daemon.kill()
    world.run_until_end()
    world.check()
    assert world.oracle.results["duplicate"] > EVENTS // 50
    assert "the log no longer has" not in daemon.log()


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
    first, second = world.daemon(), world.daemon()
    with Flow(world, Stream(SEED, world, accounts=300, repeats=0.3), EVENTS, pause=0.1):
        wait_for(first.had_partitions, what="an assignment")
        wait_for(second.had_partitions, what="an assignment")
        first.kill()
        third = world.daemon()
        wait_for(third.had_partitions, what="an assignment")
    world.wait_until_read()
    world.wait_until_right()
    assert world.oracle.results["duplicate"] > EVENTS // 50
    assert second.terminate() == 0, second.log_tail()
    assert third.terminate() == 0, third.log_tail()
