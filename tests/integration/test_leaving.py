# SPDX-License-Identifier: Apache-2.0
"""Who leaves is named nowhere in Redis any more, whatever happens afterwards; who comes back starts from nothing.

Nowhere: a snapshot of all that Redis stores is searched byte by byte, for the name as it is and as it could be written."""

import base64
import json
import random
import shutil
import subprocess

import pytest
import xxhash

from harness import BUILD, SALT, Record, now_ms, wait_for
from stream import Stream

NAME = "wilhelmina-who-leaves-\u00e9"
UNCOMPRESSED = ("--rdbcompression", "no")


def spellings(name):
    """How it could stand somewhere: as it is, escaped, in hex, base64, UTF-16, or as the hash that places are made from."""
    raw, digest = name.encode(), xxhash.xxh3_64_intdigest(name.encode())
    yield raw
    yield json.dumps(name)[1:-1].encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for skip in range(3):  # from wherever in a longer text
        part = raw[skip:]
        yield base64.b64encode(part[:len(part) // 3 * 3])
    yield name.encode("utf-16-le")
    yield raw[::-1]
    for order in ("little", "big"):
        yield digest.to_bytes(8, order)
    yield str(digest).encode()
    yield f"{digest:016x}".encode()


def snapshot(world):
    """Every byte that Redis stores, functions included."""
    world.redis.client.save()
    return (world.redis.folder / "dump.rdb").read_bytes()


def named(world, *names):
    stored = snapshot(world)
    return [(name, spelling) for name in names for spelling in spellings(name) if spelling in stored]


def settled(world):
    world.wait_until_read()
    world.wait_until_right()


def gone(world, *names):
    """At once, but for a board's floor that bears the name of another partition's account: that takes its owner seconds."""
    wait_for(lambda: not named(world, *names), what=f"{names} are named nowhere")


def send(world, name, n, **more):
    """@n events for the account."""
    events = [{"type": ("retweet", "reply", "follow")[i % 3], "actor": f"a{i}", "actor_followers": i * 700,
               "target": name, **more} for i in range(n)]
    world.send(*(world.record(event, now_ms()) for event in events))


def obeyed(world, event, name, *options):
    """cloutctl optout or optin; what it wrote is told to the oracle."""
    code, out, err = world.ctl(event, "--json", *options, "--", name)
    said = json.loads(out)
    assert (said["account"], said["event"], said["topic"]) == (name, event, world.topic)
    for copy in said["written"]:
        assert copy["offset"] == world.ends[copy["partition"]]
        world.feed(Record(copy["partition"], now_ms(), name.encode(),
                          json.dumps({"type": event, "target": name}).encode()))
    assert said["done"] is (code == 0), (code, err)
    return code, said


def test_whoever_leaves_is_named_nowhere_whatever_happens(new_world):
    # Few places on the boards: their floors name accounts, too.
    world = new_world(clock="wall", boards=1, lanes=2, flush_interval="1ms", redis_options=UNCOMPRESSED)
    stream = Stream(90, world, accounts=200, start_ms=now_ms(), leaving=0)
    first = world.daemon()
    first.wait_ready()
    world.send(*stream.records(1_000, step_ms=1))
    send(world, NAME, 30)
    settled(world)
    # So the search finds what is there, and the snapshot has it.
    assert NAME.encode() in {spelling for _, spelling in named(world, NAME)}
    shutil.copy(world.redis.folder / "dump.rdb", world.redis.folder / "before")

    code, said = obeyed(world, "optout", NAME)
    assert code == 0
    assert [copy["partition"] for copy in said["written"]] == [world.partition_of(NAME.encode())]
    assert named(world, NAME) == []
    assert world.redis.client.exists(f"t:a:{NAME}") == 0
    settled(world)

    # Later events are dropped and counted.
    send(world, NAME, 5)
    send(world, "somebody-else", 5, actor=NAME)
    settled(world)
    assert first.books()["opted_out"] == 5
    gone(world, NAME)

    # A crash, with events of hers unread.
    first.kill()
    send(world, NAME, 5)
    second = world.daemon()
    settled(world)
    gone(world, NAME)

    # Others are given the partitions.
    with world.daemon() as third:
        wait_for(third.had_partitions, what="an assignment")
        send(world, NAME, 5)
        world.send(*stream.records(200, step_ms=1))
        settled(world)
        gone(world, NAME)

    # A Redis from before she left: there she is, and goes.
    world.redis.kill()
    shutil.copy(world.redis.folder / "before", world.redis.folder / "dump.rdb")
    world.redis.start()
    wait_for(lambda: second.metrics()["cloutd_redis_rollbacks_total"] > 0, what="it is noticed")
    settled(world)
    gone(world, NAME)

    # The same, and nobody runs who remembers.
    second.kill()
    world.redis.kill()
    shutil.copy(world.redis.folder / "before", world.redis.folder / "dump.rdb")
    world.redis.start()
    assert NAME.encode() in snapshot(world)
    fourth = world.daemon()
    settled(world)
    gone(world, NAME)

    # The log from its beginning, into an empty Redis.
    world.redis.restart_empty()
    settled(world)
    gone(world, NAME)

    # Back, from nothing: an event before has no hash, and counts for nothing after.
    assert obeyed(world, "optin", NAME)[0] == 0
    settled(world)
    gone(world, NAME)
    world.send(world.record({"type": "follow", "actor": "a", "target": NAME}, now_ms()))
    settled(world)
    assert world.redis.client.hget(f"t:a:{NAME}", "all") == b"1"

    # The salt is not in Redis, nor anything that it follows from.
    for spelling in (SALT.encode(), SALT.encode().hex().encode(), base64.b64encode(SALT.encode())):
        assert spelling not in snapshot(world)
    assert fourth.terminate() == 0, fourth.log_tail()


@pytest.mark.sanitizer
def test_opting_out_is_done_or_will_be(new_world):
    world = new_world(clock="wall", redis_options=UNCOMPRESSED)
    daemon = world.daemon()
    daemon.wait_ready()
    send(world, "annabel-who-leaves-too", 3)
    settled(world)
    # Nobody runs: it stands in Kafka, and is carried out by whoever comes.
    daemon.kill()
    code, said = obeyed(world, "optout", "annabel-who-leaves-too", "--timeout", "0")
    assert code == 75
    assert world.redis.client.exists("t:a:annabel-who-leaves-too") == 1
    with world.daemon():
        settled(world)
        gone(world, "annabel-who-leaves-too")
        # Twice, and somebody whom nobody knows: told to every partition.
        assert obeyed(world, "optout", "annabel-who-leaves-too")[0] == 0
        code, said = obeyed(world, "optout", "nobody-knows-her")
        assert (code, [copy["partition"] for copy in said["written"]]) == (0, [0, 1, 2])
        send(world, "nobody-knows-her", 3)
        settled(world)
        assert world.redis.client.exists("t:a:nobody-knows-her") == 0
        assert [copy["partition"] for copy in obeyed(world, "optin", "nobody-knows-her")[1]["written"]] == [0, 1, 2]
        send(world, "nobody-knows-her", 1)
        settled(world)
        assert world.redis.client.get("t:mode") is None
        # An opt-out that a producer has put where another partition feeds the account.
        send(world, "told-in-the-wrong-place", 3)
        settled(world)
        wrong = (world.partition_of("told-in-the-wrong-place") + 1) % 3
        world.kafka.write(world.topic, [Record(wrong, now_ms(), b"", b'{"type":"optout","target":"told-in-the-wrong-place"}')])
        world.ends[wrong] += 1
        settled(world)
        assert world.redis.client.get("t:mode") is None
        said = [line for line in world.daemons[-1].log().splitlines() if "another partition feeds the score" in line]
        assert len(said) == 1 and f"partition={wrong} " in said[0] and "told-in" not in said[0]
        assert obeyed(world, "optout", "told-in-the-wrong-place")[0] == 0
        settled(world)
        gone(world, "told-in-the-wrong-place")
        # In words.
        code, out, err = world.ctl("optout", "nobody-knows-her")
        assert (code, err) == (0, "")
        assert out == "nobody-knows-her has left: nothing in Redis names this account any more, and its events are dropped\n"


def test_where_messages_have_no_key_every_partition_is_told(new_world):
    world = new_world(clock="wall", keyed=False, redis_options=UNCOMPRESSED)
    with world.daemon() as daemon:
        daemon.wait_ready()
        for partition in range(3):
            world.send(Record(partition, now_ms(), b"", json.dumps({"type": "reply", "actor": "a", "target": "annabel-who-leaves-too"}).encode()))
        settled(world)
        assert world.redis.client.hget("t:a:annabel-who-leaves-too", "all") == b"30"
        code, said = obeyed(world, "optout", "annabel-who-leaves-too")
        assert (code, [copy["partition"] for copy in said["written"]]) == (0, [0, 1, 2])
        assert named(world, "annabel-who-leaves-too") == []
        settled(world)


def test_the_acts_of_who_left_count_no_more(new_world):
    world = new_world(clock="wall", optout_as_actor=False, redis_options=UNCOMPRESSED)
    everybody = [f"account-{i}" for i in range(30)] + [NAME]
    dice = random.Random(91)

    def some(n):
        events = []
        for _ in range(n):
            actor, target = dice.sample(everybody, 2)
            events.append({"type": dice.choice(("retweet", "reply", "follow")), "actor": actor,
                           "actor_followers": dice.choice((0, 20_000, 200_000)), "target": target})
        world.send(*(world.record(event, now_ms()) for event in events))

    first = world.daemon()
    first.wait_ready()
    some(400)
    settled(world)
    assert NAME.encode() in snapshot(world)
    shutil.copy(world.redis.folder / "dump.rdb", world.redis.folder / "before")

    # Told to every partition, since her acts may be in any; which makes no account there, and nobody's score a sum.
    for name in (NAME, "account-3", "nobody-knows-him"):
        code, said = obeyed(world, "optout", name)
        assert (code, [copy["partition"] for copy in said["written"]]) == (0, [0, 1, 2])
    gone(world, NAME)
    some(400)
    settled(world)
    world.check_books(first.books())
    assert world.redis.client.get("t:mode") is None
    assert "(optout_as_actor: false)" in world.ctl("explain", "account-5")[1]

    # Killed while it counts, with one who returns unread; another takes over, and gives partitions away again.
    some(200)
    first.kill()
    assert obeyed(world, "optin", "account-3", "--timeout", "0")[0] == 75
    some(300)
    second = world.daemon()
    with world.daemon() as third:
        wait_for(third.had_partitions, what="an assignment")
        some(300)
        settled(world)
    some(100)
    settled(world)
    gone(world, NAME)

    # A Redis from before she left, and an empty one.
    for how in ("before", "empty"):
        world.redis.kill()
        if how == "before":
            shutil.copy(world.redis.folder / "before", world.redis.folder / "dump.rdb")
            world.redis.start()
        else:
            world.redis.restart_empty()
        some(100)
        settled(world)
        gone(world, NAME)
    assert world.redis.client.get("t:mode") is None
    assert second.terminate() == 0, second.log_tail()

    # It decides what is counted: not to be changed under the same prefix.
    refused = world.daemon(optout_as_actor=True)
    assert refused.wait() == 78
    assert "optout_as_actor" in refused.log()


def test_what_cannot_be_is_one_sentence(new_world):
    world = new_world(clock="wall", partitions=1)
    world.run_until_end()
    config = world.daemons[-1].log_path.with_suffix(".yaml")
    right = config.read_text()

    def refused(code, *words, event="optout", account="ann"):
        done = subprocess.run([BUILD / "cloutctl", "--config", config, event, "--", account], capture_output=True,
                              check=False, timeout=60)
        text = done.stderr.decode()
        assert (done.returncode, done.stdout, text.count("\n")) == (code, b"", 1), done
        assert all(word in text for word in words), text

    refused(64, "valid UTF-8", account=b"\xff")
    refused(64, "control characters", account="a\x7f")
    (world.folder / "salt").write_text("another-salt-another-salt-0123456789")
    refused(78, "not the salt under which people have left")
    config.write_text(right.replace('optout_salt_file: "salt"\n', ""))
    world.redis.client.delete("t:salt_check")
    refused(78, "nobody can leave without a salt", event="optin")
    (world.folder / "salt").write_text(SALT)
    config.write_text(right.replace(world.topic, "no-such-topic"))
    refused(69, "has no topic 'no-such-topic'")
    config.write_text(right.replace(world.kafka.brokers, "127.0.0.1:1"))
    refused(75, "cannot ask Kafka at 127.0.0.1:1", "Connection refused")
    config.write_text(right.replace(str(world.redis.socket), "/nowhere.sock"))
    refused(75, "cannot reach Redis")
    assert world.kafka.read(world.topic) == []
