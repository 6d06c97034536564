# SPDX-License-Identifier: Apache-2.0
"""stream.py - seeded records with everything in them: spellings, undo, late, self, left, broken lines, many to a message.

    for record in Stream(seed, world).records(10_000): ...

A function of the seed and of what is asked for; reads no clock.

    with Flow(world, Stream(seed, world), 10_000): ...        they keep coming while a test does something else

    fill_with_newcomers(world, 2_000_000)                     as many new accounts as a daemon can be made to meet

    read_in_pieces(world, stream, rnd, 20_000, 6)             by daemons that are stopped or killed in between
    read_by_two_of_which_one_dies(world, stream, 20_000)

    with running(new_world, 500) as (world, daemon): ...      all of them are in Redis, and the daemon is ready
"""

import contextlib
import json
import random
import threading
import time

from harness import Record, now_ms, wait_for
from policies import DAY, HOUR

TYPES = ["retweet"] * 5 + ["reply"] * 3 + ["follow"] * 4 + ["mention"]  # the last is in no rule
FOLLOWERS = [None, 0, 7, 500, 9_999, 10_000, 10_001, 50_000, 100_000, 100_001, 3_000_000]
BROKEN = [b"", b"{", b"[1]", b"\xff", b'{"type":"retweet"}', b'{"type":"retweet","actor":"a","target":""}',
          b'{"type":"retweet","actor":"a","target":"b","ts":-1}', b'{"type":"retweet","actor":"a","target":"\\ud800"}',
          b'{"type":"retweet","actor":"a","target":"b","undo":1}', b"nonsense", b'{"type":"optout"}']


