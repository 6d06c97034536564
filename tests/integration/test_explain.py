# SPDX-License-Identifier: Apache-2.0
"""cloutctl explain against traffic that does not stop; and what it, diff and simulate say of another policy.

A statement names its position in the log.  So afterwards each one is held against the oracle that has read just so far."""

import json
import random
import time

import pytest

from harness import Record, World
from oracle import Oracle, Policy, Rule, Tier, Window
from policies import HOUR, KRED, SECOND, published, with_points
from stream import Flow, Stream
from test_reload import reload

SHORT = [Window("8s", 8 * SECOND, SECOND), Window("4s", 4 * SECOND, 2 * SECOND)]
SAMPLES = 80


class Remembering(World):
    """Keeps what was sent, by partition; @scattered: any partition may get any account's events."""

    def __init__(self, *args, scattered=False, **options):
        super().__init__(*args, **options)
        self.scattered, self.random = scattered, random.Random(1)
        self.sent = [[] for _ in range(self.partitions)]

    def send(self, *records):
        if self.scattered:
            records = [record._replace(partition=self.random.randrange(self.partitions)) for record in records]
        super().send(*records)

    def feed(self, record):
        super().feed(record)
        self.sent[record.partition].append(record)


def held_against_hash(statement, before, after):
    """A statement between two readings of the hash: equal, if they are."""
    assert statement["equal"] is True
    for window in statement["windows"]:
        assert sum(cell["count"] * cell["points"] for cell in window["cells"]) == window["total"] == window["in_redis"]
        assert all(cell["count"] * cell["points"] == cell["total"] for cell in window["cells"])
    if before != after:
        return 0
    for window in statement["windows"]:
        assert window["total"] == int(before[window["window"].encode()])
    assert statement["score"] == int(before[b"score"])
    assert statement["at"] == int(before[b"at"])
    assert statement["policy"]["version"] == before[b"pol"].decode()
    cells = next(window["cells"] for window in statement["windows"] if window["window"] == statement["headline"])
    assert " ".join(str(cell["count"]) for cell in cells) == before[b"cells"].decode()
    return 1


def held_against_oracle(world, statements, policies):
    """By partition, in the order of their positions; the oracle reads on from one to the next."""
    for partition, records in enumerate(world.sent):
        oracle, read = Oracle(KRED, world.windows, world.headline, world.oracle.skew_ms), 0
        ours = [s for s in statements if s["position"]["source"] == f"{world.topic}:{partition}"]
        for statement in sorted(ours, key=lambda s: s["position"]["offset"]):
            while read <= statement["position"]["offset"]:
                record = records[read]
                oracle.feed(partition, read, record.time_ms, record.key, record.value)
                read += 1
            oracle.policy = policies[statement["policy"]["version"]]
            account = oracle.account(statement["account"].encode())
            for window, shown in zip([*world.windows, None], statement["windows"]):
                assert [cell["count"] for cell in shown["cells"]] == account.cells(window, statement["at"]), statement
                assert shown["total"] == account.points(window, statement["at"]), statement
                change = account.next_points(window, statement["at"])
                assert shown["next_change"] == (change and {"at": change[0], "to": change[1]}), (statement, change)
                if change is not None:
                    assert statement["next"] <= change[0]


