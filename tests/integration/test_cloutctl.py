# SPDX-License-Identifier: Apache-2.0
"""cloutctl against a Redis that is filled by hand: what is printed, and the exit status.

No daemon runs, so the packed state is made here, byte by byte, from the contract and not from the daemon's code.
CLOUTD_BUILD names the folder with the programs (default: build/dev).
"""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis as redis_py
import xxhash

from harness import PATIENCE, free_port, redis_server_program, wait_for
from oracle import Policy
from policies import KRED, WINDOWS, published, with_points

ROOT = Path(__file__).resolve().parents[2]
CLOUTCTL = Path(os.environ.get("CLOUTD_BUILD", ROOT / "build" / "dev")) / "cloutctl"
HOUR, DAY = 3_600_000, 86_400_000
AT = 1_718_000_000_000  # the moment for which accounts were scored
PASSWORD = "a pass%sword"  # a blank and a % must get through


# ---- a packed state, as state.h and window.h describe it ----

def leb(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7f | 0x80])
        n >>= 7
    return out + bytes([n])


def row(counts):
    """A mask and the counts that are not zero, zigzag."""
    mask = sum(1 << cell for cell, n in enumerate(counts) if n)
    return leb(mask) + b"".join(leb(n << 1 if n >= 0 else (-n << 1) - 1) for n in counts if n)


