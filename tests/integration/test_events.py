# SPDX-License-Identifier: Apache-2.0
"""What an event comes to: a few records each, read once to the end, Redis compared with the oracle.

The log's own time is the clock here, so every test is a function of its records."""

import json

import pytest

from harness import ROOT, Record
from oracle import Rule, Policy, Tier, Window
from policies import DAY, HOUR, KRED, MINUTE, MIXED

pytestmark = pytest.mark.sanitizer

T0 = 1_718_000_000_000


def retweet(target="bob", actor="alice", **more):
    return {"type": "retweet", "actor": actor, "target": target, **more}


def read_once(world, letters=True):
    world.check_books(world.run_until_end())
    world.check()
    if letters:
        world.check_letters()


def score(world, target):
    value = world.redis.client.hget(f"{world.prefix}a:{target}", "score")
    return None if value is None else int(value)


def test_each_tier_begins_above_its_threshold(new_world):
    world = new_world()
    followers = [None, 0, 9_999, 10_000, 10_001, 99_999, 100_000, 100_001, 2**63 - 1]
    points = [10, 10, 10, 10, 25, 25, 25, 50, 50]
    world.send(*(world.record(retweet(f"u{n}", actor_followers=n, ts=T0), T0) for n in followers))
    read_once(world)
    assert [score(world, f"u{n}") for n in followers] == points


def test_absent_followers_are_unknown_and_earn_the_first_tier(new_world):
    world = new_world()
    world.send(world.record(retweet("absent"), T0), world.record(retweet("null", actor_followers=None), T0))
    read_once(world)
    assert score(world, "absent") == score(world, "null") == 10


def test_each_type_counts_by_its_own_rule(new_world):
    world = new_world()
    for type_ in ("retweet", "reply", "follow", "mention", "Retweet", "retweet ", "x" * 300, "\u00e9"):
        world.send(world.record({"type": type_, "actor": "a", "target": f"of-{type_[:9]}", "actor_followers": 20_000}, T0))
    read_once(world)
    assert [score(world, f"of-{type_}") for type_ in ("retweet", "reply", "follow", "mention")] == [25, 25, 1, None]


def test_points_may_be_negative_and_types_may_share_a_rule(new_world):
    world = new_world(policy=MIXED)
    world.send(*(world.record({"type": type_, "actor": "a", "target": target, "actor_followers": followers}, T0)
                 for type_, target, followers in (("like", "nobody", 50), ("love", "some", 51), ("like", "some", 1001),
                                                  ("downvote", "some", 7), ("downvote", "bad", 1), ("downvote", "bad", 1))))
    read_once(world)
    assert [score(world, target) for target in ("nobody", "some", "bad")] == [0, 8, -4]


def test_sixteen_cells_are_kept_apart(new_world):
    policy = Policy("wide", [Rule(f"r{i}", [f"t{i}"], [Tier(None, 10**i), Tier(5, -(10**i))]) for i in range(6)] +
                    [Rule("last", ["last"], [Tier(None, 1_000_000), Tier(1, -1_000_000), Tier(2, 3), Tier(3, 0)])])
    world = new_world(policy=policy)
    for i in range(6):
        for followers in (5, 6):
            world.send(*[world.record({"type": f"t{i}", "actor": "a", "target": "bob", "actor_followers": followers}, T0)]
                       * (i + 2))
    world.send(*(world.record({"type": "last", "actor": "a", "target": "bob", "actor_followers": n}, T0) for n in range(9)))
    read_once(world)


def test_interactions_with_oneself_do_not_score(new_world):
    world = new_world()
    world.send(world.record(retweet("bob", "bob"), T0), world.record(retweet(7, "7"), T0),
               world.record(b'{"type":"retweet","actor":"b\\u006fb","target":"bob"}', T0, b"bob"),
               world.record(retweet("bob", "Bob"), T0))
    read_once(world)
    assert world.oracle.results == {"self": 3, "scored": 1}


def test_an_undo_takes_back_whether_it_comes_after_or_before(new_world):
    world = new_world()
    world.send(world.record(retweet("after", ts=T0), T0), world.record(retweet("after", ts=T0, undo=True), T0 + 1),
               world.record(retweet("before", ts=T0, undo=True), T0), world.record(retweet("before", ts=T0), T0 + 1),
               world.record(retweet("one-of-two", ts=T0), T0), world.record(retweet("one-of-two", ts=T0 - 9 * DAY), T0),
               world.record(retweet("one-of-two", ts=T0 - 9 * DAY, undo=True), T0),
               world.record(retweet("only-undo", ts=T0, undo=True), T0),
               world.record(retweet("not-undo", undo=False), T0), world.record(retweet("null-undo", undo=None), T0))
    read_once(world)
    assert score(world, "one-of-two") == 10
    assert score(world, "only-undo") == -10
    assert world.redis.client.zscore("t:top:30d", "only-undo") is None


