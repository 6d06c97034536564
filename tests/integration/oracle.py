# SPDX-License-Identifier: Apache-2.0
"""oracle.py - what must Redis show after these records?

The same question that the daemon answers, answered the slow and plain way: every event is kept, and a score is a sum
over all of them.  Nothing is taken from the daemon's code; the parser is Python's, made as strict as the contract.

    oracle = Oracle(policy, windows, headline="24h", skew_ms=300_000)
    oracle.feed(partition, offset, record_ms, key, value)        one record after another, in the order of offsets
    oracle.account(b"alice").fields(now_ms)                      {"score": 25, "24h": 25, ..., "cells": "1 0 2"}
    oracle.account(b"alice").next_change(now_ms)                 when that changes although nothing happens
    oracle.results, oracle.rejected                              the books, and what the dead-letter topic must hold
"""

import json
import sys
from collections import Counter, namedtuple

import xxhash

INT64_MAX = 2**63 - 1
TIME_MIN_MS, TIME_END_MS = 946684800000, 4133980800000  # 2000-01-01 and 2101-01-01
PLACES = 60

sys.setrecursionlimit(20000)  # JSON of a depth that tests use; Python's parser recurses

Window = namedtuple("Window", "name length_ms bucket_ms")
Tier = namedtuple("Tier", "followers_over points")
Rule = namedtuple("Rule", "name types tiers")
Rejected = namedtuple("Rejected", "reason partition offset line key value")
Event = namedtuple("Event", "kind type actor target followers ts undo id")
Duplicates = namedtuple("Duplicates", "same within")  # "act" or "event"


class Policy:
    """The points table: rules with tiers; a cell is a (rule, tier), numbered in order."""

    def __init__(self, name, rules, duplicates=None):
        self.name, self.rules, self.duplicates = name, rules, duplicates
        self.points = [tier.points for rule in rules for tier in rule.tiers]
        self._cells = {}  # type -> [(followers_over, cell)], the highest tier first
        cell = 0
        for rule in rules:
            tiers = [(tier.followers_over, cell + i) for i, tier in enumerate(rule.tiers)]
            for type_ in rule.types:
                self._cells[type_] = tiers[::-1]
            cell += len(tiers)

    def cell(self, type_, followers):
        """None: unscored.  Unknown followers (None) earn the first tier."""
        tiers = self._cells.get(type_)
        if tiers is None:
            return None
        for over, cell in tiers:
            if over is None or (followers is not None and followers > over):
                return cell
        raise AssertionError("a rule's first tier is for everybody")


# ---- one line ----


class Reject(Exception):
    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Integer(str):
    """A JSON number without fraction and exponent, as its text."""


class Fraction(str):
    """Any other JSON number."""


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


_parser = json.JSONDecoder(parse_int=Integer, parse_float=Fraction, parse_constant=_no_constant, strict=True)


def parse(line):
    """The JSON value of the bytes @line, or Reject utf8, json."""
    try:
        text = line.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        raise Reject("utf8") from None
    try:
        return _parser.decode(text)
    except ValueError:
        raise Reject("json") from None