@pytest.mark.parametrize("scattered", [False, True], ids=["keyed", "shared"])
def test_every_statement_equals_the_hash_while_everything_moves(new_world, scattered):
    world = new_world(kind=Remembering, scattered=scattered, windows=SHORT, headline="8s", clock="wall", partitions=2,
                      skew_ms=2000, flush_interval="1ms", keyed=not scattered)
    stream = Stream(80, world, accounts=40, longest_ms=8 * SECOND, recent_ms=3 * SECOND, early_ms=100,
                    leaving=0 if scattered else 0.004)
    tables = [KRED, with_points(KRED, [1, 2, 3, 4, 5, 6, -7]), with_points(KRED, [7, 6, 5, 4, 3, 2, 1])]
    policies = {published(policy, world.windows, world.headline)[0]: policy for policy in tables}
    accounts = [name for _, names in stream.partitions for name in names]
    statements, unchanged, rnd = [], 0, random.Random(80)
    with world.daemon() as daemon:
        daemon.wait_ready()
        with Flow(world, stream, None, chunk=40):
            while len(statements) < SAMPLES or unchanged == 0:
                if len(statements) % 30 == 29:
                    world.set_policy(tables[(len(statements) // 30 + 1) % len(tables)])
                    reload(daemon)
                key = world.prefix + "a:" + rnd.choice(accounts)
                before = world.redis.client.hgetall(key)
                code, out, err = world.ctl("explain", "--json", "--", key[len(world.prefix) + 2:])
                after = world.redis.client.hgetall(key)
                assert code in (0, 1), (code, out, err)
                if code == 1:
                    assert not before or not after
                    continue
                statements.append(json.loads(out))
                unchanged += held_against_hash(statements[-1], before, after)
        world.wait_until_read()
        world.wait_until_right()
    print(f"{len(statements)} statements, {unchanged} of a hash that did not change meanwhile")
    if not scattered:
        held_against_oracle(world, statements, policies)


T0 = 1_718_000_000_000
OTHER = with_points(KRED, [12, 25, 60, 3, 10, 50, 1])


def file_of(world, policy):
    """A policy file beside the daemon's own."""
    held, path = world.policy, world.folder / "policy.yaml"
    world.set_policy(policy)
    text = path.read_text()
    world.set_policy(held)
    (world.folder / f"{policy.name}-other.yaml").write_text(text)
    return str(world.folder / f"{policy.name}-other.yaml")


def test_what_another_policy_would_do(new_world):
    world = new_world(boards=5)
    world.send(*Stream(81, world, accounts=300).records(3_000))
    world.run_until_end()
    world.check()
    other, path = OTHER, file_of(world, OTHER)
    now, then = (published(policy, world.windows, world.headline)[0] for policy in (KRED, other))

    def points(policy, account):
        window = next(window for window in world.windows if window.name == world.headline)
        cells = account.cells(window, int(hashes[account.id][b"at"]))
        return sum(n * worth for n, worth in zip(cells, policy.points))

    hashes = world.read_accounts()
    scores = {id_: (points(KRED, account), points(other, account)) for id_, account in world.oracle.accounts.items()
              if id_ in hashes}

    # simulate: the board by the other one
    code, out, err = world.ctl("policy", "simulate", path, "--json", "-n", "8")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["now"]["version"], said["then"]["version"], said["window"]) == (now, then, world.headline)
    assert said["accounts"] == len(scores)
    assert said["rise"] == sum(b > a for a, b in scores.values())
    assert said["fall"] == sum(b < a for a, b in scores.values())

    def places(side):
        best = sorted(((pair[side], id_) for id_, pair in scores.items() if pair[side] > 0), reverse=True)
        return {id_.decode(): i + 1 for i, (_, id_) in enumerate(best)}

    place_now, place_then = places(0), places(1)
    assert [(row["then"], row["account"], row["points"], row["points_now"]) for row in said["board"]] == \
        [(place, name, scores[name.encode()][1], scores[name.encode()][0])
         for name, place in place_then.items() if place <= 8]
    assert [row["now"] for row in said["board"]] == \
        [place if place <= 8 else None for place in (place_now[row["account"]] for row in said["board"])]
    assert {row["account"] for row in said["no_more"]} == \
        {name for name, place in place_now.items() if place <= 8 and place_then[name] > 8}
    code, out, err = world.ctl("policy", "simulate", path)
    assert code == 0
    assert f"then      kred {then}" in out

    # explain by it
    name = next(iter(place_now))
    code, out, err = world.ctl("explain", "--json", "--policy", path, "--", name)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["equal"] is True
    assert (said["policy"]["version"], said["by"]["version"]) == (now, then)
    shown = next(window for window in said["windows"] if window["window"] == world.headline)
    assert (shown["in_redis"], shown["total"]) == scores[name.encode()]

    # diff: a version that was used, and a file
    code, out, err = world.ctl("policy", "diff", now, path, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["same_cells"] is True
    assert [(change["rule"], change["followers_over"], change["from"], change["to"]) for change in said["changes"]] == \
        [("retweet", None, 10, 12), ("retweet", 100_000, 50, 60), ("reply", None, 10, 3), ("reply", 10_000, 25, 10)]

    # the same once it is used: both versions stay readable
    world.set_policy(other)
    world.run_until_end()
    world.check()
    assert json.loads(world.ctl("policy", "diff", then, now, "--json")[1])["changes"][0] == \
        {"what": "points", "rule": "retweet", "followers_over": None, "from": 12, "to": 10}
    for version, policy in ((now, KRED), (then, other)):
        code, out, err = world.ctl("policy", "show", version, "--json")
        assert (code, json.loads(out)["cells"][0]["points"]) == (0, policy.points[0])

    # other cells: refused, with the reason and the way
    finer = Policy("finer", [Rule("retweet", ["retweet"], [Tier(None, 10), Tier(500, 20)]), *KRED.rules[1:]])
    path = file_of(world, finer)
    for words in (["explain", "--policy", path, "--", name], ["policy", "simulate", path]):
        code, out, err = world.ctl(*words)
        assert (code, out) == (78, "")
        assert "decides what is counted" in err
        assert "read the log again under another prefix" in err
    code, out, err = world.ctl("policy", "diff", then, path)
    assert code == 0
    assert "a reload refuses it" in out
    assert "retweet, over 500 followers: 20 points, new" in out
    assert world.ctl("policy", "show", "0123456789abcdef")[0] == 70
