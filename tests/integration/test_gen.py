# SPDX-License-Identifier: Apache-2.0
"""clout-gen as a program: what arrives at a broker, and what its exit status says.

Its embedded broker serves here; what is in the events is the unit test's business (tests/unit/test_gen.c)."""

import json
import signal
import subprocess

import pytest

from harness import BUILD, PATIENCE, wait_for

GEN = BUILD / "bench" / "clout-gen"
T0 = 1_718_000_000_000
DAY = 86_400_000


def gen(*options, **more):
    return subprocess.run([GEN, *options], capture_output=True, text=True, timeout=60, **more)


@pytest.fixture
def broker(tmp_path):
    address = tmp_path / "broker"
    server = subprocess.Popen([GEN, "--embedded-broker", "--topic", "events", "--partitions", "3",
                               "--broker-file", address])
    try:
        wait_for(address.exists, what="the embedded broker's address")
        yield address.read_text().strip()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


def read_topic(broker):
    """[(partition, time, key or None, value)]"""
    out = subprocess.run(["kcat", "-b", broker, "-t", "events", "-C", "-e", "-q", "-J"],
                         capture_output=True, check=True, timeout=60).stdout
    records = [json.loads(line) for line in out.splitlines()]
    return [(r["partition"], r["ts"], r["key"], r["payload"]) for r in records]


def test_every_event_arrives_once_with_its_target_as_key_and_its_time_as_the_records(broker):
    options = ["--events", "9000", "--per-message", "3", "--accounts", "50", "--undo", "5%", "--unkeyed", "10%",
               "--start-ts", str(T0), "--span", "30d", "--seed", "1"]
    run = gen("--brokers", broker, "--topic", "events", *options, "--lz4")
    assert run.returncode == 0, run.stderr
    records = read_topic(broker)
    same = gen("--stdout", *options).stdout
    assert sorted("\n".join(value for *_, value in records).split("\n")) == sorted(same.split("\n")[:-1])
    partition_of = {}
    for partition, time_ms, key, value in records:
        events = [json.loads(line) for line in value.split("\n")]
        assert len({event["target"] for event in events}) == 1
        assert max(event["ts"] for event in events) <= time_ms
        assert T0 <= time_ms < T0 + 30 * DAY
        if key is not None:
            assert key == events[0]["target"]
            assert partition_of.setdefault(key, partition) == partition
    unkeyed = sum(key is None for _, _, key, _ in records)
    assert f" unkeyed={unkeyed}\n" in run.stderr and unkeyed > 0
    assert len({time_ms for _, time_ms, _, _ in records}) > 2500, "spread over the span"


def test_a_replay_keeps_times_keys_and_bytes(broker, tmp_path):
    lines = ['{"type":"reply","actor":"a","target":"b","ts":%d}' % T0,
             'broken',
             '{"ts": "%d", "target" : "\\u00e9", "actor":1, "type":"x"}' % (T0 + DAY)]
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines))
    run = gen("--brokers", broker, "--topic", "events", "--replay", file)
    assert run.returncode == 0, run.stderr
    got = sorted((time_ms, key or "", value) for _, time_ms, key, value in read_topic(broker))
    assert got == [(T0, "", lines[1]), (T0, "b", lines[0]), (T0 + DAY, "é", lines[2])]


def test_speed_and_rate_keep_time(tmp_path):
    """Never faster than that.  What was recorded takes ten seconds."""
    file = tmp_path / "events.ndjson"
    file.write_text("".join('{"type":"x","actor":"a","target":"b","ts":%d}\n' % (T0 + i * 1000) for i in range(11)))
    seconds = lambda run: float(run.stderr.split("seconds=")[1].split()[0])
    assert 0.9 <= seconds(gen("--stdout", "--replay", file, "--speed", "10")) < 9.9, "ten seconds in one"
    assert seconds(gen("--stdout", "--replay", file)) < 9.9, "as fast as it goes"
    assert 0.9 <= seconds(gen("--stdout", "--rate", "1000", "--events", "1000"))


@pytest.mark.parametrize("status, what, options", [
    (64, "one of --stdout", []),
    (64, "--undo", ["--stdout", "--undo", "70%"]),
    (64, "not there.ndjson", ["--stdout", "--replay", "not there.ndjson"]),
    (69, "127.0.0.1:1", ["--brokers", "127.0.0.1:1", "--topic", "t", "--events", "1"]),
])
def test_what_cannot_be_done_is_named_and_has_its_exit_status(status, what, options):
    run = gen(*options)
    assert run.returncode == status
    assert what in run.stderr


def test_events_that_a_lost_broker_did_not_acknowledge_are_a_failure(tmp_path):
    address = tmp_path / "broker"
    server = subprocess.Popen([GEN, "--embedded-broker", "--topic", "events", "--broker-file", address])
    wait_for(address.exists, what="the embedded broker's address")
    sender = subprocess.Popen([GEN, "--brokers", address.read_text().strip(), "--topic", "events", "--rate", "2000",
                               "-X", "message.timeout.ms=1500"], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: read_topic(address.read_text().strip()), what="the first events")
    assert sender.poll() is None
    server.kill()
    server.wait(PATIENCE)
    _, stderr = sender.communicate(timeout=PATIENCE)
    assert sender.returncode == 69
    assert "not delivered" in stderr