def _encode(text):
    """A string that is used must be UTF-8: Python keeps a lone surrogate as it stands."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Reject("utf8") from None


def _type(fields):
    value = fields.get("type")
    if value is None:
        raise Reject("missing_type")
    if type(value) is not str:
        raise Reject("bad_type")
    if not _encode(value):
        raise Reject("bad_type")
    return value


def _id(fields, name):
    value = fields.get(name)
    if value is None:
        raise Reject("missing_" + name)
    if type(value) is not str and type(value) is not Integer:
        raise Reject("bad_" + name)
    id_ = _encode(value)
    if not 1 <= len(id_) <= 255 or any(byte < 0x20 or byte == 0x7F for byte in id_):
        raise Reject("bad_" + name)
    return id_


_DIGITS = frozenset("0123456789")


def _number(fields, name):
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not str and type(value) is not Integer:
        raise Reject("bad_" + name)
    _encode(value)
    plain = value and len(value) <= 19 and _DIGITS.issuperset(value) and (value[0] != "0" or value == "0")
    if not plain or int(value) > INT64_MAX:
        raise Reject("bad_" + name)
    return int(value)


def _undo(fields):
    value = fields.get("undo")
    if value is None or value is True or value is False:
        return bool(value)
    if type(value) is str:
        _encode(value)
    raise Reject("bad_undo")


def read_event(line, ids=False):
    """The Event in @line, or Reject with the first reason that applies.  Without @ids, `id` is ignored."""
    fields = parse(line)
    if type(fields) is not dict:
        raise Reject("not_object")
    type_ = _type(fields)
    if type_ in ("optout", "optin"):
        return Event(type_, type_, None, _id(fields, "target"), None, None, False, None)
    return Event("interaction", type_, _id(fields, "actor"), _id(fields, "target"), _number(fields, "actor_followers"),
                 _number(fields, "ts"), _undo(fields),
                 _id(fields, "id") if ids and fields.get("id") is not None else None)


# ---- one account ----


def shift_ms(account, bucket_ms):
    return xxhash.xxh3_64_intdigest(account, seed=0) % PLACES * (bucket_ms // PLACES)


class Account:
    """All that was ever counted for one account, as a list."""

    __slots__ = ("oracle", "id", "late", "events")

    def __init__(self, oracle, id_):
        self.oracle, self.id = oracle, id_
        self.late = []    # (cell, +1 or -1): all-time only
        self.events = []  # (ts, cell, +1 or -1)

    def cells(self, window, now_ms):
        """How many events of each cell count in @window (None: all) at @now_ms."""
        counts = [0] * len(self.oracle.policy.points)
        if window is None:
            for cell, sign in self.late:
                counts[cell] += sign
            for _, cell, sign in self.events:
                counts[cell] += sign
            return counts
        shift = shift_ms(self.id, window.bucket_ms)
        last = (now_ms + shift) // window.bucket_ms
        first = last - window.length_ms // window.bucket_ms + 1
        for ts, cell, sign in self.events:
            if first <= (ts + shift) // window.bucket_ms <= last:
                counts[cell] += sign
        return counts

    def points(self, window, now_ms):
        return sum(n * points for n, points in zip(self.cells(window, now_ms), self.oracle.policy.points))

    def fields(self, now_ms):
        """The public fields as numbers (cells: text), but for at, next and pol."""
        oracle = self.oracle
        fields = {window.name: self.points(window, now_ms) for window in oracle.windows}
        fields["all"] = self.points(None, now_ms)
        fields["score"] = fields[oracle.headline]
        headline = next((window for window in oracle.windows if window.name == oracle.headline), None)
        fields["cells"] = " ".join(map(str, self.cells(headline, now_ms)))
        return fields

    def _moments(self, window, now_ms):
        """When a bucket with something in it enters or leaves @window, after @now_ms."""
        shift = shift_ms(self.id, window.bucket_ms)
        buckets = Counter()
        for ts, cell, sign in self.events:
            buckets[(ts + shift) // window.bucket_ms, cell] += sign
        for (bucket, _), n in buckets.items():
            enters = bucket * window.bucket_ms - shift
            for moment in (enters, enters + window.length_ms):
                if n != 0 and moment > now_ms:
                    yield moment

    def next_change(self, now_ms):
        """The first moment after @now_ms at which a bucket with something in it enters or leaves a window."""
        return min((moment for window in self.oracle.windows for moment in self._moments(window, now_ms)), default=None)

    def next_points(self, window, now_ms):
        """(moment, points) when the points of @window are others for the first time, though nothing happens; or None."""
        now = self.points(window, now_ms)
        for moment in sorted(set(self._moments(window, now_ms))) if window is not None else ():
            if self.points(window, moment) != now:
                return moment, self.points(window, moment)
        return None

    def shows_nothing(self, now_ms):
        """Whether a reader who finds no such account is told the truth, now and later."""
        return not any(self.cells(None, now_ms)) and self.next_change(now_ms) is None


# ---- the whole log ----


class Oracle:
    def __init__(self, policy, windows, headline, skew_ms=300_000, optout_as_actor=True):
        self.policy, self.windows, self.headline, self.skew_ms = policy, windows, headline, skew_ms
        self.optout_as_actor = optout_as_actor
        self.longest_ms = max((window.length_ms for window in windows), default=None)
        self.accounts = {}         # id -> Account; only of those that were counted and have not left
        self.left = set()          # ids
        self.out = set()           # (partition, id): whose acts do not count in it, by its own opt-outs
        self.results = Counter()   # result -> lines
        self.rejected = []         # Rejected
        self.now_ms = 0            # the log's highest record time
        self.lines = 0
        self.acts = {}             # partition -> [(offset, what it was)], where duplicates are looked for

    def account(self, id_):
        return self.accounts.get(id_) or Account(self, id_)

    def feed(self, partition, offset, record_ms, key, value):
        self.now_ms = max(self.now_ms, record_ms)
        lines = [(number, line) for number, line in enumerate((value or b"").split(b"\n"), 1) if line.strip(b" \t\r")]
        if not lines:
            self._reject("empty", partition, offset, 1, key, value or b"")
        for number, line in lines:
            try:
                self._count(read_event(line, self.policy.duplicates is not None), record_ms, partition, offset)
            except Reject as reject:
                self._reject(reject.reason, partition, offset, number, key, line)

    def _reject(self, reason, *where):
        self.lines += 1
        self.results["rejected"] += 1
        self.rejected.append(Rejected(reason, *where))

    def _count(self, event, record_ms, *where):
        result = self._judge(event, record_ms, *where)
        self.lines += 1
        self.results[result] += 1

    def _is_duplicate(self, event, partition, offset):
        """Whether one of the last lines with an id, of the last records of the partition, was the same."""
        if self.policy.duplicates is None or event.id is None:
            return False
        same, within = self.policy.duplicates
        what = (event.id, event.actor, event.target, event.undo, event.type if same == "event" else None)
        acts = self.acts.setdefault(partition, [])
        seen = any(act == what and then >= offset - within for then, act in acts)
        acts.append((offset, what))
        del acts[:-within]
        return seen

    def _judge(self, event, record_ms, partition, offset):
        if event.kind == "optout":
            self.left.add(event.target)
            self.out.add((partition, event.target))
            self.accounts.pop(event.target, None)
            return "control"
        if event.kind == "optin":
            self.left.discard(event.target)
            self.out.discard((partition, event.target))
            return "control"
        ts = event.ts
        if ts is None:
            if record_ms < 0:
                raise Reject("no_time")
            ts = record_ms
        if not TIME_MIN_MS <= ts < TIME_END_MS:
            raise Reject("out_of_range")
        # A record without a time has nothing that ts could be compared with.
        if record_ms >= 0 and ts > record_ms + self.skew_ms:
            raise Reject("future")
        cell = self.policy.cell(event.type, event.followers)
        if cell is None:
            return "unscored"
        if event.actor == event.target:
            return "self"
        duplicate = self._is_duplicate(event, partition, offset)
        if event.target in self.left or (not self.optout_as_actor and (partition, event.actor) in self.out):
            return "opted_out"
        if duplicate:
            return "duplicate"
        account = self.accounts.get(event.target)
        if account is None:
            account = self.accounts[event.target] = Account(self, event.target)
        sign = -1 if event.undo else 1
        if self.longest_ms is not None and record_ms >= 0 and ts < record_ms - self.longest_ms:
            account.late.append((cell, sign))
            return "late"
        account.events.append((ts, cell, sign))
        return "scored"

    def board(self, name, size, now_ms):
        """The best @size of window @name as [(id, points)], in the order of ZREVRANGE."""
        window = next((window for window in self.windows if window.name == name), None)
        scored = ((account.points(window, now_ms), id_) for id_, account in self.accounts.items())
        return [(id_, points) for points, id_ in sorted((pair for pair in scored if pair[0] > 0), reverse=True)[:size]]
