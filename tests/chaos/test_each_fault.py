# SPDX-License-Identifier: Apache-2.0
"""One fault after the other, so that a failure names its fault; the random ones are in test_schedules.py."""

import contextlib
import random
import subprocess
import time

import pytest

import chaos
from chaos import ChaosWorld
from faults import FAULTS
from harness import BUILD, wait_for
from proxy import DOWN

SEED = 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_everything_is_right_after(new_world, fault):
    rnd = random.Random(SEED)
    world = new_world(kind=ChaosWorld, boards=rnd.choice([10, 1000]), **fault.needs)
    world.crew.hire(2 if fault.party == "daemons" else 1)

    def hit():
        """Once more where it met nothing: on a busy machine that may happen, though not for ever."""
        fault.run(world, rnd)
        chaos.faults[fault.name] += 1
        return not fault.hits or counted()

    def counted():
        with contextlib.suppress(AssertionError):
            return wait_for(lambda: world.crew.count(fault.hits) + world.wire.counts[fault.hits] > 0, seconds=5)
        return False

    with world.flow(SEED):
        world.crew.wait_ready()
        time.sleep(0.5)
        wait_for(hit, what=f"{fault.hits} is counted")
        time.sleep(0.5)
    world.settle(again=fault.again)


def test_no_answer_for_longer_than_a_daemon_waits(new_world):
    """15 s; the connection itself stays."""
    world = new_world(kind=ChaosWorld)
    world.crew.hire()
    with world.flow(SEED):
        world.crew.wait_ready()
        world.wire.stall(DOWN)
        wait_for(lambda: "no answer" in world.daemons[0].log(), what="the daemon has had enough")
        world.wire.resume()
        time.sleep(0.5)
    world.settle()


def test_the_topic_is_deleted_and_made_anew(new_world):
    """What was counted stays; the partitions stop until an operator says that it is a new log.  A daemon dies meanwhile."""
    world = new_world(kind=ChaosWorld)
    world.crew.hire(2)
    with world.flow(SEED):
        world.crew.wait_ready()
        time.sleep(1)
    world.wait_until_read()
    world.make_topic_anew()
    with world.flow(SEED + 1):
        for partition in range(world.partitions):
            own = f"{world.prefix}own:{world.topic}:{partition}"
            wait_for(lambda own=own: world.redis.client.hget(own, "stopped"), what=f"partition {partition} stops")
        world.crew.kill(world.crew.members[0])
        config = world.crew.members[1].daemon.log_path.with_suffix(".yaml")
        world.crew.start(world.crew.members[0])
        world.crew.members[0].daemon.wait_ready(False)
        for partition in range(world.partitions):
            done = subprocess.run([BUILD / "cloutctl", "--config", config, "resume", str(partition), "--new-log"],
                                  capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
        time.sleep(1)
    world.settle(letters=False)  # two logs have the same offsets


def test_what_a_producer_wrote_twice_counts_twice(new_world, capsys):
    """As it can happen to one whose broker was killed before it answered."""
    world = new_world(kind=ChaosWorld)
    world.crew.hire()
    with world.flow(SEED):
        world.crew.wait_ready()
    world.kafka.write(world.topic, world.sent[-100:])
    world.settle()
    assert "the log has records twice" in capsys.readouterr().out
