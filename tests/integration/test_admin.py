# SPDX-License-Identifier: Apache-2.0
"""cloutctl and the daemon: status, reload, log-level over the admin socket; and no secret in anything that is said."""

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import BUILD, wait_for
from policies import KRED, with_points
from stream import Stream, running


@pytest.fixture
def socket_path():
    """A socket's path is short."""
    folder = Path(tempfile.mkdtemp(prefix="cloutd-"))
    yield folder / "admin.sock"
    shutil.rmtree(folder)


def ctl(daemon, *words):
    done = subprocess.run([BUILD / "cloutctl", "--config", daemon.log_path.with_suffix(".yaml"), *words],
                          capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"})
    assert done.returncode in (0, 1) or (done.stdout == "" and done.stderr.count("\n") == 1), done
    return done.returncode, done.stdout + done.stderr


@pytest.mark.sanitizer
def test_status_says_how_the_daemon_is(new_world, socket_path):
    with running(new_world, 500, admin_socket=str(socket_path)) as (world, daemon):
        wait_for(lambda: "lag        0 messages, 0 ms" in ctl(daemon, "status")[1], what="it knows that it is at the end")
        code, text = ctl(daemon, "status")
        assert code == 0, text
        version = world.redis.client.get("t:policy").decode()
        for word in ("cloutd ", "ready      yes", "events a second", "lag        0 messages, 0 ms", "latency", "accounts",
                     "MiB of 4,096 MiB", f"kred {version}, read 20"):
            assert word in text, text
        code, text = ctl(daemon, "--json", "status")
        assert code == 0
        assert text.count("\n") == 1
        page = json.loads(daemon.get("/status")[1])
        assert json.loads(text).keys() == page.keys()
        assert json.loads(text)["partitions"] == page["partitions"]
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o660
        world.redis.process.send_signal(signal.SIGSTOP)
        try:
            daemon.wait_ready(ready=False)
            code, text = ctl(daemon, "status")
            assert code == 1
            assert "ready      no: Redis has not answered lane 0" in text, text
            assert ctl(daemon, "--json", "status")[0] == 1
        finally:
            world.redis.process.send_signal(signal.SIGCONT)
        daemon.wait_ready()
    assert not socket_path.exists()


@pytest.mark.sanitizer
def test_reload_waits_and_says_what_became_of_it(new_world, socket_path):
    with running(new_world, 500, admin_socket=str(socket_path)) as (world, daemon):
        assert ctl(daemon, "reload") == (0, "changed: nothing\n")
        path = daemon.log_path.with_suffix(".yaml")
        path.write_text(path.read_text().replace("size: 1000", "size: 10"))
        world.boards = 10
        world.set_policy(with_points(KRED, [1, 2, 3, 4, 5, 6, 7]))
        assert ctl(daemon, "reload", "--json") == (0, '{"changed":"boards.size, all accounts are scored anew"}\n')
        world.wait_until_read()
        world.wait_until_right()
        (world.folder / "policy.yaml").write_text("name: kred\nrules: []\n")
        code, text = ctl(daemon, "reload")
        assert code == 78
        assert text.startswith("cloutctl: nothing was reloaded: ")
        assert "policy.yaml:2:8: rules: must not be empty" in text
        assert "policy.yaml:2:8: rules: must not be empty" in daemon.log()
        world.set_policy(world.policy)


def test_a_reload_while_redis_is_silent_ends_when_it_answers(new_world, socket_path):
    with running(new_world, 2000, admin_socket=str(socket_path)) as (world, daemon):
        world.redis.process.send_signal(signal.SIGSTOP)
        try:
            world.set_policy(with_points(KRED, [1, 2, 3, 4, 5, 6, 7]))
            world.send(*Stream(73, world).records(100))
            daemon.wait_ready(ready=False)
            assert ctl(daemon, "reload")[0] in (0, 75)  # a connection that is given up has nothing under way
        finally:
            world.redis.process.send_signal(signal.SIGCONT)
        wait_for(lambda: "msg=reloaded" in daemon.log(), what="it is over")
        world.wait_until_read()
        world.wait_until_right()


def test_a_reload_while_the_start_waits_is_checked_at_once_and_holds_later(new_world, socket_path):
    world = new_world(admin_socket=str(socket_path))
    world.send(*Stream(73, world).records(200))
    world.redis.kill()
    with world.daemon() as daemon:
        wait_for(lambda: 'msg="waiting for Redis"' in daemon.log(), what="it waits")
        (world.folder / "policy.yaml").write_text("name: kred\nrules: []\n")
        code, text = ctl(daemon, "reload")
        assert code == 78
        assert "policy.yaml:2:8: rules: must not be empty" in text
        world.set_policy(with_points(KRED, [1, 2, 3, 4, 5, 6, 7]))
        code, text = ctl(daemon, "reload")
        assert code == 75
        assert "checked and good; it holds once Kafka and Redis are there" in text
        assert "msg=reloaded" not in daemon.log()
        world.redis.start()
        wait_for(lambda: "msg=reloaded" in daemon.log(), what="it holds")
        world.wait_until_read()
        world.wait_until_right()


# Each command with its words, and what its JSON has at least; policy.yaml is the one at work.
SPEAKS = (
    ("top", {"window", "accounts"}),
    ("get u5", {"account", "score", "windows"}),
    ("explain u5", {"account", "windows", "equal"}),
    ("policy", {"name", "rules", "cells"}),
    ("policy show", {"name", "rules", "cells"}),
    ("policy diff policy.yaml policy.yaml", {"from"}),
    ("policy simulate policy.yaml", set()),
    ("lag", {"topic", "complete", "partitions"}),
    ("status", {"version", "ready", "partitions", "memory"}),
    ("reload", {"changed"}),
    ("log-level info", {"log_level"}),
    ("optout leaver", {"account"}),
    ("optin leaver", {"account"}),
)
ELSEWHERE = {"resume"}  # test_log.py has something to decide


def test_every_command_speaks_json(new_world, socket_path):
    usage = subprocess.run([BUILD / "cloutctl", "--help"], capture_output=True, text=True, check=True).stdout
    known = {line.split()[0] for line, _ in SPEAKS} | ELSEWHERE
    assert set(re.findall(r"cloutctl \[OPTION\.\.\.\]\s+([\w-]+)", usage)) == known
    with running(new_world, 500, admin_socket=str(socket_path)) as (world, daemon):
        for line, keys in SPEAKS:
            words = [str(world.folder / word) if word == "policy.yaml" else word for word in line.split()]
            code, text = ctl(daemon, "--json", *words)
            assert (code, text.count("\n")) == (0, 1), text
            assert json.loads(text).keys() >= keys, text
            code, text = ctl(daemon, *words)
            assert code == 0, text
            assert text.strip() and not text.startswith("{"), text


def test_each_way_to_fail_has_its_exit_status(new_world, socket_path):
    """And one sentence on stderr alone, with --json as well."""
    with running(new_world, 100, admin_socket=str(socket_path)) as (world, daemon):
        path = daemon.log_path.with_suffix(".yaml")
        right = path.read_text()
        for status, words, spoilt in (
            (1, ["get", "nobody"], right),
            (1, ["explain", "nobody"], right),
            (64, ["no-such-command"], right),
            (64, ["resume", "0", "--new-log"], right),  # it has not stopped
            (69, ["top"], right.replace("prefix:", "username: nobody, password_file: salt, prefix:")),
            (75, ["lag"], right.replace(world.kafka.brokers, "127.0.0.1:1")),
            (75, ["top"], right.replace("redis.sock", "no.sock")),
            (75, ["status"], right.replace("admin.sock", "no.sock")),
            (75, ["reload"], right.replace("admin.sock", "no.sock")),
            (75, ["log-level", "info"], right.replace("admin.sock", "no.sock")),
            (78, ["top"], right + "lanes: many\n"),
            (78, ["status"], "not: ours\n"),
            (78, ["reload"], right + "lanes: 3\n"),
        ):
            assert spoilt != right or status in (1, 64)
            path.write_text(spoilt)
            for more in ([], ["--json"]):
                assert ctl(daemon, *words, *more)[0] == status, (words, more, ctl(daemon, *words, *more))
        path.write_text(right)


def test_log_level_changes_until_the_next_reload(new_world, socket_path):
    world = new_world(admin_socket=str(socket_path), log_level="warning")
    with world.daemon() as daemon:
        daemon.wait_ready()
        assert ctl(daemon, "log-level", "debug") == (0, "log_level: debug, was warning\n")
        assert 'msg="log level changed" to="debug, was warning"' in daemon.log()
        assert ctl(daemon, "--json", "log-level", "info") == (0, '{"log_level":"info, was debug"}\n')
        code, text = ctl(daemon, "log-level", "loud")
        assert code == 64
        assert "a log level is error, warning, notice, info or debug" in text
        assert ctl(daemon, "reload") == (0, "changed: nothing\n")
        assert ctl(daemon, "log-level", "info") == (0, "log_level: info, was warning\n")


def test_a_daemon_that_is_down_is_one_sentence(new_world, socket_path):
    world = new_world(admin_socket=str(socket_path))
    daemon = world.daemon()
    daemon.wait_ready()
    daemon.kill()
    assert socket_path.exists()
    for words in (["status"], ["reload"], ["log-level", "info"], ["--json", "status"]):
        assert ctl(daemon, *words) == (75, f"cloutctl: the daemon does not run: nobody listens at {socket_path}\n")
    with world.daemon() as other:  # it takes the file that the killed one left
        other.wait_ready()
        assert ctl(other, "status")[0] == 0
        third = world.daemon()  # and does not lose it to another
        assert third.wait() == 78
        assert f"admin_socket: another daemon listens at {socket_path}" in third.log()
        assert ctl(other, "status")[0] == 0


def test_no_secret_is_ever_said(new_world, socket_path):
    """Not in a log, a page, an error or what cloutctl prints: also where it is wrong."""
    secrets = {"redis": "hush-redis-7f3a", "salt": "hush-salt-0123456789abcdef", "sasl": "hush-sasl-91cc"}
    world = new_world(admin_socket=str(socket_path), log_level="debug", redis_password=secrets["redis"])
    (world.folder / "redis-password").write_text(secrets["redis"] + "\n")
    (world.folder / "salt").write_text(secrets["salt"])
    properties = world.folder / "kafka.properties"
    properties.write_text(properties.read_text() + f"sasl.username=me\nsasl.password={secrets['sasl']}\ndebug=all\n")
    world.config["redis"]["password_file"] = "redis-password"
    said = []
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.send(*Stream(74, world).records(300))
        world.wait_until_read()
        for path in ("/status", "/metrics", "/readyz", "/healthz", "/", "/nothing"):
            said.append(daemon.get(path)[1])
        for words in (["status"], ["--json", "status"], ["reload"], ["lag"], ["top"], ["policy"], ["get", "u5"], ["explain", "u5"]):
            said.append(ctl(daemon, *words)[1])
        for name in ("redis-password", "salt", "kafka.properties"):
            path = world.folder / name
            right = path.read_text()
            path.write_text(right.replace("hush", "hush-hush"))
            said.append(ctl(daemon, "reload")[1])
            # Another password is taken, for the connections to come; the others want a restart.
            assert ("changed: redis.password_file" if name == "redis-password" else "cannot change while it runs") in said[-1]
            path.write_text(right)
            said.append(ctl(daemon, "reload")[1])
        said.append(daemon.log())
    (world.folder / "redis-password").write_text(secrets["redis"] + "-wrong\n")
    wrong = world.daemon()
    assert wrong.wait() == 69
    said += [wrong.log(), daemon.log(), ctl(wrong, "top")[1]]
    assert "redis" in wrong.log().lower()
    for name, secret in secrets.items():
        for text in said:
            assert secret not in text, (name, [line for line in text.splitlines() if secret in line][:3])
    with contextlib.suppress(FileNotFoundError):
        socket_path.unlink()
