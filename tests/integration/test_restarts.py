# SPDX-License-Identifier: Apache-2.0
"""Daemons that stop, die, join and leave; a Redis that loses its connections, its data, or the last of its data.

Whatever happened: once everything is read, Redis shows what the oracle says."""

import random
import re
import signal
import time

import pytest
import redis

from harness import ROOT, Kafka, Unavailable, wait_for
from oracle import Policy, Rule, Tier
from policies import KRED, MIXED, with_points
from stream import Flow, Stream, fill_with_newcomers


def assigned(world):
    daemon = world.daemon()
    wait_for(daemon.had_partitions, what="an assignment")
    return daemon


def finish(world, exactly_once=False):
    world.run_until_end()
    world.check()
    world.check_letters(exactly_once=exactly_once)


@pytest.mark.sanitizer
def test_stopped_and_started_again_while_events_flow(new_world):
    world = new_world(lanes=2)
    books = {}
    with Flow(world, Stream(1, world), 12_000):
        for seconds in (0.3, 0.0, 0.7):
            daemon = assigned(world)
            time.sleep(seconds)
            assert daemon.terminate() == 0, daemon.log_tail()
            world.check_positions()
            for name, n in daemon.last_books().items():
                books[name] = books.get(name, 0) + n
    for name, n in world.run_until_end().items():
        books[name] = books.get(name, 0) + n
    # Nothing was read twice: a graceful stop leaves Redis and Kafka at one position.
    assert books["replayed"] == 0
    world.check_books(books)
    world.check()
    world.check_letters()


def test_stopped_while_the_group_shares_out_the_partitions(new_world):
    """Kafka takes no commit then; the daemon waits until it does."""
    world = new_world(partitions=1)

    def member(name):
        # Partitions go to members by their names: the only one is always a's.
        (world.folder / name).write_text(f"client.id={name}\nsession.timeout.ms=3000\nheartbeat.interval.ms=500\n")
        return world.daemon(kafka={**world.config["kafka"], "properties_file": name})

    first, silent = member("a"), member("b")
    for daemon in (first, silent):
        daemon.wait_ready()
    world.send(*Stream(3, world).records(500))
    world.wait_until_read()
    revoked = first.log().count('msg="partitions revoked"')
    # A newcomer cannot be let in before the silent one is given up.
    silent.process.send_signal(signal.SIGSTOP)
    member("c")
    wait_for(lambda: first.log().count('msg="partitions revoked"') > revoked, what="it is revoked")
    assert first.terminate() == 0, first.log_tail()
    world.check_positions()


@pytest.mark.sanitizer
def test_killed_while_events_flow(new_world):
    rnd = random.Random(2)
    world = new_world(lanes=2, flush_interval="1ms")
    with Flow(world, Stream(2, world), 20_000):
        for _ in range(4):
            daemon = assigned(world)
            time.sleep(rnd.uniform(0, 0.3))
            daemon.kill()
    finish(world)


def test_a_second_daemon_joins_and_leaves_while_events_flow(new_world):
    world = new_world(partitions=6)
    with world.daemon() as first:
        with Flow(world, Stream(3, world), 25_000):
            wait_for(first.had_partitions, what="an assignment")
            with world.daemon() as second:
                wait_for(second.had_partitions, what="an assignment of the second")
                time.sleep(1)
            time.sleep(0.5)
            third = assigned(world)
            time.sleep(0.5)
            third.kill()
        world.wait_until_read()
        world.wait_until_right()
    finish(world)


def test_two_daemons_share_the_partitions_and_one_dies(new_world):
    world = new_world(partitions=4)
    world.send(*Stream(4, world).records(3000))
    first, second = assigned(world), assigned(world)
    with Flow(world, Stream(5, world, start_ms=1_713_000_000_000), 8000):
        time.sleep(0.5)
        first.kill()
    world.wait_until_read()
    assert second.terminate() == 0, second.log_tail()
    finish(world)


def test_more_accounts_than_memory(new_world):
    world = new_world(memory_limit="1MiB", boards=100)
    stream = Stream(6, world, accounts=30_000)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*stream.records(60_000))
        world.wait_until_read()
        wait_for(lambda: daemon.metrics()["cloutd_accounts_resident"] < 15_000, what="they are out of memory")
        assert daemon.metrics()["cloutd_account_evictions_total"] > 0
    finish(world, exactly_once=True)