def test_a_late_event_changes_only_the_all_time_figures(new_world):
    world = new_world()
    edge = T0 - 90 * DAY
    world.send(world.record(retweet("on-time", ts=edge), T0), world.record(retweet("late", ts=edge - 1), T0),
               world.record(retweet("late", ts=edge - 1, undo=True), T0), world.record(retweet("late2", ts=edge - 1), T0))
    read_once(world)
    assert world.oracle.results == {"scored": 1, "late": 3}


def test_events_out_of_order_land_in_the_buckets_of_their_own_times(new_world):
    world = new_world()
    times = [T0, T0 - 40 * DAY, T0 - 2 * HOUR, T0 - 25 * HOUR, T0 - 89 * DAY, T0 - 29 * DAY, T0 - 31 * DAY, T0 - MINUTE]
    world.send(*(world.record(retweet(f"u{i % 3}", ts=ts), T0 + i) for i, ts in enumerate(times * 3)))
    read_once(world)


def test_future_events_count_when_their_time_comes(new_world):
    world = new_world(windows=[Window("4m", 4 * MINUTE, MINUTE)], headline="4m")
    world.send(world.record(retweet("soon", ts=T0 + 5 * MINUTE), T0), world.record(retweet("now", ts=T0), T0),
               world.record(retweet("too-soon", ts=T0 + 5 * MINUTE + 1), T0))
    read_once(world)
    assert score(world, "soon") == 0
    assert world.oracle.results == {"scored": 2, "rejected": 1}
    world.send(world.record(retweet("other"), T0 + 6 * MINUTE))
    world.run_until_end()
    world.check()
    assert score(world, "soon") == 10
    assert score(world, "now") == 0


def test_times_outside_this_century_and_records_without_a_time(new_world):
    world = new_world()
    world.send(world.record(retweet(ts=946684800000), T0), world.record(retweet(ts=946684799999), T0),
               world.record(retweet(ts=4133980800000), T0), world.record(retweet(ts=4133980799999), 4133980799999 - 1),
               world.record(retweet(), -1), world.record(retweet(ts=T0), -1), world.record(retweet(), 5))
    world.oracle.now_ms = 4133980799998
    read_once(world)
    assert world.oracle.results == {"late": 1, "scored": 2, "rejected": 4}


def test_lines_of_one_message_are_judged_one_by_one(new_world):
    world = new_world(partitions=1)
    good = json.dumps(retweet("a")).encode()
    other = json.dumps(retweet("b", actor_followers=20_000)).encode()
    world.send(*(Record(0, T0 + i, b"key", value) for i, value in enumerate([
        b"\n".join([good, other, good]),
        b"\n".join([good, b"", b"nonsense", b" \t\r", other, b"[]", good, b""]),
        b"\r\n".join([good, b"", other, b""]),
        b"\n\n\n", b"", None, b"   ", b"\n" + good, good + b"\n", good + b"\n\n" + b"{", good + b" \n" + other + b"\r",
        good + good, b"\n".join([good] * 200), b"\x00", b"\n\x00\n"])))
    read_once(world)


def test_a_message_may_name_hundreds_of_accounts(new_world):
    world = new_world(partitions=1)
    lines = [json.dumps(retweet(f"u{i * 7 % 300}", actor=f"u{i % 5}", ts=T0 - i * HOUR)).encode() for i in range(2000)]
    world.send(Record(0, T0, None, b"\n".join(lines)), Record(0, T0 + 1, None, b"\n".join(lines[::-1])))
    read_once(world)


def test_numbers_may_come_as_strings(new_world):
    world = new_world()
    world.send(*(world.record(retweet("bob", **fields), T0) for fields in (
        {"actor_followers": "10001"}, {"actor_followers": "100001", "ts": str(T0)}, {"actor_followers": "0"},
        {"actor_followers": "00"}, {"actor_followers": ""}, {"actor_followers": " 5"}, {"actor_followers": "5.0"},
        {"actor_followers": "+5"}, {"actor_followers": "9223372036854775807"}, {"actor_followers": "9223372036854775808"},
        {"ts": ""}, {"ts": "-5"}, {"ts": True}, {"ts": [T0]}, {"ts": {}}, {"ts": float(T0)})))
    world.send(world.record(b'{"type":"retweet","actor":"a","target":"bob","actor_followers":"\\u0031\\u0030001"}', T0,
                            b"bob"))
    read_once(world)


def test_an_integer_id_is_its_text(new_world):
    world = new_world()
    for text in (b"0", b"-0", b"-17", b"12345678901234567890123456789012345", b"9" * 255, b"9" * 256, b"1.0", b"1e3",
                 b"true", b"01"):
        world.send(world.record(b'{"type":"retweet","actor":"a","target":' + text + b"}", T0, text))
    world.send(world.record(retweet("-17"), T0))
    read_once(world)
    assert score(world, "-17") == 20


