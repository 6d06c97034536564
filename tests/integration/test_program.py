# SPDX-License-Identifier: Apache-2.0
"""cloutd as a program: exit statuses, endpoints, metrics, what it says of a configuration that is wrong."""

import json
import re
import shutil
import signal
import subprocess

import pytest

from fixtures import require
from harness import BUILD, PATIENCE, RESULTS, free_port, wait_for
from stream import Stream

T0 = 1_718_000_000_000


def cloutd(*options):
    return subprocess.run([BUILD / "cloutd", *options], capture_output=True, text=True, timeout=60, check=False)


def config_file(world, **changes):
    path = world.folder / "some.yaml"
    config = {**world.config, "http": "", **changes}
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items()))
    return path


@pytest.mark.parametrize("options", [[], ["--no-such-option"], ["--config"], ["--config", "a", "b"]])
def test_wrong_usage_is_64(options):
    run = cloutd(*options)
    assert run.returncode == 64
    assert run.stderr


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_are_0(option):
    run = cloutd(option)
    assert run.returncode == 0
    assert "cloutd" in run.stdout


def test_a_good_configuration_is_0_and_neither_kafka_nor_redis_is_asked(new_world):
    world = new_world()
    world.redis.kill()
    path = config_file(world, kafka={**world.config["kafka"], "brokers": "127.0.0.1:1"})
    run = cloutd("--config", path, "--check-config")
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("change, named", [
    ({"lanes": 0}, "lanes"),
    ({"lane": 1}, "lanes"),  # the nearest name
    ({"policy": "nowhere.yaml"}, "nowhere.yaml"),
    ({"windows": [{"length": "24h", "bucket": "7h"}]}, "bucket"),
    ({"windows": [{"length": "24h", "bucket": "1h"}] * 2}, "24h"),
    ({"headline": "31d"}, "headline"),
    ({"clock": "sundial"}, "clock"),
    ({"memory_limit": "lots"}, "memory_limit"),
    ({"redis": {}}, "redis.address"),
    ({"flush_interval": "100"}, "flush_interval"),
    ({"start": "yesterday"}, "start"),
    ({"http": "nowhere"}, "http"),
])
def test_a_bad_configuration_is_78_and_the_line_is_named(new_world, change, named):
    world = new_world()
    path = config_file(world, **change)
    for mode in (["--check-config"], ["--until-end"], []):
        run = cloutd("--config", path, *mode)
        assert run.returncode == 78, run.stderr
        assert named in run.stderr
        assert f"{path}:" in run.stderr or "nowhere.yaml" in run.stderr


def test_a_configuration_that_is_not_there_is_78(tmp_path):
    run = cloutd("--config", tmp_path / "absent.yaml", "--check-config")
    assert run.returncode == 78
    assert "absent.yaml" in run.stderr


def test_a_bad_policy_is_78_and_the_line_is_named(new_world):
    world = new_world()
    (world.folder / "policy.yaml").write_text("name: x\nrules:\n  - name: a\n    types: [optout]\n    tiers: [{points: 1}]\n")
    run = cloutd("--config", config_file(world), "--check-config")
    assert run.returncode == 78
    assert "policy.yaml:4:" in run.stderr


def test_a_topic_that_nobody_knows_is_69(new_world):
    world = new_world()
    daemon = world.daemon(kafka={**world.config["kafka"], "topic": "no-such-topic"})
    assert daemon.wait() == 69, daemon.log_tail()
    assert "no-such-topic" in daemon.log()


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_69(new_world, policy):
    world = new_world()
    topic = f"{world.topic}-{policy.replace(',', '-')}"
    world.kafka.create(topic, 1, f"cleanup.policy={policy}")
    daemon = world.daemon(kafka={**world.config["kafka"], "topic": topic})
    assert daemon.wait() == 69, daemon.log_tail()
    assert f"topic {topic} has cleanup.policy=" in daemon.log()
    assert "set cleanup.policy=delete" in daemon.log()