@pytest.mark.slow
def test_memory_is_bounded_while_redis_stands_still(new_world):
    """More accounts than fit, and none may leave before Redis has it."""
    limit_mib = 48
    world = new_world(memory_limit=f"{limit_mib}MiB", boards=100, lanes=2)
    with world.daemon() as daemon:
        daemon.wait_ready()
        before_kib = daemon.memory_kib("VmRSS")
        world.redis.process.send_signal(signal.SIGSTOP)
        fill_with_newcomers(world, 800_000)
        time.sleep(3)  # it takes what it may
        world.redis.process.send_signal(signal.SIGCONT)
        world.wait_until_read(600)
        grown_mib = (daemon.memory_kib("VmHWM") - before_kib) / 1024
        assert grown_mib <= 1.10 * limit_mib
        metrics = daemon.metrics()
        assert metrics["cloutd_account_evictions_total"] > 0
    finish(world, exactly_once=True)


def test_redis_comes_back_empty(new_world):
    world = new_world()
    stream = Stream(7, world)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*stream.records(5000))
        world.wait_until_read()
        world.redis.restart_empty()
        world.wait_until_right()
        world.send(*stream.records(2000, step_ms=1000))
        world.wait_until_read()
        world.wait_until_right()
        assert daemon.metrics()["cloutd_redis_rollbacks_total"] > 0
    finish(world)


def test_redis_comes_back_with_everything(new_world):
    world = new_world()
    stream = Stream(8, world)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*stream.records(3000))
        world.wait_until_read()
        world.redis.restart_with_data()
        world.send(*stream.records(3000, step_ms=1000))
        world.wait_until_read()
        world.wait_until_right()
        assert daemon.metrics()["cloutd_redis_rollbacks_total"] == 0
    finish(world)


def test_redis_comes_back_with_what_it_had_a_while_ago(new_world):
    world = new_world()
    stream = Stream(9, world)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*stream.records(3000))
        world.wait_until_read()
        world.redis.client.save()
        world.send(*stream.records(3000, step_ms=1000))
        world.wait_until_read()
        world.redis.kill()
        world.redis.start()
        world.wait_until_right()
        assert daemon.metrics()["cloutd_redis_rollbacks_total"] > 0
    finish(world)


def test_redis_went_back_while_nobody_ran(new_world):
    world = new_world()
    stream = Stream(10, world)
    world.send(*stream.records(3000))
    world.run_until_end()
    world.redis.client.save()
    world.send(*stream.records(3000, step_ms=1000))
    world.run_until_end()
    world.redis.kill()
    world.redis.start()
    world.run_until_end()  # Kafka's committed offsets say that everything was read: they must not be believed
    world.check()


def test_connections_to_redis_are_cut_while_events_flow(new_world):
    world = new_world(flush_interval="1ms")
    rnd = random.Random(11)
    with world.daemon() as daemon:
        daemon.wait_ready()
        with Flow(world, Stream(11, world), 10_000):
            for _ in range(12):
                time.sleep(rnd.uniform(0, 0.2))
                world.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        world.wait_until_read()
    finish(world)


def test_redis_stalls_while_events_flow(new_world):
    world = new_world()
    with world.daemon() as daemon:
        daemon.wait_ready()
        with Flow(world, Stream(12, world), 6000):
            for _ in range(3):
                world.redis.client.execute_command("CLIENT", "PAUSE", "700", "ALL")
                time.sleep(1)
        world.wait_until_read()
    finish(world)


@pytest.mark.parametrize("gone", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stop_without_redis_is_over_before_systemd_kills(new_world, gone):
    unit = (ROOT / "systemd/cloutd@.service.in").read_text()
    limit = int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)[1])
    world = new_world(lanes=2)
    with Flow(world, Stream(21, world), 5_000):
        daemon = assigned(world)
        wait_for(lambda: sum(world.low().values()) > 0, what="something in Redis")
        world.redis.client.save()
        world.redis.process.send_signal(gone)
        assert daemon.terminate(limit) == 0, daemon.log_tail()
    if gone == signal.SIGSTOP:
        world.redis.process.send_signal(signal.SIGCONT)
    else:
        world.redis.kill()
        world.redis.start()
    finish(world)