def test_escapes_and_surrogate_pairs_in_ids(new_world):
    world = new_world()
    for target, spelt in (("\u00e9t\u00e9", '"\\u00e9t\\u00E9"'), ("\U0001f600", '"\\ud83d\\ude00"'),
                          ("\U0010ffff", '"\\udbff\\udfff"'), ("\uffff", '"\\uffff"'), ("\\\"/", '"\\\\\\"\\/"'),
                          ("a b", '"a\\u0020b"'), ("\u0080", '"\\u0080"'), ("\u2028", '"\\u2028"')):
        id_ = target.encode()
        raw = json.dumps(target, ensure_ascii=False)
        world.send(*(world.record(f'{{"type":"retweet","actor":"a","target":{text}}}'.encode(), T0, id_)
                     for text in (spelt, raw)))
        assert world.oracle.account(id_).fields(T0)["all"] == 20, target  # both are the same account
    for spelt in ('"\\ud83d"', '"\\ude00"', '"\\ude00\\ud83d"', '"\\ud83dx"', '"\\u0000"', '"\\n"', '"\\u007f"', '"\x7f"',
                  '"\\u001f"'):
        world.send(world.record(f'{{"type":"retweet","actor":"a","target":{spelt}}}'.encode(), T0, b"bad"))
    world.send(world.record(b'{"type":"retweet","actor":"a","target":"x","z":"\\ud800","\\udfff":1}', T0, b"x"))
    read_once(world)


def test_ids_are_1_to_255_bytes(new_world):
    world = new_world()
    for target in ("x" * 255, "x" * 256, "y" * 254, "\u00e9" * 127, "\u00e9" * 128, "\U0001f600" * 63 + "abc",
                   "\U0001f600" * 64, "z" * 7, "z" * 8, "z" * 15, "z" * 16, "z" * 31, "z" * 32, "z" * 63, "z" * 64, "",
                   "a:b", "{tag}", "*?[x]", "with space", "%s%n", "top", "\\"):
        world.send(world.record(retweet(target), T0, target.encode()), world.record(retweet(target), T0, target.encode()))
    read_once(world)


def test_keys_may_be_spelt_repeated_and_surrounded(new_world):
    world = new_world()
    deep = b"[" * 3000 + b"]" * 3000
    for line in (b'{"typ\\u0065":"retweet","actor":"a","t\\u0061rget":"bob"}',
                 b'{"type":"follow","type":"retweet","actor":1.5,"actor":"a","target":null,"target":"bob"}',
                 b'{"type":"retweet","actor":"a","target":"bob","target":null}',
                 b' \t{ "type" : "retweet" , "actor" : "a" , "target" : "bob" }\r ',
                 b'{"x":{"type":"follow","target":"eve"},"type":"retweet","y":[{"target":"eve"}],"actor":"a","target":"bob"}',
                 b'{"x":' + deep + b',"type":"retweet","actor":"a","target":"bob"}',
                 b'{"x":' + deep[:-1] + b',"type":"retweet","actor":"a","target":"bob"}',
                 b'{"n":-0.5E+99,"m":1e99999,"o":123456789012345678901234567890,"type":"retweet","actor":"a","target":"bob"}',
                 b'{"Type":"x","TARGET":"y","target ":"z","type":"retweet","actor":"a","target":"bob"}',
                 b'{"type":"retweet","actor":"a","target":"bob","id":{"any":["thing"]}}'):
        world.send(world.record(line, T0, b"bob"))
    read_once(world)


def test_every_reason_to_reject_reaches_the_dead_letter_topic_with_its_headers(new_world):
    world = new_world()
    for line in (b"\xff\xfe", b'{"type":"\xed\xa0\x80"}', b"{", b"\xef\xbb\xbf{}", b'"text"', b"12", b"null", b"{}",
                 b'{"type":1}', b'{"type":"x"}', b'{"type":"x","actor":""}', b'{"type":"x","actor":"a"}',
                 b'{"type":"x","actor":"a","target":{}}', b'{"type":"x","actor":"a","target":"b","actor_followers":-1}',
                 b'{"type":"x","actor":"a","target":"b","ts":1.5}', b'{"type":"x","actor":"a","target":"b","undo":1}',
                 b'{"type":"x","actor":"a","target":"b","ts":99999999999999}', b'{"type":"x","actor":"a","target":"b","ts":1}',
                 b'{"type":"x","actor":"a","target":"b","ts":%d}' % (T0 + HOUR), b'{"type":"optout"}',
                 b'{"type":"optin","target":""}', b"tab\there\\and\x00zero"):
        world.send(Record(0, T0, b"the\tkey", line), Record(1, T0, None, line), Record(2, T0, b"", b"\n\n" + line + b"\n"))
    read_once(world)
    reasons = {rejected.reason for rejected in world.oracle.rejected}
    assert reasons == {"utf8", "json", "not_object", "missing_type", "bad_type", "missing_actor", "bad_actor",
                       "missing_target", "bad_target", "bad_actor_followers", "bad_ts", "bad_undo", "out_of_range",
                       "future"}
    assert world.redis.client.keys("t:a:*") == []


