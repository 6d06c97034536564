# SPDX-License-Identifier: Apache-2.0
"""One fault after the other, so that a failure names its fault; the random ones are in test_schedules.py."""

import random
import time

import pytest

import chaos
from chaos import ChaosWorld
from faults import FAULTS

SEED = 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_everything_is_right_after(new_world, fault):
    rnd = random.Random(SEED)
    world = new_world(kind=ChaosWorld, boards=rnd.choice([10, 1000]))
    world.crew.hire(2 if fault.party == "daemons" else 1)
    with world.flow(SEED):
        world.crew.wait_ready()
        time.sleep(0.5)
        fault.run(world, rnd)
        chaos.faults[fault.name] += 1
        time.sleep(0.5)
    world.settle(again=fault.again)
    if fault.hits:
        assert world.crew.counted[fault.hits] + world.wire.counts[fault.hits] > 0, (world.crew.counted, world.wire.counts)