def test_redis_refuses_writes_for_a_while(new_world):
    world = new_world()
    stream = Stream(13, world)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*stream.records(2000))
        world.wait_until_read()
        world.redis.client.config_set("maxmemory", "1mb")  # everything that takes memory is now answered with OOM
        world.send(*stream.records(2000, step_ms=1000))
        time.sleep(2)
        with pytest.raises(redis.exceptions.ResponseError, match="OOM|maxmemory"):
            world.redis.client.set("is-it-full", "x")
        assert world.low() != world.ends
        world.redis.client.config_set("maxmemory", "0")
        world.wait_until_read()
    finish(world)


def test_a_foreign_value_under_the_name_of_an_account_gives_way(new_world):
    world = new_world(partitions=1)
    world.redis.client.set("t:a:broken", "not a hash")
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*(world.record({"type": "retweet", "actor": "a", "target": target}, 1_718_000_000_000)
                     for target in ("fine", "broken", "fine", "well")))
        wait_for(lambda: world.redis.client.hget("t:a:fine", "score") == b"20", what="the others are scored")
        world.wait_until_read()
        wait_for(lambda: "broken" in daemon.log(), what="it is said whose value it was")
    finish(world)


def test_until_end_does_not_end_while_the_group_has_taken_everything_back(new_world):
    """Frozen for longer than the group waits: it has nothing then, which is not the same as having read it all."""
    world = new_world()
    stream = Stream(15, world)

    def frozen_in_the_middle():
        world.send(*stream.records(20_000))
        daemon = world.daemon("--until-end")
        wait_for(daemon.had_partitions, what="an assignment", every=0.005)
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        too_late = world.low() == world.ends
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.wait() == 0, daemon.log_tail()
        assert world.low() == world.ends
        return not too_late and "timed out" in daemon.log()

    wait_for(frozen_in_the_middle, what="a daemon that is frozen before it has read everything")
    world.check()


def test_points_change_and_every_account_is_scored_anew(new_world):
    world = new_world(memory_limit="1MiB")
    world.send(*Stream(14, world, accounts=20_000).records(30_000))
    world.run_until_end()
    world.check()
    before = world.redis.client.get("t:policy")
    world.set_policy(with_points(KRED, [1, 2, 3, 4, 5, 6, -7]))
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_right()
        assert world.redis.client.get("t:policy") != before


def test_other_cells_need_the_log_again_and_are_refused(new_world):
    world = new_world()
    world.send(*Stream(16, world).records(500))
    world.run_until_end()
    for policy in (MIXED, Policy("kred", [*KRED.rules, Rule("like", ["like"], [Tier(None, 1)])])):
        world.set_policy(policy)
        daemon = world.daemon("--until-end")
        assert daemon.wait() == 78, daemon.log_tail()
    world.set_policy(KRED)
    daemon = world.daemon("--until-end", windows=[{"length": "24h", "bucket": "1h"}], headline="24h")
    assert daemon.wait() == 78, daemon.log_tail()
    finish(world, exactly_once=True)


@pytest.mark.slow
def test_ready_again_after_a_kill_with_the_settings_that_are_shipped(new_world):
    world = new_world()
    world.config["kafka"].pop("properties_file")
    world.send(*Stream(17, world).records(500))
    daemon = assigned(world)
    world.wait_until_read()
    daemon.kill()
    with world.daemon() as again:
        again.wait_ready()


@pytest.mark.slow
def test_kafka_goes_away_and_comes_back(new_world, tmp_path_factory):
    try:
        kafka = Kafka(tmp_path_factory.mktemp("own") / "kafka")
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        world = new_world(kafka=kafka)
        stream = Stream(18, world)
        with world.daemon() as daemon:
            daemon.wait_ready()
            world.send(*stream.records(2000))
            world.wait_until_read()
            kafka.stop()
            daemon.wait_ready(False)
            kafka.start()
            daemon.wait_ready()
            world.send(*stream.records(2000, step_ms=1000))
            world.wait_until_read()
            kafka.stop("KILL")
            daemon.wait_ready(False)
            kafka.start()
            daemon.wait_ready()
            world.send(*stream.records(2000, step_ms=1000))
            world.wait_until_read()
        finish(world)
    finally:
        kafka.stop()