def test_leaving_removes_every_trace_and_coming_back_starts_from_zero(new_world):
    world = new_world()
    name = "wilhelmina-who-leaves"
    world.send(world.record(retweet(name, ts=T0 - DAY), T0), world.record(retweet("stays"), T0),
               world.record({"type": "optout", "target": "never-seen-before"}, T0))
    world.run_until_end()
    world.check()
    assert score(world, name) == 10
    world.send(world.record({"type": "optout", "target": name}, T0 + 1), world.record(retweet(name), T0 + 2),
               world.record(retweet("stays", actor=name), T0 + 3))
    world.run_until_end()
    world.check()
    assert name.encode() not in world.redis.dump()
    assert b"never-seen-before" not in world.redis.dump()
    assert score(world, "stays") == 20
    world.send(world.record(retweet(name), T0 + 4), world.record({"type": "optin", "target": name}, T0 + 5))
    world.run_until_end()
    world.check()
    assert name.encode() not in world.redis.dump()  # it has no event yet
    world.send(world.record(retweet(name, actor_followers=20_000), T0 + 6))
    world.run_until_end()
    world.check()
    assert score(world, name) == 25
    assert world.oracle.results == {"scored": 4, "control": 3, "opted_out": 2}


def test_leaving_and_coming_back_inside_one_message(new_world):
    world = new_world(partitions=1)
    lines = [retweet("bob"), {"type": "optout", "target": "bob"}, retweet("bob"), {"type": "optin", "target": "bob"},
             retweet("bob"), {"type": "optin", "target": "bob"}, {"type": "optout", "target": "eve"}, retweet("eve")]
    world.send(Record(0, T0, b"bob", b"\n".join(json.dumps(line).encode() for line in lines)))
    read_once(world)
    assert score(world, "bob") == 10
    assert score(world, "eve") is None
    assert world.oracle.results == {"scored": 2, "control": 4, "opted_out": 2}


def test_a_board_shows_exactly_the_best(new_world):
    world = new_world(boards=5, partitions=2)
    for i in range(40):
        world.send(*[world.record(retweet(f"u{i:02}"), T0)] * (i % 8))
    world.run_until_end()
    world.check()
    # The best fall: those who were not on the board must be found.
    for i in range(7, 40, 8):
        world.send(*[world.record(retweet(f"u{i:02}", undo=True), T0)] * 6)
    world.run_until_end()
    world.check()


def test_no_boards_and_no_windows(new_world):
    world = new_world(boards=0, windows=[], headline="all")
    world.send(world.record(retweet("bob", ts=946684800000), T0), world.record(retweet("bob"), T0))
    read_once(world)
    assert score(world, "bob") == 20
    assert world.oracle.results == {"scored": 2}


def test_months_of_history_end_at_the_logs_own_time(new_world):
    world = new_world()
    world.send(*(world.record(retweet(f"u{day % 50}", actor_followers=day * 700, ts=T0 + day * DAY - day * 7 * MINUTE),
                              T0 + day * DAY) for day in range(200)))
    read_once(world)
    # Time goes on in one partition only: accounts of the others slide as well.
    world.send(world.record(retweet("u0"), T0 + 290 * DAY))
    world.run_until_end()
    world.check()


def test_nothing_to_read_is_no_error(new_world):
    world = new_world()
    assert sum(world.run_until_end().values()) == 0
    world.check()


def test_max_clock_skew_and_windows_are_the_configured_ones(new_world):
    world = new_world(windows=[Window("2h", 2 * HOUR, 10 * MINUTE), Window("90s", 90_000, 30_000)], headline="90s",
                      skew_ms=0)
    world.send(*(world.record(retweet(f"u{i % 5}", ts=T0 + offset), T0 + i * 20_000)
                 for i, offset in enumerate([0, 1, -1, -2 * HOUR, -2 * HOUR - 1, 40_000, 3 * HOUR, 9_000, -HOUR] * 4)))
    read_once(world)


def test_the_shipped_policy_is_the_one_that_these_tests_use(new_world):
    world = new_world(policy=KRED)
    (world.folder / "policy.yaml").write_text((ROOT / "conf/policies/kred.yaml").read_text())
    world.send(world.record(retweet(actor_followers=100_001), T0))
    read_once(world)