def bucket(account, at, length):
    place = xxhash.xxh3_64_intdigest(account) % 60
    return (at + place * (length // 60)) // length


def packed(account, events, pos):
    """The state after @events, (ms, cell) each, with rings of 1 h and 1 d and the seven cells of kred; without
    rows, which only the function in Redis reads."""
    history = row([sum(cell == c for _, cell in events) for c in range(7)]) if events else b""
    for length in (HOUR, DAY) if events else ():
        buckets = {}
        for ms, cell in events:
            buckets.setdefault(bucket(account, ms, length), [0] * 7)[cell] += 1
        before = 0
        for number in sorted(buckets):
            history += leb(number - before) + row(buckets[number])
            before = number
        history += b"\0"
    data = bytes([2]) + leb(1) + leb(pos + 1) + leb(AT) + leb(0) + leb(0) + leb(0) + leb(0) + history
    check = xxhash.xxh3_64_intdigest(data, seed=xxhash.xxh3_64_intdigest(account)) & 0xffffffff
    return data + check.to_bytes(4, "little")


# ---- Redis ----

class Redis:
    """A server with a password, called with a command."""

    def __init__(self, folder):
        self.port = free_port()
        self.folder = folder
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [redis_server_program(self.folder), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=self.folder)
        self.process.stdin.write(f"""bind 127.0.0.1
port {self.port}
save ""
appendonly no
requirepass "{PASSWORD}"
""".encode())
        self.process.stdin.close()
        self.client = redis_py.Redis(port=self.port, password=PASSWORD)
        wait_for(self._answers, what="redis-server answers")

    def _answers(self):
        with contextlib.suppress(redis_py.ConnectionError):
            return self.client.ping()
        return False

    def __call__(self, *words):
        return self.client.execute_command(*words)

    def stop(self):
        self.client.close()
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    redis = Redis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.stop()


@pytest.fixture
def redis(server):
    server("FLUSHALL")
    return server


@pytest.fixture
def config(redis, tmp_path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "policies").mkdir()
    shutil.copy(ROOT / "conf" / "policies" / "kred.yaml", tmp_path / "policies")
    # librdkafka's own mock broker inside the client; it makes the topic with four empty partitions.
    (tmp_path / "kafka.properties").write_text("test.mock.num.brokers=1\nallow.auto.create.topics=true\n")
    path = tmp_path / "cloutd.yaml"
    path.write_text(f"""kafka: {{brokers: "127.0.0.1:1", topic: t, group: g, properties_file: kafka.properties}}
redis: {{address: "127.0.0.1:{redis.port}", password_file: password}}
policy: policies/kred.yaml
""")
    return path


ENV = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def ctl(config, *args, env=ENV):
    done = subprocess.run([CLOUTCTL, "--config", config, *args], capture_output=True, env=env, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def start(config):
    """cloutctl in the background, ended with the test."""
    started = []

    def run(*args, **options):
        started.append(subprocess.Popen([CLOUTCTL, "--config", config, *args], env=ENV, **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def write_account(redis, account, events, pos=41, version="", **fields):
    """As the daemon writes it, with fields to differ."""
    points = [10, 25, 50, 10, 25, 50, 1]
    within = {name: [0] * 7 for name in ("24h", "30d", "90d", "all")}
    for ms, cell in events:
        for name, (length, n) in {"24h": (HOUR, 24), "30d": (DAY, 30), "90d": (DAY, 90)}.items():
            if bucket(account, ms, length) > bucket(account, AT, length) - n:
                within[name][cell] += 1
        within["all"][cell] += 1
    values = {name: sum(n * p for n, p in zip(counts, points)) for name, counts in within.items()}
    values |= {"score": values["30d"], "cells": " ".join(map(str, within["30d"])), "at": AT, "next": AT + HOUR,
               "pol": version, "_src": 5, "_s5": packed(account, events, pos)}
    values |= fields
    redis("HSET", b"clout:a:" + account, *[x for pair in values.items() for x in pair])
    redis("HSET", "clout:sources", "t:0", 4, "t:3", 5)


def publish(redis, policy=KRED, headline="30d"):
    """Its version; and Redis calls it current."""
    version, text = published(policy, WINDOWS, headline)
    redis("SET", f"clout:policy:{version}", text)
    redis("SET", "clout:policy", version)
    return version


EVENTS = [(AT - 2 * HOUR, 0), (AT - 3 * HOUR, 0), (AT - 3 * HOUR, 6), (AT - 5 * DAY, 2), (AT - 60 * DAY, 6),
          (AT - 200 * DAY, 1)]


# ---- top ----

def board(redis, **scores):
    for account, score in scores.items():
        redis("ZADD", "clout:top:30d", score, account)


def test_top_prints_a_line_an_account_where_no_terminal_is(redis, config):
    board(redis, alice=1234, bob=20)
    status, out, err = ctl(config, "top")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d  1 alice 1234\n\d\d:\d\d:\d\d  2 bob 20\n", out)


def test_top_shows_as_many_as_asked_for_of_the_window_asked_for(redis, config):
    board(redis, alice=1)
    for i in range(30):
        redis("ZADD", "clout:top:24h", i + 1, f"a{i}")
    assert len(ctl(config, "top", "--window", "24h")[1].splitlines()) == 10, "ten unless asked otherwise"
    _, out, _ = ctl(config, "-n", "2", "-w", "24h", "top", "--json")
    frame = json.loads(out)
    assert [(a["rank"], a["account"], a["score"], a["change"]) for a in frame["accounts"]] == \
        [(1, "a29", 30, None), (2, "a28", 29, None)]
    assert (frame["window"], frame["on_board"]) == ("24h", 30)


def test_top_of_an_empty_board_is_a_sentence(redis, config):
    status, out, _ = ctl(config, "top", "--window", "all")
    assert status == 0 and "nobody is on the board of all" in out


def test_top_names_the_windows_there_are(redis, config):
    assert ctl(config, "top", "--window", "7d") == \
        (64, "", "cloutctl: --window 7d: no such window; choose one of 24h, 30d, 90d, all\n")


def test_top_watches_what_changes(redis, start):
    board(redis, alice=100, bob=50, carol=7)
    process = start("top", "--watch", stdout=subprocess.PIPE)

    def frame():
        return [process.stdout.readline().split()[1:] for _ in range(3)]

    before = [[b"1", b"alice", b"100", b"-"], [b"2", b"bob", b"50", b"-"], [b"3", b"carol", b"7", b"-"]]
    assert frame() == before
    # At one moment for whoever looks.
    redis("EVAL", """redis.call("ZADD", KEYS[1], 120, "alice", 45, "bob", 9, "dave")
                     redis.call("ZREM", KEYS[1], "carol")""", 1, "clout:top:30d")
    while (after := frame()) == before:
        pass
    assert after == [[b"1", b"alice", b"120", b"+20"], [b"2", b"bob", b"45", b"-5"], [b"3", b"dave", b"9", b"new"]]


def test_top_watches_as_often_as_asked(redis, start):
    board(redis, alice=100)
    process = start("top", "--watch", "--count", "2", stdout=subprocess.PIPE)
    assert process.communicate(timeout=PATIENCE)[0].count(b"alice") == 2
    assert process.returncode == 0


def read_until(fd, text, seconds=PATIENCE):
    got = b""
    end = time.monotonic() + seconds
    while text not in got and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                got += os.read(fd, 65536)
            except OSError:  # the other side is gone
                break
    assert text in got, got
    return got


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_on_a_terminal_draws_over_the_last_frame_and_gives_the_cursor_back(redis, start, number):
    board(redis, alice=100, bob=50)
    leader, follower = pty.openpty()
    process = start("top", "--watch", stdout=follower)
    os.close(follower)
    first = read_until(leader, b"bob")
    assert b"\x1b[?25l" in first, "the cursor is hidden"
    second = read_until(leader, b"bob")
    assert b"\x1b[4A" in first + second, "up over heading, column heads and two rows"
    process.send_signal(number)
    read_until(leader, b"\x1b[?25h")
    assert process.wait(PATIENCE) == 0, "stopped as asked"
    os.close(leader)


def test_top_outlives_a_redis_that_is_gone_for_a_while(redis, start):
    board(redis, alice=1)
    process = start("top", "--watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"alice" in process.stdout.readline()
    redis.stop()
    assert b"trying again" in process.stderr.readline()
    redis.start()
    board(redis, bob=2)
    for line in process.stdout:
        if b"bob" in line:
            break
    else:
        pytest.fail("it ended")


# ---- get and explain ----

def test_get_shows_the_public_fields_only(redis, config):
    write_account(redis, b"bob", EVENTS, version="v1")
    status, out, err = ctl(config, "get", "bob")
    assert (status, err) == (0, "")
    assert out == """bob
  score     71  (of 30d)
  24h       21
  30d       71
  90d       72
  all       97
  cells     2 0 1 0 0 0 1
  pol       v1
  at        2024-06-10 06:13:20 UTC
  next      2024-06-10 07:13:20 UTC
"""
    assert json.loads(ctl(config, "get", "--json", "bob")[1]) == {
        "account": "bob", "score": 71, "windows": {"24h": 21, "30d": 71, "90d": 72, "all": 97},
        "cells": [2, 0, 1, 0, 0, 0, 1], "at": AT, "next": AT + HOUR, "pol": "v1"}


@pytest.mark.parametrize("command", ["get", "explain"])
def test_an_account_that_is_not_there_is_status_1_and_a_sentence(redis, config, command):
    status, out, err = ctl(config, command, "nobody")
    assert (status, out) == (1, "")
    assert err == "cloutctl: nobody has no score: it never had an interaction that counts, or has left\n"


def at_edge(account, ms, length, n):
    """When the bucket of that moment leaves a window of n buckets."""
    place = xxhash.xxh3_64_intdigest(account) % 60
    leaves = (bucket(account, ms, length) + n) * length - place * (length // 60)
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(leaves // 1000))


def test_explain_adds_up_to_what_redis_shows(redis, config):
    version = publish(redis)
    write_account(redis, b"bob", EVENTS, version=version)
    status, out, err = ctl(config, "explain", "bob")
    assert (status, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "Activity statement of bob, as of 2024-06-10 06:13:20 UTC", "",
        "24h",
        "retweet, up to 10,000 followers 2 × 10 = 20",
        "follow, any followers 1 × 1 = 1",
        "total 21 as in Redis",
        f"by itself at {at_edge(b'bob', AT - 3 * HOUR, HOUR, 24)}: -11, to 10", "",
        "30d, the score",
        "retweet, up to 10,000 followers 2 × 10 = 20",
        "retweet, over 100,000 followers 1 × 50 = 50",
        "follow, any followers 1 × 1 = 1",
        "total 71 as in Redis",
        f"by itself at {at_edge(b'bob', AT - 5 * DAY, DAY, 30)}: -50, to 21", "",
        "90d",
        "retweet, up to 10,000 followers 2 × 10 = 20",
        "retweet, over 100,000 followers 1 × 50 = 50",
        "follow, any followers 2 × 1 = 2",
        "total 72 as in Redis",
        f"by itself at {at_edge(b'bob', AT - 60 * DAY, DAY, 90)}: -1, to 71", "",
        "all",
        "retweet, up to 10,000 followers 2 × 10 = 20",
        "retweet, over 10,000 followers 1 × 25 = 25",
        "retweet, over 100,000 followers 1 × 50 = 50",
        "follow, any followers 2 × 1 = 2",
        "total 97 as in Redis", "",
        f"policy {version}, kred",
        "counted up to offset 41 of t, partition 3",
        "at 2024-06-10 06:13:20 UTC",
        f"next {at_edge(b'bob', AT - 5 * DAY, DAY, 30)}: without new events the score changes by -50 then, to 21"]
    said = json.loads(ctl(config, "explain", "bob", "--json")[1])
    assert said["equal"] is True and said["score"] == 71
    assert said["position"] == {"source": "t:3", "offset": 41, "generation": 1, "parts": 1, "gap": None}
    assert [(w["window"], w["total"], w["in_redis"]) for w in said["windows"]] == \
        [("24h", 21, 21), ("30d", 71, 71), ("90d", 72, 72), ("all", 97, 97)]
    assert said["windows"][1]["cells"][2] == {"rule": "retweet", "tier": 2, "followers_over": 100000, "count": 1,
                                              "points": 50, "total": 50}


@pytest.mark.parametrize("fields, words", [
    ({"24h": 22}, "24h adds up to 21, Redis shows 22"),
    ({"score": 70}, "the score in Redis is 70, its window 30d has 71"),
    ({"cells": "2 0 1 0 0 0 2"}, 'counts "2 0 1 0 0 0 1" in its cells, Redis shows "2 0 1 0 0 0 2"'),
])
def test_explain_says_when_redis_shows_something_else(redis, config, fields, words):
    write_account(redis, b"bob", EVENTS, version=publish(redis), **fields)
    status, out, err = ctl(config, "explain", "bob")
    assert status == 70 and words in err and err.count("\n") == 1
    assert out.startswith("Activity statement"), "it is shown all the same"
    assert json.loads(ctl(config, "explain", "bob", "--json")[1])["equal"] is False


def test_explain_goes_by_the_version_that_the_hash_names(redis, config):
    version = publish(redis, with_points(KRED, [1, 2, 3, 4, 5, 6, 7]))
    current = publish(redis)
    write_account(redis, b"bob", EVENTS, version=version, score=12, **{"24h": 9, "30d": 12, "90d": 19, "all": 21})
    status, out, err = ctl(config, "explain", "bob")
    assert (status, err) == (0, "")
    assert f"policy    {version}, kred\n          the current version is {current}; the account has yet" in out
    said = json.loads(ctl(config, "explain", "bob", "--json")[1])
    assert said["equal"] is True and said["policy"] == {"name": "kred", "version": version, "current": current}


def test_explain_needs_the_policy_that_the_hash_names(redis, config):
    write_account(redis, b"bob", EVENTS, version="fedcba9876543210")
    status, out, err = ctl(config, "explain", "bob")
    assert (status, out) == (70, "") and "Redis has no policy fedcba9876543210" in err
    redis("SET", "clout:policy:fedcba9876543210", published(KRED, WINDOWS, "30d")[1])
    assert "it names another version" in ctl(config, "explain", "bob")[2]
    redis("SET", "clout:policy:fedcba9876543210", '{"name":"kred"}')
    assert "was not written by cloutd" in ctl(config, "explain", "bob")[2]
    redis("HDEL", "clout:a:bob", "pol")
    assert "names no policy" in ctl(config, "explain", "bob")[2]


def test_explain_refuses_what_is_damaged(redis, config):
    write_account(redis, b"bob", EVENTS, version=publish(redis), _s5=packed(b"eve", EVENTS, 41))
    status, out, err = ctl(config, "explain", "bob")
    assert (status, out) == (70, "") and "the state of bob in field _s5 is damaged" in err
    redis("HDEL", "clout:a:bob", "_s5")
    assert "has no field _s5" in ctl(config, "explain", "bob")[2]
    redis("HDEL", "clout:a:bob", "_src")
    assert "was not written by cloutd" in ctl(config, "explain", "bob")[2]


@pytest.mark.parametrize("account", [b"-n", b"two words", b"\xff\xfe", "日本".encode(), b"a\x1b[2Jb", b"x" * 255],
                         ids=["option", "words", "no UTF-8", "Japanese", "escape", "longest"])
def test_an_account_may_be_any_bytes(redis, config, account):
    write_account(redis, account, EVENTS, version=publish(redis))
    status, out, err = ctl(config, "explain", "--", account)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    status, out, _ = ctl(config, "get", "--json", "--", account)
    assert status == 0 and json.loads(out)["account"] == account.decode(errors="replace")


# ---- policy ----

def test_policy_is_what_redis_says(redis, config):
    status, out, err = ctl(config, "policy")
    assert (status, out) == (1, "") and "cloutd writes it when it starts" in err
    version = publish(redis)
    status, out, _ = ctl(config, "policy", "show")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:6] == ["policy kred", f"version {version}", "", "rule actor points types",
                         "retweet up to 10,000 followers 10 retweet", "over 10,000 followers 25"]
    assert lines[-4:] == ["24h 1h", "30d 1d the score", "90d 1d", "all -"]
    assert ctl(config, "policy", "--json")[1] == published(KRED, WINDOWS, "30d")[1] + "\n"


def test_policy_of_another_version_is_shown_too(redis, config):
    redis("SET", "clout:policy", "0123456789abcdef")
    status, _, err = ctl(config, "policy")
    assert status == 70 and "Redis has no policy 0123456789abcdef" in err
    version = publish(redis, Policy("h\u00e9\u2028\x7f\\\"", KRED.rules), headline="all")
    publish(redis)
    status, out, err = ctl(config, "policy", "show", version)
    assert (status, err) == (0, "") and f"version  {version}" in out and "all     -  the score" in out
    assert ctl(config, "policy", "show", config.parent / "policies" / "kred.yaml")[0] == 0


def test_diff_says_what_another_policy_changes(redis, config):
    version = publish(redis)
    path = config.parent / "policies" / "mine.yaml"
    right = (config.parent / "policies" / "kred.yaml").read_text()
    path.write_text(right.replace("name: kred", "name: mine").replace("name: follow", "name: friends")
                    .replace("points: 1}", "points: 3}"))
    status, out, err = ctl(config, "policy", "diff", version, path)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith(f"kred {version} → mine ")
    assert lines[1:] == ["name kred → mine", "rule follow → friends", "points friends, first tier: 1 point → 3 points",
                         "The same is counted: a reload takes it, and all accounts are scored anew from what Redis has."]
    assert ctl(config, "policy", "diff", version, config.parent / "policies" / "kred.yaml")[1].endswith("No difference.\n")
    path.write_text(right.replace("types: [retweet]", "types: [share, quote]"))
    said = json.loads(ctl(config, "policy", "diff", version, path, "--json")[1])
    assert said["same_cells"] is False
    assert said["changes"] == [{"what": "type", "rule": "retweet", "from": "retweet", "to": None},
                               {"what": "type", "rule": "retweet", "from": None, "to": "share"},
                               {"what": "type", "rule": "retweet", "from": None, "to": "quote"}]
    path.write_text("name: x\nrules: []\n")
    status, out, err = ctl(config, "policy", "diff", version, path)
    assert (status, out) == (78, "") and "mine.yaml:2:8: rules: must not be empty" in err


def test_simulate_steps_over_what_cloutd_did_not_write(redis, config):
    assert ctl(config, "policy", "simulate", "x.yaml")[0] == 1
    version = publish(redis)
    for account in (b"bab", b"bob", b"bo"):  # with the same points: in Redis's own order
        write_account(redis, account, EVENTS, version=version)
    for key, cells in ((b"short", "1 2"), (b"long", "1 2 3 4 5 6 7 8"), (b"text", "a b c d e f g")):
        redis("HSET", b"clout:a:" + key, "cells", cells)
    redis("SET", "clout:a:string", "x")
    said = json.loads(ctl(config, "policy", "simulate", config.parent / "policies" / "kred.yaml", "--json")[1])
    assert (said["accounts"], said["rise"], said["fall"], said["unreadable"]) == (3, 0, 0, 4)
    for account in (b"bab", b"bob", b"bo"):
        redis("ZADD", "clout:top:30d", 71, account)
    assert [row["account"].encode() for row in said["board"]] == redis("ZREVRANGE", "clout:top:30d", 0, -1)
    assert said["board"][0] == {"then": 1, "now": 1, "account": "bob", "points": 71, "points_now": 71}


# ---- lag ----

def test_lag_sets_redis_against_the_log(redis, config):
    redis("HSET", "clout:own:t:0", "low", 0, "now", AT, "host", "h1", "pid", 77, "at", AT)
    redis("HSET", "clout:own:t:1", "low", 5, "now", AT, "host", "h\x1b2", "pid", 78, "at", AT)
    status, out, err = ctl(config, "lag")
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1] == "0 0 0 0 0.0 s h1 pid 77, wrote last 2024-06-10 06:13:20 UTC"
    assert lines[2].startswith("1 5 0 0 0.0 s h\\x1b2 pid 78") and "the log ends before what Redis has" in lines[2]
    assert lines[3] == "2 - 0 - - not claimed by any cloutd yet"
    assert lines[-1] == "all 0 0.0 s as far as it is known"
    said = json.loads(ctl(config, "lag", "--json")[1])
    assert (said["topic"], said["complete"], len(said["partitions"])) == ("t", False, 4)
    assert said["partitions"][0] == {"partition": 0, "low": 0, "end_offset": 0, "lag_messages": 0, "lag_seconds": 0.0,
                                     "host": "h1", "pid": "77", "written": AT}
    assert said["partitions"][2]["lag_messages"] is None


def test_lag_without_kafka_says_where_it_asked(redis, config):
    (config.parent / "kafka.properties").write_text("")
    status, out, err = ctl(config, "lag")
    assert (status, out) == (75, "")
    assert err.startswith("cloutctl: cannot ask Kafka at 127.0.0.1:1: ") and err.count("\n") == 1
    assert "Connection refused" in err, "librdkafka's reason, not only that it failed"


# ---- what goes wrong ----

@pytest.mark.parametrize("args, words", [
    ([], "say what to do"),
    (["tpo"], "there is no command tpo"),
    (["get"], "get needs the account: cloutctl get ACCOUNT"),
    (["get", "two", "words"], "put quotes around an account"),
    (["get", ""], "an account's id has 1 to 255 bytes, this one 0"),
    (["get", "x" * 256], "this one 256"),
    (["lag", "t"], "lag does not take t"),
    (["policy", "diff", "a"], "policy diff needs the two policies: cloutctl policy diff FROM TO"),
    (["policy", "tell"], "policy does not take tell: give one of show diff simulate"),
    (["policy", "show", "a", "b"], "policy does not take b"),
    (["get", "--policy", "f", "a"], "--policy belongs to explain"),
    (["get", "--timeout", "1", "a"], "--timeout belongs to optout and optin"),
    (["optout", "--timeout", "-1", "a"], "from 0 to"),
    (["resume", "1"], "say how: resume 1"),
    (["get", "--new-log", "a"], "a decision belongs to resume"),
    (["get", "-n", "3", "a"], "-n belongs to top"),
    (["lag", "--watch"], "--watch belongs to top"),
    (["top", "-n", "0"], "from 1 to"),
    (["top", "-n", "3x"], "from 1 to"),
    (["top", "--count", "3"], "--count is for --watch"),
    (["top", "--frob"], "--frob"),
])
def test_wrong_usage_is_status_64(config, args, words):
    status, out, err = ctl(config, *args)
    assert (status, out) == (64, "") and words in err


def test_a_wrong_password_is_refused_for_good_and_not_printed(redis, config):
    (config.parent / "password").write_text("guess\n")
    status, _, err = ctl(config, "top")
    assert status == 69 and "cannot log in to Redis at 127.0.0.1" in err and "guess" not in err
    config.write_text(config.read_text().replace(", password_file: password", ""))
    status, _, err = ctl(config, "top")
    assert status == 69 and ": NOAUTH" in err


def test_no_redis_is_worth_another_try(redis, config):
    config.write_text(config.read_text().replace(str(redis.port), "1"))
    status, _, err = ctl(config, "get", "bob")
    assert (status, err) == (75, "cloutctl: cannot reach Redis at 127.0.0.1:1: Connection refused\n")


def test_a_key_of_another_type_is_named(redis, config):
    redis("SET", "clout:a:bob", "x")
    status, _, err = ctl(config, "get", "bob")
    assert status == 70 and "HGETALL clout:a:bob: WRONGTYPE" in err


def test_a_missing_configuration_is_named(tmp_path):
    status, _, err = ctl(tmp_path / "none.yaml", "lag")
    assert status == 78 and "none.yaml" in err


def test_a_full_disk_is_said(redis, config):
    board(redis, alice=1)
    with open("/dev/full", "w") as full:
        done = subprocess.run([CLOUTCTL, "--config", config, "top"], stdout=full, stderr=subprocess.PIPE, env=ENV)
    assert done.returncode == 70 and b"cannot write to standard output" in done.stderr
