# SPDX-License-Identifier: Apache-2.0
"""Accounts that are fed from several partitions: unkeyed topics, and partitions that are added."""

import pytest

from harness import UNDER_SANITIZER, parts_of, seeds, wait_for
from policies import DAY
from stream import Flow, Stream, read_by_two_of_which_one_dies

SEED = seeds("CLOUTD_SEED", 1)[0]
EVENTS = 2_000 if UNDER_SANITIZER else 10_000
BEGIN_MS = 1_700_000_000_000


class Scattered(Stream):
    """Each record goes to any partition.  Nobody leaves: each partition would obey its own copy."""

    def __init__(self, seed, world, **options):
        super().__init__(seed, world, leaving=0, **options)
        self.world = world

    def _record(self):
        return super()._record()._replace(partition=self.random.randrange(self.world.partitions))


def mode(world):
    return world.redis.client.get(world.prefix + "mode")


def parts(world):
    """How many accounts have more than one part."""
    return sum(parts_of(fields) > 1 for fields in world.read_accounts().values())


@pytest.mark.sanitizer
@pytest.mark.parametrize("keyed", [False, True])
def test_an_unkeyed_topic_gives_the_sums(new_world, keyed):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(partitions=5, lanes=2, keyed=keyed)
    world.send(*Scattered(SEED, world).records(EVENTS))
    daemon = world.daemon("--until-end")
    assert daemon.wait() == 0, daemon.log_tail()
    world.check_positions()
    world.check_books(daemon.last_books())
    world.check()
    assert mode(world) == b"shared"
    assert parts(world) > 100
    assert ("an account is fed from several partitions" in daemon.log()) == keyed


@pytest.mark.sanitizer
def test_an_unkeyed_topic_with_two_daemons_and_a_kill(new_world):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(partitions=4, clock="wall")
    read_by_two_of_which_one_dies(world, Scattered(SEED, world, accounts=300), EVENTS)


@pytest.mark.sanitizer
def test_partitions_that_are_added_while_nobody_reads(new_world):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(partitions=2)
    world.send(*Stream(SEED, world, leaving=0).records(EVENTS))
    world.run_until_end()
    world.check()
    assert mode(world) is None
    world.add_partitions(5)
    world.send(*Stream(SEED + 1, world, leaving=0, start_ms=world.oracle.now_ms).records(EVENTS))
    world.run_until_end()
    world.check()
    assert mode(world) == b"shared"


@pytest.mark.sanitizer
def test_partitions_that_are_added_under_traffic(new_world):
    print(f"CLOUTD_SEED={SEED}")
    world = new_world(partitions=2, clock="wall")
    daemons = [world.daemon(), world.daemon()]
    with Flow(world, Stream(SEED, world, leaving=0), EVENTS, pause=0.1):
        for daemon in daemons:
            wait_for(daemon.had_partitions, what="an assignment")
    world.add_partitions(6)
    with Flow(world, Stream(SEED + 1, world, leaving=0), EVENTS, pause=0.1):
        wait_for(lambda: any("partitions were added" in daemon.log() for daemon in daemons), what="it to be noticed")
    world.wait_until_read()
    world.wait_until_right()
    for daemon in daemons:
        assert daemon.terminate() == 0, daemon.log_tail()
    world.check_positions()


def test_time_passes_with_a_partition_that_another_daemon_was_given(new_world):
    """clock: record: its owner alone reads it, and all have to hear how late it is."""
    world = new_world(partitions=1)
    daemons = [world.daemon(), world.daemon()]
    for daemon in daemons:
        daemon.wait_ready()
    follow = {"type": "follow", "actor": "a", "target": "early"}
    world.send(world.record(follow, BEGIN_MS))
    world.wait_until_read()
    world.add_partitions(2)
    wait_for(lambda: any("partitions were added" in daemon.log() for daemon in daemons), what="it to be noticed")
    world.send(world.record({**follow, "target": "late"}, BEGIN_MS + 2 * DAY)._replace(partition=1))
    world.wait_until_right()
    for daemon in daemons:
        assert daemon.terminate() == 0, daemon.log_tail()
