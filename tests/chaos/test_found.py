# SPDX-License-Identifier: Apache-2.0
"""What random schedules found, each again by itself."""

import time

from chaos import ChaosWorld
from proxy import UP


def test_redis_was_emptied_while_nobody_had_a_partition(new_world):
    """Whoever claims it next has its number from before; a later start must find the same one."""
    world = new_world(kind=ChaosWorld, partitions=4)
    # Not what a table that was lost would be filled with again.
    world.redis.client.hset("t:sources", mapping={f"{world.topic}:{p}": 4 - p for p in range(4)})
    world.crew.hire(2)
    with world.flow(1):
        world.crew.wait_ready()
        first, second = world.crew.members
        with first.lock:
            world.crew.freeze(first, 1)
            world.redis.client.flushall()
            world.crew.kill(first)
            time.sleep(3)  # the second one has all partitions now
            world.crew.kill(second)
            world.crew.start(first)
        time.sleep(1)
    world.settle()


def test_the_table_of_numbers_is_lost(new_world):
    world = new_world(kind=ChaosWorld, partitions=4)
    world.crew.hire()
    with world.flow(1):
        world.crew.wait_ready()
        world.redis.client.delete("t:sources")
        world.crew.hire()
        world.crew.wait_ready()
        time.sleep(1)
    world.settle()


def test_another_topic_has_the_first_numbers(new_world):
    world = new_world(kind=ChaosWorld, partitions=2)
    world.redis.client.hset("t:sources", mapping={"other:0": 1, "other:5": 4097})
    world.crew.hire()
    with world.flow(1):
        world.crew.wait_ready()
        time.sleep(1)
    world.settle()
    assert world.redis.client.hgetall("t:sources") == {
        b"other:0": b"1", b"other:5": b"4097", f"{world.topic}:0".encode(): b"8193",
        f"{world.topic}:1".encode(): b"8194"}


def test_redis_went_back_and_goes_back_once_more_before_it_is_claimed_again(new_world):
    """A daemon that has judged once sees the same again: not a mistake of its own."""
    world = new_world(kind=ChaosWorld, lanes=1)
    world.crew.hire()
    with world.flow(1):
        world.crew.wait_ready()
        for _ in range(12):
            # Enough for the WATCH and the look at the own key, too little for the EXEC that claims again.
            world.redis.client.flushall()
            for n_bytes in range(100, 900, 200):
                world.wire.cut_after(UP, n_bytes)
                time.sleep(0.05)
    world.settle()
    assert world.crew.counted["cloutd_redis_rollbacks_total"] > 0