def test_a_redis_that_wants_another_password_is_69(new_world):
    world = new_world(redis_password="secret")
    daemon = world.daemon()
    assert daemon.wait() == 69, daemon.log_tail()
    (world.folder / "password").write_text("wrong\n")
    daemon = world.daemon(redis={**world.config["redis"], "password_file": "password"})
    assert daemon.wait() == 69, daemon.log_tail()
    assert "wrong" not in daemon.log().replace("wrong password", "")
    (world.folder / "password").write_text("secret\n")
    with world.daemon(redis={**world.config["redis"], "password_file": "password"}) as daemon:
        daemon.wait_ready()


def test_a_redis_that_would_evict_accounts_is_69(new_world):
    world = new_world(redis_options=("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"))
    daemon = world.daemon()
    assert daemon.wait() == 69, daemon.log_tail()
    assert "noeviction" in daemon.log()


@pytest.mark.parametrize("key", ["mode", "salt_check", "sources", "start:{topic}"])
def test_a_key_that_is_not_ours_is_named_at_the_start(new_world, key):
    world = new_world()
    key = f"{world.prefix}{key.format(topic=world.topic)}"
    world.redis.client.sadd(key, "foreign")
    daemon = world.daemon()
    assert daemon.wait() == 70, daemon.log_tail()
    assert re.search(rf"Redis: [A-Z]+ {key}: WRONGTYPE", daemon.log()), daemon.log_tail()
    assert world.redis.client.smembers(key) == {b"foreign"}


@pytest.mark.parametrize("rules, named", [
    (("~*", "-multi"), "MULTI"),
    (("~*", "-zadd"), "ZADD t:top:x"),
    (("~t:own*", "~t:mode", "~t:salt*"), "DEL t:a:x"),
])
def test_a_redis_that_allows_only_half_of_it_is_69(new_world, rules, named):
    world = new_world()
    world.redis.client.execute_command("ACL", "SETUSER", "clout", "on", ">secret", "+@all", *rules)
    (world.folder / "password").write_text("secret\n")
    daemon = world.daemon(redis={**world.config["redis"], "username": "clout", "password_file": "password"})
    assert daemon.wait() == 69, daemon.log_tail()
    assert re.search(rf"Redis: {named}: NOPERM", daemon.log()), daemon.log_tail()
    assert world.redis.client.keys() == []


