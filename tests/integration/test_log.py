# SPDX-License-Identifier: Apache-2.0
"""The log changes under the daemon: made anew, cut in front, full of transactions.

Never a silent jump: the partition stops and says what is lost, and goes on as the operator decides."""

import json
import re
import signal
import subprocess

import pytest

from harness import BUILD, wait_for
from stream import Stream

NOW = 1_718_000_000_000


def retweets(world, *targets, at=NOW):
    return [world.record({"type": "retweet", "actor": "a", "target": target}, at + i) for i, target in enumerate(targets)]


def score(world, account):
    value = world.redis.client.hget(f"t:a:{account}", "all")
    return None if value is None else int(value)


def own(world, field, partition=0):
    value = world.redis.client.hget(f"t:own:{world.topic}:{partition}", field)
    return None if value is None else value.decode()


def cloutctl(daemon, *words):
    return subprocess.run([BUILD / "cloutctl", "--config", daemon.log_path.with_suffix(".yaml"), *words],
                          capture_output=True, text=True, timeout=60, check=False)


def resume(daemon, decision):
    done = cloutctl(daemon, "resume", "0", decision, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stopped(daemon, reason):
    wait_for(lambda: reason in daemon.get("/readyz")[1], what=f"/readyz says '{reason}'")
    return daemon.get("/readyz")[1]


def cause(world):
    return wait_for(lambda: own(world, "stopped"), what="the own key says why")


def anew(world):
    world.kafka.delete(world.topic)
    world.kafka.create(world.topic, world.partitions)


def test_a_gap_that_retention_left_stops_the_partition_until_it_is_accepted(new_world):
    world = new_world(partitions=1)
    world.send(*retweets(world, "early", "early"))
    world.run_until_end()
    world.kafka.write(world.topic, retweets(world, "lost", "lost", "lost", "late", at=NOW + 1000))
    world.kafka.cut(world.topic, 0, 5)
    with world.daemon() as daemon:
        assert "3 records are lost, from 2 to before 5" in stopped(daemon, "does not reach back")
        wait_for(lambda: daemon.metrics()['cloutd_log_missing_messages{partition="0"}'] == 3, what="3 are missing")
        wait_for(lambda: daemon.metrics()['cloutd_partitions{phase="stopped"}'] == 1, what="it is counted as stopped")
        assert cause(world) == "gap 2 5 6"
        wait_for(lambda: re.search(r"partition stopped.*next=2 .*log_begin=5 log_end=6 lost=3", daemon.log()),
                 what="the log says so")
        wrong = cloutctl(daemon, "resume", "0", "--truncated")
        assert wrong.returncode == 64 and "give --accept-gap" in wrong.stderr
        said = resume(daemon, "--accept-gap")
        assert said == {"partition": 0, "decision": "accept-gap", "low": 5, "gen": 1, "gap": "2-5", "missing_messages": 3}
        daemon.wait_ready()
        wait_for(lambda: own(world, "low") == "6", what="the rest is read")
        assert (score(world, "early"), score(world, "lost"), score(world, "late")) == (20, None, 10)
        again = cloutctl(daemon, "resume", "0", "--accept-gap")
        assert again.returncode == 64 and "has not stopped" in again.stderr
        told = cloutctl(daemon, "explain", "late")
        assert "missing   3 offsets (2-5)" in told.stdout, told.stdout + told.stderr


def test_retention_up_to_where_redis_is_loses_nothing(new_world):
    world = new_world(partitions=1)
    world.send(*retweets(world, "x", "y", "x"))
    world.run_until_end()
    world.kafka.cut(world.topic, 0, 3)
    world.send(*retweets(world, "x", at=NOW + 1000))
    world.run_until_end()
    world.check()


def test_a_gap_opens_while_the_daemon_waits_for_redis(new_world):
    world = new_world(partitions=1)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*retweets(world, "x", "x"))
        world.wait_until_read()
        daemon.terminate()
    world.kafka.write(world.topic, retweets(world, *["x"] * 5, at=NOW + 1000))
    world.kafka.cut(world.topic, 0, 7)
    daemon = world.daemon("--until-end")
    assert daemon.wait() == 70, daemon.log_tail()
    assert score(world, "x") == 20


