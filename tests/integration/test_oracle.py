# SPDX-License-Identifier: Apache-2.0
"""The oracle against cases worked out by hand: who judges the daemon must be judged first."""

import json

import pytest

from oracle import TIME_END_MS, TIME_MIN_MS, Oracle, Reject, Window, read_event, shift_ms
from policies import DAY, HOUR, KRED, MINUTE, WINDOWS

T0 = 1_718_000_000_000


def kred_oracle(windows=WINDOWS, headline="30d", **more):
    return Oracle(KRED, windows, headline, **more)


def feed(oracle, *values, record_ms=T0):
    for offset, value in enumerate(values):
        if not isinstance(value, bytes):
            value = json.dumps(value).encode()
        oracle.feed(0, offset, record_ms, b"k", value)


def retweet(target="bob", **more):
    return {"type": "retweet", "actor": "alice", "target": target, **more}


@pytest.mark.parametrize("line, reason", [
    (b'\xff', "utf8"),
    (b'{"type":"\xed\xa0\x80"}', "utf8"),                      # a surrogate in UTF-8 is not UTF-8
    (b'{"x":"\xc0\xaf"', "utf8"),                              # broken JSON as well: UTF-8 is looked at first
    (b'', "json"),
    (b'{"type":"retweet"', "json"),
    (b'{"x":NaN}', "json"),
    (b'{"x":-Infinity}', "json"),
    (b'{"x":01}', "json"),
    (b'{"x":1.}', "json"),
    (b'{"x":"\x01"}', "json"),                                 # a control character has to be escaped
    (b'{"x":"\\x"}', "json"),
    (b'{"x":1,}', "json"),
    (b'{} {}', "json"),
    (b'\xef\xbb\xbf{}', "json"),                               # a byte order mark
    (b'[]', "not_object"),
    (b' "type" ', "not_object"),
    (b'{}', "missing_type"),
    (b'{"type":null}', "missing_type"),
    (b'{"type":""}', "bad_type"),
    (b'{"type":5}', "bad_type"),
    (b'{"type":"\\ud800"}', "utf8"),                           # a lone surrogate in a field that is used
    (b'{"type":"x"}', "missing_actor"),
    (b'{"type":"x","actor":"a"}', "missing_target"),
    (b'{"type":"x","actor":"","target":"b"}', "bad_actor"),
    (b'{"type":"x","actor":1.0,"target":"b"}', "bad_actor"),
    (b'{"type":"x","actor":"a","target":"b\\u0000"}', "bad_target"),
    (b'{"type":"x","actor":"a","target":"b\\u007f"}', "bad_target"),
    (b'{"type":"x","actor":"a","target":"b\x7f"}', "bad_target"),
    (b'{"type":"x","actor":"a","target":"' + b"x" * 256 + b'"}', "bad_target"),
    (b'{"type":"x","actor":"a","target":' + b"1" * 256 + b'}', "bad_target"),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":-1}', "bad_actor_followers"),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":1e3}', "bad_actor_followers"),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":"01"}', "bad_actor_followers"),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":" 1"}', "bad_actor_followers"),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":"\xd9\xa1"}', "bad_actor_followers"),  # Arabic one
    (b'{"type":"x","actor":"a","target":"b","actor_followers":9223372036854775808}', "bad_actor_followers"),
    (b'{"type":"x","actor":"a","target":"b","ts":true}', "bad_ts"),
    (b'{"type":"x","actor":"a","target":"b","undo":"true"}', "bad_undo"),
    (b'{"type":"x","actor":"a","target":"b","undo":0}', "bad_undo"),
    (b'{"type":"optout"}', "missing_target"),
    (b'{"type":"optin","target":[]}', "bad_target"),
])
def test_the_parser_rejects(line, reason):
    with pytest.raises(Reject) as caught:
        read_event(line)
    assert caught.value.reason == reason


@pytest.mark.parametrize("line, field, value", [
    (b'\r{"type":"x","actor":"a","target":"b"}\t', "type", "x"),
    (b'{"type":"x","actor":-0,"target":007.5,"target":12}', None, None),
    (b'{"type":"x","actor":-0,"target":12}', "actor", b"-0"),                    # an integer is taken as its text
    (b'{"type":"x","actor":"a","target":12345678901234567890123}', "target", b"12345678901234567890123"),
    (b'{"type":"x","actor":"a","t\\u0061rget":"b"}', "target", b"b"),            # the same key, spelt otherwise
    (b'{"type":"x","actor":"a","target":1.5,"target":"b"}', "target", b"b"),     # the last one wins
    (b'{"type":"x","actor":"\\ud83d\\ude00","target":"b"}', "actor", "\U0001f600".encode()),
    (b'{"type":"x","actor":"a","target":"b","z":"\\ud800"}', "target", b"b"),    # not a field that is used
    (b'{"type":"x","actor":"a","target":"b","ts":"15"}', "ts", 15),
    (b'{"type":"x","actor":"a","target":"b","ts":null}', "ts", None),
    (b'{"type":"x","actor":"a","target":"b","actor_followers":9223372036854775807}', "followers", 2**63 - 1),
    (b'{"type":"x","actor":"a","target":"b","undo":null}', "undo", False),
    (b'{"type":"optout","target":"b","ts":"nonsense"}', "target", b"b"),         # needs no more than that
    (b'{"type":"x","actor":"a","target":"b","z":' + b"[" * 3000 + b"]" * 3000 + b"}", "target", b"b"),
])
def test_the_parser_accepts(line, field, value):
    if field is None:
        with pytest.raises(Reject):
            read_event(line)
    else:
        assert getattr(read_event(line), field) == value