class Stream:
    """@longest_ms and @recent_ms: up to how long ago an event may have been, and most of them were; @early_ms: how far a
    record's time may fall behind that of the one before it; @repeats: how many of the events have been there before, in the
    words of one before, or as another type (0: none has an id)."""

    def __init__(self, seed, world, *, accounts=2000, start_ms=1_700_000_000_000, days=150, leaving=0.004,
                 per_message=5, longest_ms=90 * DAY, recent_ms=3 * HOUR, early_ms=HOUR, repeats=0):
        self.random = random.Random(seed)
        self.longest_ms, self.recent_ms, self.early_ms = longest_ms, recent_ms, early_ms
        self.time_ms, self.span_ms = start_ms, days * DAY
        self.leaving, self.per_message, self.repeats = leaving, per_message, repeats
        self.acquainted = not world.oracle.optout_as_actor  # who acts may leave
        self.partitions = [[] for _ in range(world.partitions)]
        for i in range(accounts):
            name = self._name(i)
            self.partitions[world.partition_of(name.encode())].append(name)
        self.partitions = [(p, names) for p, names in enumerate(self.partitions) if names]
        self.to_undo = {}  # partition -> events that may be taken back
        self.to_do = {}    # partition -> events that were taken back before they came
        self.said = {}     # partition -> events that may come again
        self.n_ids = 0

    def _name(self, i):
        kind = i % 50
        if kind == 0:
            return f"{i}-{'x' * self.random.randrange(10, 240)}"
        if kind == 1:
            return f"\u00e9-\U0001f600-{i}"
        if kind == 2:
            return str(i)  # may also come as an integer
        if kind == 3:
            return f'"{i}\\ /'
        return f"u{i}"

    def records(self, n, step_ms=None):
        """@n records whose times rise by @step_ms on average (default: so that they fill the days)."""
        step_ms = step_ms or max(1, self.span_ms // n)
        for _ in range(n):
            self.time_ms += int(self.random.expovariate(1 / step_ms))
            yield self._record()

    def _record(self):
        rnd = self.random
        partition, names = rnd.choice(self.partitions)
        n_lines = 1 if rnd.random() < 0.7 else rnd.randrange(2, self.per_message + 1)
        lines = [self._line(partition, names) for _ in range(n_lines)]
        value = (b"\r\n" if rnd.random() < 0.05 else b"\n").join(lines)
        if rnd.random() < 0.1:
            value += b"\n" * rnd.randrange(1, 3)
        key = rnd.choice(names).encode()
        return Record(partition, self.time_ms - rnd.randrange(0, self.early_ms), key, value)

    def _line(self, partition, names):
        rnd = self.random
        dice = rnd.random()
        if dice < 0.02:
            return rnd.choice(BROKEN)
        # Few are popular: the accounts' ranks follow a power law.
        target = names[int(len(names) * rnd.random() ** 3)]
        if dice < 0.02 + self.leaving:
            return self._spell({"type": "optout" if rnd.random() < 0.6 else "optin", "target": target})
        if dice < 0.10:
            undoable = self.to_undo.get(partition)
            if undoable:
                return self._spell({**undoable.pop(rnd.randrange(len(undoable))), "undo": True})
        if dice < 0.13:
            waiting = self.to_do.get(partition)
            if waiting and rnd.random() < 0.5:
                return self._spell(waiting.pop())
        if self.repeats and rnd.random() < self.repeats:
            said = self.said.get(partition)
            if said:
                return self._spell({**said[-1 - int(len(said) * rnd.random() ** 3)],
                                    **({"type": rnd.choice(TYPES)} if rnd.random() < 0.3 else {})})
        event = {"type": rnd.choice(TYPES), "actor": f"a{rnd.randrange(500)}", "target": target,
                 "actor_followers": rnd.choice(FOLLOWERS)}
        if self.acquainted:
            event["actor"] = rnd.choice(names[:40])
        late = rnd.random()
        if late < 0.03:
            event["ts"] = self.time_ms - self.longest_ms - rnd.randrange(0, self.longest_ms * 2 // 3)
        elif late < 0.2:
            event["ts"] = self.time_ms - rnd.randrange(0, self.longest_ms)
        elif late < 0.21:
            event["ts"] = self.time_ms + rnd.randrange(0, self.recent_ms * 2 // 3)  # perhaps too far in the future
        elif late < 0.9:
            event["ts"] = self.time_ms - rnd.randrange(0, self.recent_ms)
        if rnd.random() < 0.01:
            event["actor"] = target
        if self.repeats and rnd.random() < 0.9:
            self.n_ids += 1
            event["id"] = self.n_ids if rnd.random() < 0.2 else f"act-{self.n_ids}"
            self.said.setdefault(partition, []).append(event)
        if "ts" in event:
            if dice < 0.13:
                self.to_do.setdefault(partition, []).append(event)
                return self._spell({**event, "undo": True})
            if rnd.random() < 0.1:
                self.to_undo.setdefault(partition, []).append(event)
        return self._spell(event)

    def _spell(self, event):
        """The same event, written as feeds write it."""
        rnd = self.random
        fields = list(event.items())
        dice = rnd.random()
        if dice < 0.6:
            return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
        if dice < 0.7:
            rnd.shuffle(fields)
        if dice < 0.8:
            fields.insert(rnd.randrange(len(fields) + 1), ("extra", {"a": [1, "}", None], "type": "reply"}))
        if dice > 0.9:
            fields = [(name, str(value) if name in ("ts", "actor_followers") and value is not None else value)
                      for name, value in fields]
        if dice > 0.97:
            fields.insert(0, ("target", "an earlier one loses"))
        members = (f"{json.dumps(name)}: {self._spell_value(name, value)}" for name, value in fields)
        return ("{" + ", ".join(members) + "}").encode()

    def _spell_value(self, name, value):
        if name == "target" and isinstance(value, str):
            if value.isdigit() and self.random.random() < 0.5:
                return value
            if self.random.random() < 0.2 and all(ord(char) < 0x10000 for char in value):
                return '"' + "".join(f"\\u{ord(char):04x}" for char in value) + '"'
        return json.dumps(value, ensure_ascii=self.random.random() < 0.5)


class Flow:
    """Records that keep coming while a test does something else: @n of them, or (None) until the end of the block.  With
    the wall clock a record is made when it is sent, else the stream's own time goes on."""

    def __init__(self, world, stream, n, chunk=500, pause=0.05):
        self.world, self.pause = world, pause
        self.chunks = None if n is None else max(1, n // chunk)
        self.stream, self.chunk = stream, chunk
        self.step_ms = stream.span_ms // (n or 20_000)
        self.thread = threading.Thread(target=self._run)
        self.stopping = threading.Event()
        self.error = None

    def _run(self):
        try:
            while self.chunks != 0 and not self.stopping.is_set():
                if self.chunks is not None:
                    self.chunks -= 1
                if self.world.clock == "wall":
                    self.stream.time_ms = now_ms()
                    self.step_ms = 1
                self.world.send(*self.stream.records(self.chunk, step_ms=self.step_ms))
                time.sleep(self.pause)
        except Exception as error:  # said by __exit__, in the thread of the test
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        if self.chunks is None:
            self.stopping.set()
        self.thread.join()
        assert self.error is None, self.error


def fill_with_newcomers(world, events, at_once=100_000):
    """@events into the log: the first half meets a new account each time, the second comes back, mostly to a few."""
    rnd = random.Random(99)
    types = ["retweet", "reply", "follow"]
    accounts = events // 2
    for begin in range(0, events, at_once):
        records = []
        for i in range(begin, min(begin + at_once, events)):
            target = b"u%d" % (i if i < accounts else int(accounts * rnd.random() ** 4))
            now = 1_718_000_000_000 + i * 1500
            value = (f'{{"type":"{types[i % 3]}","actor":"a{i % 9973}","actor_followers":{i * 7919 % 250_000},'
                     f'"target":"{target.decode()}","ts":{now - i % 7 * HOUR}}}').encode()
            records.append(Record(world.partition_of(target), now, target, value))
        world.send(*records)


def read_in_pieces(world, stream, rnd, events, pieces):
    """@events, of which each daemon has seen some more when it is stopped or killed; the last one reads them to the end."""
    for _ in range(pieces):
        world.send(*stream.records(events // pieces, step_ms=stream.span_ms // events))
        daemon = world.daemon()
        wait_for(daemon.had_partitions, what="an assignment")
        time.sleep(rnd.uniform(0, 0.4))
        if rnd.random() < 0.3:
            assert daemon.terminate() == 0, daemon.log_tail()
            world.check_positions()
        else:
            daemon.kill()
    world.run_until_end()


def read_by_two_of_which_one_dies(world, stream, events):
    """A third comes in its place while @events flow."""
    first, second = world.daemon(), world.daemon()
    with Flow(world, stream, events, pause=0.1):
        wait_for(first.had_partitions, what="an assignment")
        wait_for(second.had_partitions, what="an assignment")
        first.kill()
        third = world.daemon()
        wait_for(third.had_partitions, what="an assignment")
    world.wait_until_read()
    world.wait_until_right()
    for daemon in (second, third):
        assert daemon.terminate() == 0, daemon.log_tail()


@contextlib.contextmanager
def running(new_world, n, *, seed=1, **conf):
    """A world of its own with @n records, and a daemon that is ready and has read them; stopped and looked at after."""
    world = new_world(**conf)
    world.send(*Stream(seed, world).records(n))
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_read()
        yield world, daemon
