# SPDX-License-Identifier: Apache-2.0
"""chaos.py - a world in which everything may break: daemons that are looked after, and a wire before Redis.

    world = new_world(kind=ChaosWorld, ...)
    world.crew.hire(2)                       daemons, started again as systemd would if they end unasked
    with world.flow(seed): fault(world, rnd)
    world.settle()                           nothing broken any more: everything must come right

What the faults are stands in faults.py."""

import contextlib
import re
import signal
import threading
import time
from collections import Counter

from harness import PATIENCE, UNDER_SANITIZER, Record, Redis, World, now_ms, wait_for
from oracle import Oracle, Window
from policies import SECOND
from proxy import Proxy
from stream import Flow, Stream

# By the machine's clock, so short that buckets enter and leave while things are broken.
SHORT = [Window("8s", 8 * SECOND, SECOND), Window("4s", 4 * SECOND, 2 * SECOND)]
CHUNK = 40 if UNDER_SANITIZER else 100

totals = Counter()   # what all daemons of all worlds counted
faults = Counter()   # how often each fault was there
wires = Counter()    # what the wires did


def interesting(name):
    """Of a daemon's counters those that tell that something was broken."""
    return name.startswith("cloutd_") and "_total" in name and not re.match(
        r"cloutd_(events|messages|bytes|redis_commands|redis_sent|redis_loads|account)_", name) or "replayed" in name


class ChaosStream(Stream):
    """In an unkeyed world each record goes to any partition, and whoever leaves or comes back does so in every one: each
    partition obeys its own copy, as `cloutctl optout` writes them.  When partitions were added, keys move."""

    def __init__(self, seed, world, **options):
        self.world, self.control = world, []
        super().__init__(seed, world, **options)
        self.names = [name for _, names in self.partitions for name in names]
        self.n_partitions = world.partitions

    def records(self, n, step_ms=None):
        if self.n_partitions != self.world.partitions:
            self.n_partitions = self.world.partitions
            groups = {}
            for name in self.names:
                groups.setdefault(self.world.partition_of(name.encode()), []).append(name)
            self.partitions = list(groups.items())
        for record in super().records(n, step_ms):
            if self.world.unkeyed:
                record = record._replace(partition=self.random.randrange(self.n_partitions))
            yield record
            for line in self.control:
                for partition in range(self.n_partitions):
                    yield Record(partition, self.time_ms, record.key, line)
            self.control = []

    def _line(self, partition, names):
        line = super()._line(partition, names)
        while self.world.unkeyed and (b'"optout"' in line or b'"optin"' in line):
            self.control.append(line)
            line = super()._line(partition, names)
        return line


class Member:
    """One place in the group: a daemon, and after it its successors."""

    def __init__(self):
        self.daemon = None
        self.lock = threading.RLock()  # held by whoever does something to it
        self.counted = {}


class Crew:
    """The daemons of one world.  A thread looks at them twice a second: it reads their metrics, since those who are
    killed leave none, and starts again who ended because Redis or Kafka refused (69), as systemd does."""

    def __init__(self, world):
        self.world, self.members = world, []
        self.deaths = 0       # killed, or silent for longer than the group waits
        self.restarts = 0     # ended with 69
        self.errors = []
        self.counted = Counter()
        self.books = Counter()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self):
        while not self.stopping.wait(0.5):
            for member in list(self.members):
                # Who is busy with it knows of its state.
                if member.lock.acquire(blocking=False):
                    try:
                        self._look_at(member)
                    except Exception as error:  # said by settle(), in the thread of the test
                        self.errors.append(error)
                    finally:
                        member.lock.release()

    def _look_at(self, member):
        if member.daemon is None:
            return
        status = member.daemon.process.poll()
        if status is None:
            with contextlib.suppress(AssertionError):  # it does not answer yet
                member.counted = member.daemon.metrics()
            return
        said = member.daemon.log_tail()
        self._gone(member)
        if status != 69:
            self.errors.append(AssertionError(f"ended with {status}\n{said}"))
            return
        self.restarts += 1
        self.start(member)

    def _gone(self, member):
        for name, value in member.counted.items():
            if interesting(name):
                self.counted[name] += int(value)
        member.counted = {}
        member.daemon = None

    def count(self, name):
        """So far, as far as they have been asked."""
        return self.counted[name] + sum(int(member.counted.get(name, 0)) for member in list(self.members))

    def start(self, member):
        with member.lock:
            member.daemon = self.world.daemon()

    def hire(self, n=1):
        for _ in range(n):
            member = Member()
            self.start(member)
            self.members.append(member)

    def working(self):
        return [member for member in self.members if member.daemon is not None]

    def wait_ready(self):
        for member in self.working():
            with member.lock:
                member.daemon.wait_ready(seconds=PATIENCE)

    def kill(self, member):
        with member.lock:
            if member.daemon is not None:
                self._look_at(member)
            if member.daemon is not None:
                member.daemon.kill()
                self.deaths += 1
                self._gone(member)

    def freeze(self, member, seconds):
        """Longer than the group waits: others are given its partitions, and then it goes on."""
        with member.lock:
            if member.daemon is not None and member.daemon.process.poll() is None:
                member.daemon.process.send_signal(signal.SIGSTOP)
                self.deaths += 1
                time.sleep(seconds)
                member.daemon.process.send_signal(signal.SIGCONT)

    def stop(self, member):
        """Gracefully; what its books say is added up."""
        with member.lock:
            if member.daemon is not None:
                self._look_at(member)
            if member.daemon is not None:
                daemon = member.daemon
                status = daemon.terminate(PATIENCE)
                too_early = status == -signal.SIGTERM and daemon.log() == ""  # it did not know of signals yet
                too_late = status == 69  # it was refused and had ended, or was about to
                assert status == 0 or too_early or too_late, f"ended with {status}\n{daemon.log_tail()}"
                if " msg=stopped " in daemon.log():  # else it still waited for Kafka or Redis
                    self.books.update(daemon.last_books())
                self._gone(member)

    def close(self):
        self.stopping.set()
        self.thread.join()


