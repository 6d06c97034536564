# SPDX-License-Identifier: Apache-2.0
"""live.py - a feed that keeps coming: which rate holds, and how soon is an event's score in Redis?

    live = Live(pipe, accounts, events)    a daemon that has read so much, and waits for more
    sustained(live, seconds, say)          the highest rate at which the lag does not grow
    latency(live, rate, seconds)           from produce to readable, beside a feed of that rate
    hold(live, rate, seconds, say)         one rate, and what it costs generator, Kafka, cloutd and Redis
    series(live, rate, seconds)            rate, latency and memory over time, to be plotted
    rebalance(live, rate, seconds, say)    what half of the partitions wait for when they go to another daemon
    start(live, say)                       how long a daemon takes that begins where another one ended

All of it, generator and Kafka included, on this machine.  The lag is the log's end less `low`, the position up to which Redis
has everything.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pipe as pipes
import plot
from pipe import harness

SAMPLE_S = 0.5
PROBES_PER_S = 200
PROBE_WARM_UP_S = 8  # its first round, 1,000 events, is not counted
SAMPLES_LEAST = 8
GREW_S = 0.25   # more events than come in this time: the lag grows
KEPT_UP = 0.97  # of the rate that was asked for: less, and it is the generator or Kafka that does not hold it


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Live:
    """A daemon that has read @events of @accounts, and waits for more."""

    def __init__(self, pipe, accounts, events, **changes):
        self.accounts = accounts
        self.world = pipe.world(**changes)
        if events > 0:
            pipes.fill(self.world, events, accounts)
        self.daemon = self.world.daemon()
        harness.wait_for(lambda: self.lag() == 0, 600, "the daemon has caught up", every=0.5)
        self.processes = {"cloutd": self.daemon.process.pid, "redis": self.world.redis.process.pid,
                          "kafka": int((pipe.kafka.folder / "kafka" / "pid").read_text())}

    def close(self):
        assert self.daemon.terminate(60) == 0, self.daemon.log_tail()

    def sent(self):
        return sum(self.world.kafka.ends(self.world.topic).values())

    def lag(self):
        return self.sent() - sum(self.world.low().values())

    @contextlib.contextmanager
    def feed(self, rate):
        """Events at this rate, until the end of the block."""
        generator = subprocess.Popen(pipes.generator(self.world, rate=rate, accounts=self.accounts),
                                     stderr=subprocess.PIPE, text=True)
        try:
            yield generator
        finally:
            generator.send_signal(signal.SIGINT)
            generator.stderr.read()
            generator.wait(60)

    def hold(self, rate, seconds):
        """Whether it held, with what it cost."""
        before, before_sent = {name: cpu_s(pid) for name, pid in self.processes.items()}, self.sent()
        with self.feed(rate) as generator:
            samples, began = [], time.monotonic()
            while time.monotonic() < began + seconds or len(samples) < SAMPLES_LEAST:
                time.sleep(SAMPLE_S)
                samples.append((time.monotonic() - began, self.lag()))
            spent = time.monotonic() - began
            cost = {name: (cpu_s(pid) - before[name]) / spent for name, pid in self.processes.items()}
            cost["generator"] = cpu_s(generator.pid) / spent
            sent = self.sent()
        # Each flush takes the lag down to almost nothing again: the low points of a while are what must not rise.
        quarter = len(samples) // 4
        early, late = (min(lag for _, lag in part) for part in (samples[quarter:2 * quarter], samples[-quarter:]))
        harness.wait_for(lambda: self.lag() == 0, 600, "the daemon has caught up", every=0.5)
        return {"grew_by": late - early, "lag": samples, "cores": cost, "came_per_s": (sent - before_sent) / spent}


def hold(live, rate, seconds, say):
    run = live.hold(rate, seconds)
    came = run["came_per_s"]
    held = run["grew_by"] <= GREW_S * rate and came >= KEPT_UP * rate
    say(f"  {rate:9,.0f} events/s {'held' if held else 'did not hold'}: {came:,.0f}/s came, the lag grew by {run['grew_by']:,}; "
        "cores: " + ", ".join(f"{name} {n:.2f}" for name, n in run["cores"].items()))
    return held, run


def sustained(live, seconds, say, start=100_000, steps=5):
    """By doubling or halving until it turns, then by halving the gap."""
    good, bad, rate = 0, None, start
    for _ in range(steps):
        held, _ = hold(live, rate, seconds, say)
        good, bad = (rate, bad) if held else (good, rate)
        rate = (good + bad) / 2 if good and bad else rate * 2 if held else rate / 2
    return good


def at_share(buckets, share):
    """Of a histogram's {upper edge: how many up to there}, in between by a straight line; None without any."""
    edges, below, total = sorted(buckets), 0, max(buckets.values(), default=0)
    if total == 0:
        return None
    for number, edge in enumerate(edges):
        if buckets[edge] >= share * total:
            start = edges[number - 1] if number else 0
            return start if edge == float("inf") else start + (edge - start) * (share * total - below) / (buckets[edge] - below)
        below = buckets[edge]


