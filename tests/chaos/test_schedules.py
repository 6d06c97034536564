# SPDX-License-Identifier: Apache-2.0
"""Random faults, several at once, while events stream in; then everything is mended, and every field must be right.

CHAOS_ROUNDS=N runs N schedules, CLOUTD_FIRST_SEED=N from that seed on.  The seed of each is printed; CHAOS_SEED=N plays
that one again: the same faults at the same moments with the same choices, though never with the same timing to the
millisecond."""

import os
import random
import threading
import time
from collections import namedtuple

import pytest

import chaos
from chaos import SHORT, ChaosWorld
from faults import FAULTS, PARTIES
from harness import UNDER_SANITIZER, seeds
from oracle import Window
from policies import DAY, HOUR, KRED, MIXED, SECOND, counting_once

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2" if UNDER_SANITIZER else "5"))
SEEDS = seeds("CHAOS_SEED", ROUNDS)
SECONDS = 6  # in which faults begin

Step = namedtuple("Step", "at_s fault seed")


def schedule(rnd):
    """{party: [Step]}: at least two parties break something."""
    steps = {party: [] for party in PARTIES}
    while sum(map(bool, steps.values())) < 2:
        for party, most in (("daemons", 3), ("wire", 3), ("redis", 2), ("kafka", 1)):
            # Kafka takes seconds to come back, and then nothing else can go wrong meanwhile.
            n = int(rnd.random() < 0.2) if party == "kafka" else rnd.randrange(most + 1)
            names = [name for name, fault in FAULTS.items() if fault.party == party and not fault.needs]
            steps[party] = sorted(Step(round(rnd.uniform(0, SECONDS), 2), rnd.choice(names), rnd.randrange(10**9))
                                  for _ in range(n))
    return steps


class Players:
    """One thread for each party; they say what they did."""

    def __init__(self, world, steps):
        self.world, self.steps = world, steps
        self.began, self.said, self.errors = time.monotonic(), [], []

    def _say(self, text):
        self.said.append(f"{time.monotonic() - self.began:6.2f} s  {text}")

    def _play(self, steps):
        for step in steps:
            time.sleep(max(0, self.began + step.at_s - time.monotonic()))
            self._say(f"{step.fault} ...")
            try:
                FAULTS[step.fault].run(self.world, random.Random(step.seed))
            except Exception as error:  # said by the thread of the test
                self._say(f"{step.fault}: {error!r}")
                self.errors.append(error)
                return
            self._say(f"{step.fault} is over")
            chaos.faults[step.fault] += 1

    def play(self):
        threads = [threading.Thread(target=self._play, args=(steps,)) for steps in self.steps.values() if steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def chaos_world(new_world, rnd, steps):
    windows, headline, clock = rnd.choice([
        (SHORT, "8s", "wall"), (SHORT, "4s", "wall"), ([Window("6s", 6 * SECOND, SECOND)], "all", "wall"),
        ([Window("24h", DAY, HOUR), Window("90d", 90 * DAY, DAY)], "24h", "record")])
    topic = rnd.choice(["keyed", "keyed", "keyed", "unkeyed", "grows"])
    options = {"unkeyed": {"unkeyed": True, "keyed": rnd.random() < 0.5}}.get(topic, {})
    if topic == "grows":
        name = "partitions_are_added"
        options = FAULTS[name].needs
        steps["kafka"] = sorted([*steps["kafka"], Step(rnd.uniform(0, SECONDS), name, rnd.randrange(10**9))])
    policy = rnd.choice([KRED, MIXED])
    if rnd.random() < 0.3:
        policy = counting_once(policy, rnd.choice(["act", "event"]), rnd.choice([5, 500, 5000]))
    return new_world(kind=ChaosWorld, **options, windows=windows, headline=headline, clock=clock, policy=policy,
                     partitions=rnd.choice([1, 3, 6]), boards=rnd.choice([0, 10, 1000]), lanes=rnd.choice([1, 2, 3]),
                     accounts=rnd.choice([20, 300, 2000]), memory_limit=rnd.choice(["1MiB", "64MiB"]),
                     flush_interval=rnd.choice(["1ms", "20ms", "200ms"]), optout_as_actor=rnd.random() < 0.7)


@pytest.mark.sanitizer
@pytest.mark.parametrize("seed", SEEDS)
def test_a_schedule(new_world, seed):
    rnd = random.Random(seed)
    steps = schedule(rnd)
    world = chaos_world(new_world, rnd, steps)
    players = Players(world, steps)
    try:
        world.crew.hire(rnd.choice([1, 2, 3]))
        with world.flow(seed):
            world.crew.wait_ready()
            players.began = time.monotonic()
            players.play()
            time.sleep(rnd.uniform(0, 1))
        players._say("all is mended")
        world.settle()
    finally:
        # pytest shows it where the test fails.
        print(f"CHAOS_SEED={seed}", *players.said, f"topic {world.topic}, ends {world.ends}", sep="\n")
