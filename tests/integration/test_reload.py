# SPDX-License-Identifier: Apache-2.0
"""A daemon that reads its configuration and policy once more while it counts.

All of it holds then, or nothing; and every score ends as the policy says that holds at last."""

import signal
from collections import Counter

import pytest

from harness import wait_for
from policies import KRED, published, with_points
from stream import Flow, Stream, running

GOOD = "cloutd_config_last_reload_successful"
WHEN = "cloutd_config_last_reload_success_timestamp_seconds"


def reload(daemon, good=True):
    """Ask for it; the line of the log that says how it went."""
    mark = 'msg=reloaded' if good else 'msg="not reloaded'
    before = daemon.log().count(mark)
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.log().count(mark) > before, what=f"the log says {mark}")
    return [line for line in daemon.log().splitlines() if mark in line][-1]


def change(daemon, old, new):
    """In the configuration file."""
    path = daemon.log_path.with_suffix(".yaml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.sanitizer
def test_points_that_change_while_events_flow(new_world):
    world = new_world(lanes=2, flush_interval="1ms")
    with world.daemon() as daemon:
        daemon.wait_ready()
        started = daemon.metrics()[WHEN]
        with Flow(world, Stream(61, world), 12_000):
            for points in ([1, 2, 3, 4, 5, 6, -7], [7, 6, 5, 4, 3, 2, 1], [10, 25, 50, 10, 25, 50, 2]):
                world.set_policy(with_points(KRED, points))
                assert "all accounts are scored anew" in reload(daemon)
        world.wait_until_read()
        world.wait_until_right()
        assert daemon.metrics()[GOOD] == 1
        assert daemon.metrics()[WHEN] > started
        version = world.redis.client.get("t:policy").decode()
        assert f'cloutd_policy_info{{version="{version}",name="kred"}}' in daemon.get("/metrics")[1]
    world.run_until_end()
    world.check()
    world.check_letters()


@pytest.mark.sanitizer
def test_points_that_change_and_a_crash_in_the_middle(new_world):
    world = new_world()
    world.send(*Stream(62, world).records(6_000))
    world.run_until_end()
    for points in ([1, 2, 3, 4, 5, 6, -7], [10, 25, 50, 10, 25, 50, 1]):
        daemon = world.daemon()
        daemon.wait_ready()
        world.set_policy(with_points(KRED, points))
        reload(daemon)
        daemon.kill()
    with world.daemon() as daemon:  # by the points that it began with
        daemon.wait_ready()
        world.wait_until_right()
    world.run_until_end()
    world.check()


OTHER = with_points(KRED, [1, 2, 3, 4, 5, 6, -7])
ANY_SHOWS = """for _, key in ipairs(redis.call('KEYS', 't:a:*')) do
    if redis.call('HGET', key, 'pol') == ARGV[1] then return 1 end end return 0"""


def versions_shown(world):
    """How many accounts show which version."""
    return Counter(fields.get(b"pol") for fields in world.read_accounts().values())


def test_all_accounts_are_scored_anew_also_those_that_are_not_in_memory(new_world):
    """And a crash in the middle is ended by the next start."""
    world = new_world(boards=100)
    stream = Stream(68, world, accounts=4_000)
    world.send(*stream.records(5_000))
    world.run_until_end()

    def killed_in_the_middle(policy):
        """As soon as some show it: perhaps too late, and all of them do."""
        daemon = world.daemon()
        daemon.wait_ready()
        wait_for(lambda: daemon.metrics()["cloutd_rescored_ratio"] == 1, what="nothing is left from before")
        assert daemon.metrics()["cloutd_accounts_resident"] < 4_000
        world.set_policy(policy)
        version = published(policy, world.windows, world.headline)[0].encode()
        daemon.process.send_signal(signal.SIGHUP)

        def shown():
            daemon.process.send_signal(signal.SIGSTOP)
            if world.redis.client.eval(ANY_SHOWS, 0, version):
                return True
            daemon.process.send_signal(signal.SIGCONT)
            return False

        wait_for(shown, what="somebody is scored anew", every=0.005)
        daemon.kill()
        return version if len(versions_shown(world)) == 2 else None

    version = wait_for(lambda: next(filter(None, map(killed_in_the_middle, (OTHER, KRED))), None),
                       what="a kill while some show it and others do not")
    daemon = world.daemon()
    world.send(*stream.records(100, step_ms=1000))  # counted meanwhile
    daemon.wait_ready()
    # It says how far it is; and when it says that it is done, it is.
    wait_for(lambda: daemon.metrics()["cloutd_rescored_ratio"] == 1, what="all are scored anew")
    assert versions_shown(world).keys() == {version}
    world.wait_until_read()
    world.wait_until_right()
    assert daemon.terminate() == 0, daemon.log_tail()
    world.run_until_end()
    world.check()


def test_two_daemons_that_get_other_points_one_after_the_other(new_world):
    world = new_world()
    with world.daemon() as one, world.daemon() as other:
        for daemon in (one, other):
            daemon.wait_ready()
        with Flow(world, Stream(63, world), 4_000):
            world.set_policy(with_points(KRED, [3, 2, 1, 3, 2, 1, 9]))
            reload(one)
            reload(other)
        world.wait_until_read()
        world.wait_until_right()


def test_boards_grow_and_shrink(new_world):
    with running(new_world, 3_000, boards=3) as (world, daemon):
        world.wait_until_right()
        size = 3
        for now in (40, 0, 5, 1):
            change(daemon, f"boards: {{size: {size}}}", f"boards: {{size: {now}}}")
            assert "changed=boards.size" in reload(daemon)
            world.boards = size = now
            if now > 0:
                wait_for(lambda: not any(value for name, value in daemon.metrics().items()
                                         if name.startswith("cloutd_board_rebuilding")), what="the boards are exact")
                world.wait_until_right()


def test_what_cannot_change_leaves_everything_as_it_was(new_world):
    with running(new_world, 1_000) as (world, daemon):
        world.wait_until_right()
        path = daemon.log_path.with_suffix(".yaml")
        right = path.read_text()
        policy = world.folder / "policy.yaml"
        points = policy.read_text()
        when = daemon.metrics()[WHEN]
        for text, rules, why in (
            (right.replace('clock: "record"', "clock: wall"), points,
             "clock: cannot change while it runs, restart for it (changed: clock)"),
            (right + "bords: 1\n", points, "bords: unknown key; the nearest valid one is boards"),
            (right + "log_level: debug\n", points.replace("points: 25", "points: many", 1), "rules.tiers.points"),
            (right + "log_level: debug\n", points.replace("10000", "20000", 1),
             "rules.tiers.followers_over: decides what is counted"),
            (right.replace("topic", "tropic", 1), points, "unknown key"),
            ("", points, "cloutd-"),
        ):
            path.write_text(text)
            policy.write_text(rules.replace("points: 10}", "points: 11}"))
            line = reload(daemon, good=False)
            assert why in line, line
            assert daemon.metrics()[GOOD] == 0
            assert daemon.metrics()[WHEN] == when
        assert "level=debug" not in daemon.log()
        world.send(*Stream(66, world).records(500))
        world.wait_until_read()
        world.wait_until_right()
        path.write_text(right)
        policy.write_text(points)
        assert "changed=nothing" in reload(daemon)
        assert daemon.metrics()[GOOD] == 1
    world.run_until_end()
    world.check()


def test_limits_and_log_level_change_in_place(new_world):
    world = new_world(log_level="error", memory_limit="1GiB", flush_interval="100ms")
    with world.daemon() as daemon:
        daemon.wait_ready()
        assert daemon.log() == ""
        change(daemon, "error", "info")
        change(daemon, "1GiB", "1MiB")
        change(daemon, "100ms", "1ms")
        assert daemon.metrics()["cloutd_memory_limit_bytes"] == 2**30
        assert 'changed="flush_interval, memory_limit, log_level"' in reload(daemon)
        assert daemon.metrics()["cloutd_memory_limit_bytes"] == 2**20
        world.send(*Stream(67, world, accounts=20_000).records(20_000))
        world.wait_until_read()
        world.wait_until_right()
        assert daemon.metrics()["cloutd_account_evictions_total"] > 0
    world.run_until_end(log_level="info")
    world.check()