def series(live, rate, seconds):
    """(times, panels for plot.py): what the daemon says of itself each second beside a feed of that rate."""
    head = 'cloutd_event_to_redis_seconds_bucket{since="record",le="'
    times, read, half, worst, resident = [], [], [], [], []
    with live.feed(rate):
        began = last = time.monotonic()
        before = live.daemon.metrics()
        while last < began + seconds:
            time.sleep(1)
            now, metrics = time.monotonic(), live.daemon.metrics()
            grown = {name: value - before.get(name, 0) for name, value in metrics.items()}
            buckets = {float(name[len(head):-2].replace("+Inf", "inf")): n for name, n in grown.items() if name.startswith(head)}
            times.append(now - began)
            read.append(sum(n for name, n in grown.items() if name.startswith("cloutd_events_total{")) / (now - last))
            for values, share in ((half, 0.5), (worst, 0.99)):
                quantile = at_share(buckets, share)
                values.append(None if quantile is None else quantile * 1000)
            resident.append(metrics["process_resident_memory_bytes"] / 2**20)
            before, last = metrics, now
    return times, [plot.Panel("events a second", {"read": read}), plot.Panel("ms from record to Redis", {"p50": half, "p99": worst}),
                   plot.Panel("MiB", {"resident": resident})]


def start(live, say):
    """Seconds from exec to the first score of a daemon that finds all of its accounts in Redis."""
    live.close()
    world, account = live.world, b"newcomer"
    world.kafka.write(world.topic, [harness.Record(world.partition_of(account), harness.now_ms(), account,
                                                   b'{"type":"retweet","actor":"a","target":"newcomer"}')])
    accounts, began = world.redis.client.dbsize(), time.monotonic()
    live.daemon = world.daemon()
    harness.wait_for(lambda: world.redis.client.hget(f"{world.prefix}a:newcomer", "all") == b"10", 600, "the first score",
                     every=0.005)
    seconds = time.monotonic() - began
    say(f"  started with {accounts:,} keys in Redis: the first score after {seconds:.2f} s")
    return seconds


def log_moments(daemon, what):
    """[(when the line was written, ms that the daemon itself took)] of each such line of its log."""
    lines = (line for line in daemon.log().splitlines() if f'msg="{what}"' in line)
    return [(datetime.fromisoformat(re.search(r"ts=(\S+)", line)[1]), int(re.search(r" ms=(\d+)", line)[1])) for line in lines]


def rebalance(live, rate, seconds, say):
    """Seconds that the event with the worst luck waited while half of the partitions went to a second daemon, beyond what the
    group itself needed: from the end of the first one's letting go until the last partition was given."""
    world, kafka_s = live.world, None
    with live.feed(rate), probe(world, seconds) as probing:
        time.sleep(PROBE_WARM_UP_S)
        second = world.daemon()
        harness.wait_for(second.had_partitions, what="the second daemon has partitions")
        figures = pipes.figures_of(probing.communicate()[0])
        released, _ = log_moments(live.daemon, "partitions revoked")[-1]
        given, took_ms = max(moment for daemon in (live.daemon, second) for moment in log_moments(daemon, "partitions assigned"))
        kafka_s = (given - released).total_seconds() - took_ms / 1000
    assert figures["lost"] == 0, f"{figures['lost']} events never became readable"
    assert second.terminate(60) == 0, second.log_tail()
    say(f"  rebalance: the longest wait {figures['max_ms']:,.0f} ms, of which the group took {kafka_s * 1000:,.0f}; "
        f"the median {figures['p50_ms']:,.0f} ms")
    return figures["max_ms"] / 1000 - kafka_s


@contextlib.contextmanager
def probe(world, seconds, rate=PROBES_PER_S):
    process = subprocess.Popen([pipes.PROGRAMS / "probe", world.kafka.brokers, world.topic, world.redis.socket, world.prefix,
                                str(rate), str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def latency(live, rate, seconds):
    """Of the probe's events beside the feed."""
    with live.feed(rate), probe(live.world, seconds) as probing:
        figures = pipes.figures_of(probing.communicate()[0])
    assert figures["lost"] == 0, f"{figures['lost']} events never became readable"
    return figures