class ChaosWorld(World):
    def __init__(self, kafka, folder, *, windows=None, clock="wall", flush_interval="20ms", accounts=300, unkeyed=False,
                 leaving=0.01, **options):
        super().__init__(kafka, folder, windows=SHORT if windows is None else windows, clock=clock,
                         redis_options=self.redis_options(), skew_ms=2000, flush_interval=flush_interval, **options)
        self.accounts, self.unkeyed, self.leaving = accounts, unkeyed, leaving
        self.sent = []
        self.servers = [self.redis]  # all that were ever started
        self.wire = Proxy(self.redis.socket)
        self.config["redis"]["address"] = self.wire.address
        self.crew = Crew(self)

    @staticmethod
    def redis_options():
        """Besides the harness's: it may be broken on purpose."""
        return ("--bind", "127.0.0.1", "--enable-debug-command", "yes",
                "--loading-process-events-interval-bytes", "1024", "--repl-diskless-sync-delay", "0",
                "--repl-timeout", "10")

    def new_server(self, *options):
        self.servers.append(Redis(self.folder / f"redis-{len(self.servers)}", *self.redis_options(), *options))
        return self.servers[-1]

    def make_topic_anew(self):
        self.kafka.delete(self.topic)
        self.ends = dict.fromkeys(range(self.partitions), 0)
        self.kafka.create(self.topic, self.partitions)

    def send(self, *records):
        self.sent += records
        super().send(*records)

    def read_what_was_written_twice(self):
        """A broker that is killed after it stored records, and before it said so, may be given them once more, although
        the producer is idempotent.  Then the log has them twice, which is nobody's mistake here, and the oracle counts
        the log."""
        if self.kafka.ends(self.topic) == self.ends:
            return
        records = [Record(partition, time_ms, key, value)
                   for partition, _, time_ms, key, value, _ in self.kafka.read(self.topic)]
        for partition in range(self.partitions):
            log, sent = ([record for record in records_ if record.partition == partition]
                         for records_ in (records, self.sent))
            assert list(dict.fromkeys(log)) == list(dict.fromkeys(sent)), f"partition {partition} is not what was written"
        print(f"the log has records twice: {self.kafka.ends(self.topic)} instead of {self.ends}")
        self.oracle = Oracle(self.policy, self.windows, self.headline, self.oracle.skew_ms,
                             self.oracle.optout_as_actor)
        self.ends = dict.fromkeys(range(self.partitions), 0)
        for record in records:
            self.feed(record)

    def lead_to(self, server):
        """The address of Redis is @server's from now on, also for the tests themselves."""
        self.redis = server
        self.wire.retarget(server.socket)

    def flow(self, seed):
        times = {}
        if self.clock == "wall":
            times = {"longest_ms": self.windows[0].length_ms, "recent_ms": self.windows[0].length_ms // 3, "early_ms": 500}
        stream = ChaosStream(seed, self, accounts=self.accounts, leaving=self.leaving,
                             repeats=0.3 if self.policy.duplicates else 0, **times)
        return Flow(self, stream, None, chunk=CHUNK, pause=0.1)

    def close(self):
        self.crew.close()
        for daemon in self.daemons:
            if daemon.process.poll() is None:  # the test failed before it came to that
                daemon.kill()
        self.wire.close()
        for server in self.servers:
            server.kill()

    # -- the end of a test

    def settle(self, again=True, letters=True):
        """Everything that was broken is whole: all must come right, and stay so when the daemons are stopped.  @again:
        something may have been read twice; else the books must show that nothing was."""
        crew = self.crew
        if not crew.working():
            crew.hire()
        self.read_what_was_written_twice()
        self.wait_until_read()
        self.wait_until_right()
        now = self.oracle.now_ms if self.clock == "record" else now_ms()
        # Who is stopped while the group shares out the partitions has none to commit for: the last one has all of them.
        *others, last = crew.working()
        for member in others:
            crew.stop(member)
        wait_for(lambda: last.daemon.metrics()['cloutd_partitions{phase="owned"}'] == self.partitions, what="it has all")
        crew.stop(last)
        if crew.errors:
            raise crew.errors[0]
        for daemon in self.daemons:
            assert not re.search(r"Sanitizer|runtime error", daemon.log()), daemon.log_tail()
        self.check_positions()
        # Stopped while a board is rebuilt, it is short, as /status would say; stopped between the slides of two parts, an
        # account is the sum of both.
        if self.redis.client.get(f"{self.prefix}mode") != b"shared":
            self.check(now=now, boards=False)
        if letters:
            self.check_letters(exactly_once=not again)
        if not again:
            assert crew.deaths == 0
            self.check_books(crew.books)
        elif crew.deaths == 0 and crew.restarts == 0:
            self.check_books(crew.books, replayed=True)
        totals.update(crew.counted)
        totals["restarts after 69"] += crew.restarts
        wires.update(self.wire.counts)

    def wait_until_read(self, seconds=PATIENCE):
        try:
            super().wait_until_read(seconds)
        except AssertionError as error:
            raise AssertionError("".join([str(error), *(f"\n{member.daemon.log_tail()}"
                                                        for member in self.crew.working())])) from None