@pytest.mark.parametrize("change, back", [
    (("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), ("CONFIG", "SET", "maxmemory-policy", "noeviction")),
    (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
], ids=["evicts", "replica"])
def test_a_server_that_became_unfit_is_not_written_to_after_a_reconnect(new_world, change, back):
    world = new_world()

    def times_asked():
        return world.redis.client.info("commandstats")["cmdstat_time"]["calls"]

    with world.daemon() as daemon:
        daemon.wait_ready()
        world.redis.client.execute_command(*change)
        world.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        daemon.wait_ready(False)
        wait_for(lambda: "noeviction" in daemon.get("/readyz")[1], what="/readyz says what is wrong")
        world.send(world.record({"type": "retweet", "actor": "a", "target": "bob"}, T0))
        wait_for(lambda: daemon.books()["scored"] == 1, what="the event was read")
        tries = times_asked()
        wait_for(lambda: times_asked() > tries + 4, what="it was tried again")
        assert world.read_accounts() == {}
        world.redis.client.execute_command(*back)
        daemon.wait_ready()
        world.wait_until_read()
    world.check()


def test_another_salt_is_refused_instead_of_bringing_people_back(new_world):
    world = new_world()
    world.send(world.record({"type": "optout", "target": "bob"}, T0))
    world.run_until_end()
    (world.folder / "salt").write_text("another-salt-another-salt-0123456789")
    world.send(world.record({"type": "retweet", "actor": "a", "target": "bob"}, T0))
    daemon = world.daemon("--until-end")
    assert daemon.wait() in (69, 78), daemon.log_tail()
    assert "salt" in daemon.log()
    assert world.read_accounts() == {}


def test_without_a_salt_an_opt_out_waits_and_readyz_says_why(new_world):
    world = new_world(partitions=1)
    del world.config["optout_salt_file"]
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(world.record({"type": "retweet", "actor": "a", "target": "bob"}, T0),
                   world.record({"type": "optout", "target": "bob"}, T0))
        daemon.wait_ready(False)
        assert "salt" in daemon.get("/readyz")[1]
        wait_for(lambda: world.low() == {0: 1}, what="what came before is in Redis")
    world.config["optout_salt_file"] = "salt"
    world.run_until_end()
    world.check()


def test_ready_follows_redis(new_world):
    world = new_world()
    with world.daemon() as daemon:
        daemon.wait_ready()
        assert daemon.get("/healthz", PATIENCE)[0] == 200
        world.redis.kill()
        daemon.wait_ready(False)
        assert daemon.get("/healthz", PATIENCE)[0] == 200
        world.redis.start()
        daemon.wait_ready()


def test_a_member_without_partitions_is_ready(new_world):
    world = new_world(partitions=1)
    with world.daemon() as first:
        first.wait_ready()
        with world.daemon() as second:
            second.wait_ready()
            first.wait_ready()


def test_the_books_balance_and_promtool_likes_the_metrics(new_world):
    promtool = shutil.which("promtool")
    require(promtool, "promtool is not installed")
    world = new_world()
    world.send(*Stream(20, world).records(5000))
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_read()
        world.check_books(daemon.books())
        wait_for(lambda: all(daemon.metrics()[f'cloutd_lag_messages{{partition="{p}"}}'] == 0 for p in range(3)),
                 what="no lag")
        status, text = daemon.get("/metrics")
        judged = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")
        metrics = daemon.metrics()
        values = sum(len(record[4] or b"") for record in world.kafka.read(world.topic))
        assert metrics["cloutd_bytes_total"] == values
        policies = [name for name in metrics if name.startswith("cloutd_policy_info")]
        version = world.redis.client.get("t:policy").decode()
        assert len(policies) == 1 and version in policies[0] and '"kred"' in policies[0]
        assert {f'cloutd_events_total{{result="{result}"}}' for result in RESULTS} <= metrics.keys()
        # Each written account was part of one flush.
        assert metrics["cloutd_redis_flush_accounts_sum"] == metrics["cloutd_account_writes_total"]
        assert json.loads(daemon.get("/status")[1])["ready"] is True


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_kafka_and_redis_at_one_position(new_world, sig):
    world = new_world()
    world.send(*Stream(21, world).records(30_000))
    daemon = world.daemon()
    wait_for(lambda: any(world.low().values()) or world.low() == world.ends, what="something was read")
    daemon.process.send_signal(sig)
    assert daemon.wait() == 0, daemon.log_tail()
    world.check_positions()
    world.run_until_end()
    world.check()


def test_a_stop_before_kafka_or_redis_can_be_reached_is_0(new_world):
    world = new_world()
    world.redis.kill()
    for change, said in (({}, "waiting for Redis"),
                         ({"kafka": {**world.config["kafka"], "brokers": f"127.0.0.1:{free_port()}"}}, "cannot reach Kafka")):
        daemon = world.daemon(**change)
        wait_for(lambda: said in daemon.log(), what=f"the log says '{said}'")
        assert daemon.terminate() == 0, daemon.log_tail()


def test_start_end_reads_only_what_comes_later(new_world):
    world = new_world(start="end")
    early = [world.record({"type": "retweet", "actor": "a", "target": f"u{i}"}, T0 + i) for i in range(30)]
    world.kafka.write(world.topic, early)
    for record in early:
        world.ends[record.partition] += 1
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_read()
        world.send(*(world.record({"type": "follow", "actor": "a", "target": f"u{i}"}, T0 + 100) for i in range(30)))
        world.wait_until_read()
        world.wait_until_right()


def test_start_at_a_time_reads_the_records_from_then_on(new_world):
    world = new_world(start="2024-06-10T12:00:00Z")  # 1718020800000
    begin = 1_718_020_800_000
    for i in range(60):
        record = world.record({"type": "retweet", "actor": "a", "target": f"u{i}"}, begin + (i - 30) * 1000)
        if i < 30:
            world.kafka.write(world.topic, [record])
            world.ends[record.partition] += 1
        else:
            world.send(record)
    world.run_until_end()
    world.check()


def test_a_left_name_is_in_no_log(new_world):
    world = new_world()
    name = "wilhelmina-who-leaves"
    world.send(world.record({"type": "retweet", "actor": "a", "target": name}, T0),
               world.record({"type": "optout", "target": name}, T0))
    daemon = world.daemon("--until-end", log_level="debug")
    assert daemon.wait() == 0
    assert name not in daemon.log()
