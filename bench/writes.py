#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""writes.py - what does an account's write cost Redis, as the protocol makes it, against a plain HSET of the same fields?

    bench/writes.py [--accounts N] [--events N] [--rounds N]
    cmake --preset release && cmake --build --preset release        before

bench_lane runs a real lane and records what it sends to Redis.  That is sent again, pipeline by pipeline, to an empty
redis-server under callgrind, in three ways:

    plain      HSET of each account, and nothing else
    guarded    MULTI, HSET, HSET of the own key, EXEC, UNWATCH, WATCH, GET, HMGET: all that guards the write
    whole      with the due index, as it was sent

At the end the accounts must be the same.  Instructions, which repeat on a busy machine, for each HSET of an account.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import children  # noqa: E402  they lie beside this file
from guards import RedisInstructions, harness  # noqa: E402

ACCOUNT = b"clout:a:"
SIZE = {"accounts": 2000, "events": 20_000, "rounds": 8}


def record(folder, **size):
    """[pipeline, ..]; a pipeline is [command, ..], a command [argument, ..]."""
    path = folder / "record"
    done = subprocess.run([harness.BUILD / "bench" / "bench_lane", "--record", path,
                           *(f"--{name}={value}" for name, value in size.items())],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"bench_lane: {done.returncode}\n{done.stdout[-2000:]}"
    data, at, pipelines = path.read_bytes(), 0, []
    while at < len(data):
        end = data.index(b"\r\n", at)
        command, n, at = [], int(data[at + 1:end]), end + 2
        for _ in range(n):
            end = data.index(b"\r\n", at)
            length = int(data[at + 1:end])
            command.append(data[end + 2:end + 2 + length])
            at = end + 4 + length
        # MULTI begins one, UNWATCH only where there is nothing to execute.
        if command[0] == b"MULTI" or (command[0] == b"UNWATCH" and (not pipelines or pipelines[-1][-1][0] != b"EXEC")):
            pipelines.append([])
        pipelines[-1].append(command)
    return pipelines


def is_write(command):
    return command[0] == b"HSET" and command[1].startswith(ACCOUNT)


def plain(pipeline):
    return [command for command in pipeline if is_write(command)]


def guarded(pipeline):
    return [command for command in pipeline if command[0] not in (b"SADD", b"SREM")]


def whole(pipeline):
    return pipeline


def packed(commands):
    return b"".join(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in command)
                    for command in commands)


def send(connection, commands):
    if not commands:
        return
    connection.send_packed_command([packed(commands)])
    for command in commands:
        reply = connection.read_response()
        assert command[0] != b"EXEC" or reply is not None, "an EXEC was refused"


def accounts_of(redis):
    keys = sorted(redis.client.scan_iter(match=ACCOUNT + b"*", count=5000))
    pipeline = redis.client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    return dict(zip(keys, pipeline.execute()))


def measure(**size):
    """{figure: value}"""
    costs, accounts = {}, {}
    with tempfile.TemporaryDirectory(prefix="cloutd-writes-") as name:
        folder = Path(name)
        pipelines = record(folder, **size)
        meter = RedisInstructions(folder)
        first = next(i for i, pipeline in enumerate(pipelines) if any(map(is_write, pipeline)))
        n_writes = sum(map(is_write, (command for pipeline in pipelines for command in pipeline)))
        for way in (plain, guarded, whole):
            redis = harness.Redis(folder / way.__name__)
            try:
                connection = redis.client.connection_pool.get_connection("_")
                for pipeline in pipelines[:first]:  # the claim
                    send(connection, pipeline)
                meter.begin(redis)
                for pipeline in pipelines[first:]:
                    send(connection, way(pipeline))
                costs[way.__name__] = meter.end(redis) / n_writes
                accounts[way.__name__] = accounts_of(redis)
            finally:
                redis.kill()
    assert accounts["plain"] and accounts["plain"] == accounts["guarded"] == accounts["whole"]
    return {"n": n_writes, "new": len(accounts["plain"]) / n_writes, **costs, "guarded_to_plain": costs["guarded"] / costs["plain"],
            "whole_to_plain": costs["whole"] / costs["plain"]}


def main():
    parser = argparse.ArgumentParser(description="Count Redis's instructions for an account's write.")
    for name, default in SIZE.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with children.ended_with_us():
        figures = measure(**vars(options))
    print(f"{figures['n']:,} writes, {100 * figures['new']:.0f} % of a new account")
    for way in ("plain", "guarded", "whole"):
        print(f"{way:8} {figures[way]:10,.0f} instructions of Redis a write  {figures[way] / figures['plain']:.3f}")
    print("figures: " + json.dumps(figures))


if __name__ == "__main__":
    main()