@pytest.mark.parametrize("n", [0, 2, 4, 9])
def test_a_topic_made_anew_while_nobody_ran(new_world, n):
    world = new_world(partitions=1)
    world.kafka.write(world.topic, retweets(world, *"xyxz"))
    daemon = world.daemon("--until-end")
    assert daemon.wait() == 0, daemon.log_tail()
    anew(world)
    world.kafka.write(world.topic, retweets(world, *["x"] * n, at=NOW + 10_000))
    with world.daemon() as daemon:
        stopped(daemon, "ends before" if n < 4 else "is not in this log")
        assert cause(world) == f"{'truncated' if n < 4 else 'another-log'} 4 0 {n}"
        assert score(world, "x") == 20
        assert resume(daemon, "--new-log")["gen"] == 2
        wait_for(lambda: own(world, "low") == str(n), what="the new log is read")
        assert score(world, "x") == 20 + 10 * n
        daemon.wait_ready()


def test_a_topic_made_anew_under_a_running_daemon(new_world):
    world = new_world(partitions=1)
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.kafka.write(world.topic, retweets(world, *"xyxz"))
        wait_for(lambda: own(world, "low") == "4", what="all is read")
        world.kafka.delete(world.topic)
        wait_for(lambda: "no such topic any more" in daemon.get("/readyz")[1], what="the topic is missed")
        daemon.process.send_signal(signal.SIGSTOP)  # it shall not see it before all of it is there
        world.kafka.create(world.topic, 1)
        world.kafka.write(world.topic, retweets(world, *["x"] * 9, at=NOW + 10_000))
        daemon.process.send_signal(signal.SIGCONT)
        stopped(daemon, "is not in this log")
        assert cause(world) == "another-log 4 0 9"
        assert score(world, "x") == 20
        resume(daemon, "--new-log")
        wait_for(lambda: own(world, "low") == "9", what="the new log is read")
        assert score(world, "x") == 110
        daemon.wait_ready()


def test_transactions_and_the_gaps_that_they_leave(new_world):
    world = new_world(partitions=1)
    stream = Stream(40, world)
    for i in range(6):
        records = list(stream.records(300, step_ms=1000))
        if i % 2 == 0:
            world.kafka.write(world.topic, records, transaction="abort")
            continue
        for record in records:
            world.oracle.feed(0, 0, record.time_ms, record.key, record.value)
        world.kafka.write(world.topic, records, transaction="commit")
        if i == 3:
            assert world.daemon("--until-end").wait() == 0
    daemon = world.daemon("--until-end")
    assert daemon.wait() == 0, daemon.log_tail()
    assert int(own(world, "low")) == world.kafka.ends(world.topic)[0]
    world.check()


def test_isolation_cannot_be_taken_back(new_world):
    world = new_world()
    (world.folder / "kafka.properties").write_text("isolation.level=read_uncommitted\n")
    daemon = world.daemon("--check-config")
    assert daemon.wait() == 78
    assert "isolation.level: must not be set here" in daemon.log()


def test_resume_says_what_is_wrong(new_world):
    world = new_world(partitions=1)
    world.send(*retweets(world, "x"))
    world.run_until_end()
    for words, status, why in ((["resume"], 64, "needs the partition's number"),
                               (["resume", "x", "--new-log"], 64, "takes the number"),
                               (["resume", "0"], 64, "say how"),
                               (["resume", "0", "--new-log", "--truncated"], 64, "one decision"),
                               (["get", "x", "--new-log"], 64, "belongs to resume"),
                               (["resume", "7", "--new-log"], 64, "no cloutd has claimed it"),
                               (["resume", "0", "--new-log"], 64, "has not stopped")):
        done = cloutctl(world.daemons[0], *words)
        assert (done.returncode, why in done.stderr) == (status, True), done.stderr
    world.redis.client.hset(f"t:own:{world.topic}:0", "stopped", "gap 1 2 3")
    done = cloutctl(world.daemons[0], "resume", "0", "--accept-gap")
    assert done.returncode == 75 and "no cloutd has carried it out yet" in done.stderr
    world.redis.kill()
    done = cloutctl(world.daemons[0], "resume", "0", "--accept-gap")
    assert done.returncode in (69, 75) and "Redis" in done.stderr
    world.redis.start()