def test_tiers_are_strict():
    for followers, points in ((None, 10), (9_999, 10), (10_000, 10), (10_001, 25), (99_999, 25), (100_000, 25),
                              (100_001, 50)):
        oracle = kred_oracle()
        feed(oracle, retweet(actor_followers=followers))
        assert oracle.account(b"bob").fields(T0)["score"] == points, followers


def test_the_shift_is_one_of_sixty_places_of_a_bucket():
    # Place 57 is XXH3_64bits("bob", 3) % 60 = 0x1403c0c40f49b8e5 % 60 as a C program linked with libxxhash 0.8.1
    # prints it: pins hash, seed and modulus.  The Python module wraps the same algorithm's code.
    assert shift_ms(b"bob", 60) == 57
    assert shift_ms(b"bob", HOUR) == 57 * 60_000
    assert shift_ms(b"bob", 1000) == 57 * 16  # floor(1000 / 60)


def test_a_window_slides_at_the_edge_of_the_accounts_own_buckets():
    window = Window("3m", 3 * MINUTE, MINUTE)
    oracle = kred_oracle([window], "3m")
    feed(oracle, retweet(ts=T0))
    bob = oracle.account(b"bob")
    shift = shift_ms(b"bob", MINUTE)
    begin = (T0 + shift) // MINUTE * MINUTE - shift  # of the bucket that T0 lies in
    assert begin <= T0 < begin + MINUTE
    assert bob.fields(begin - 1)["score"] == 0   # its time has not come
    assert bob.fields(begin)["score"] == 10
    assert bob.next_change(begin - 1) == begin
    assert bob.next_change(begin) == begin + 3 * MINUTE
    assert bob.fields(begin + 3 * MINUTE - 1)["score"] == 10
    assert bob.fields(begin + 3 * MINUTE)["score"] == 0
    assert bob.next_change(begin + 3 * MINUTE) is None
    assert bob.next_points(window, begin - 1) == (begin, 10)
    assert bob.next_points(window, begin) == (begin + 3 * MINUTE, 0)
    assert bob.next_points(window, begin + 3 * MINUTE) is None
    assert bob.next_points(None, begin) is None
    assert bob.fields(begin + 3 * MINUTE) == {"score": 0, "3m": 0, "all": 10, "cells": "0 0 0 0 0 0 0"}


def test_undo_takes_back_also_what_comes_after_it():
    oracle = kred_oracle()
    feed(oracle, retweet(undo=True, ts=T0 - HOUR))
    assert oracle.account(b"bob").fields(T0)["all"] == -10
    feed(oracle, retweet(ts=T0 - HOUR))
    assert oracle.account(b"bob").fields(T0)["all"] == 0
    assert oracle.account(b"bob").shows_nothing(T0)
    assert oracle.results == {"scored": 2}


def test_late_changes_only_all():
    oracle = kred_oracle()
    feed(oracle, retweet(ts=T0 - 90 * DAY), retweet(ts=T0 - 90 * DAY - 1))
    assert oracle.results == {"scored": 1, "late": 1}
    assert oracle.account(b"bob").fields(T0)["all"] == 20
    assert oracle.account(b"bob").next_change(T0 - 91 * DAY) is not None


def test_times_are_judged_by_the_records_own_time():
    oracle = kred_oracle()
    feed(oracle, retweet(ts=T0 + 5 * MINUTE), retweet(ts=T0 + 5 * MINUTE + 1), retweet(ts=TIME_MIN_MS - 1),
         retweet(ts=TIME_END_MS), retweet(ts=TIME_MIN_MS))
    feed(oracle, retweet(), record_ms=-1)
    assert [rejected.reason for rejected in oracle.rejected] == ["future", "out_of_range", "out_of_range", "no_time"]
    assert oracle.results == {"scored": 1, "late": 1, "rejected": 4}


def test_the_first_result_that_fits_is_the_one():
    oracle = kred_oracle()
    feed(oracle, {"type": "wave", "actor": "bob", "target": "bob"}, retweet("alice"), {"type": "optout", "target": "bob"},
         retweet(), retweet("alice"), {"type": "wave", "actor": "alice", "target": "bob"},
         {"type": "optin", "target": "bob"}, retweet(), {"type": "optin", "target": "bob"})
    assert oracle.results == {"unscored": 2, "self": 2, "control": 3, "opted_out": 1, "scored": 1}
    assert oracle.account(b"bob").fields(T0)["all"] == 10  # the second opt-in changed nothing


def test_lines_are_judged_one_by_one():
    oracle = kred_oracle()
    feed(oracle, b'\n{"type":"retweet","actor":"a","target":"b"}\r\n \nnonsense\n', b"", b"\n\n")
    assert oracle.results == {"scored": 1, "rejected": 3}
    assert [(r.reason, r.offset, r.line, r.value) for r in oracle.rejected] == [
        ("json", 0, 4, b"nonsense"), ("empty", 1, 1, b""), ("empty", 2, 1, b"\n\n")]


def test_boards_are_in_the_order_of_zrevrange():
    oracle = kred_oracle()
    feed(oracle, retweet("b"), retweet("c"), retweet("a", actor_followers=20_000), retweet("z", undo=True))
    assert oracle.board("30d", 10, T0) == [(b"a", 25), (b"c", 10), (b"b", 10)]
    assert oracle.board("30d", 2, T0) == [(b"a", 25), (b"c", 10)]
