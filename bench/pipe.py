# SPDX-License-Identifier: Apache-2.0
"""pipe.py - from Kafka to Redis: cloutd, the floor below it, and its rivals, on one topic and in turns.

    with Pipe(folder) as pipe: figures = compare(pipe, events=2_000_000, accounts=1_000_000, rounds=5)
    catch_up(), scale(), bound()           a long log; many accounts against few, and against little memory

A real Kafka and a real Redis, as the integration tests start them.  Every contender reads the same topic from its beginning to
its end; Redis is empty each time.  CPU time is a whole process's, its start included.  A figure that was measured several
times is a list, in the order of the rounds: a ratio of two contenders is one of each round.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
os.environ.setdefault("CLOUTD_BUILD", str(ROOT / "build" / "release"))

import harness  # noqa: E402  the build's folder is named before
from oracle import Window  # noqa: E402
from policies import DAY, HOUR  # noqa: E402

PROGRAMS = harness.BUILD / "bench"
WINDOWS = [Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY), Window("90d", 90 * DAY, DAY)]
SAMPLE_S = 0.05


class Pipe:
    """A Kafka; on it one world (topic, Redis, configuration) after another."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.kafka = harness.Kafka(self.folder / "kafka")
        self.worlds = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for world in self.worlds:
            world.close()
        self.kafka.stop()

    def world(self, **changes):
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        options = {"partitions": 4, "lanes": 2, "windows": WINDOWS, "headline": "30d", "clock": "wall",
                   "flush_interval": "1s", **changes}
        self.worlds.append(harness.World(self.kafka, folder, **options))
        return self.worlds[-1]


def generator(world, **options):
    """clout-gen's command line."""
    return [PROGRAMS / "clout-gen", "-b", world.kafka.brokers, "--topic", world.topic, "--partitions", "0", "--seed", "7",
            *(text for name, value in options.items() for text in ("--" + name.replace("_", "-"), str(value)))]


def fill(world, events, accounts, **options):
    # A busy machine may take its time with twenty million: what was handed over waits as long as it must.
    done = subprocess.run([*generator(world, events=events, accounts=accounts, **options), "-X", "message.timeout.ms=0"],
                          stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def figures_of(output):
    """What a program of bench/ says in its last line."""
    line = next((line for line in reversed(output.splitlines()) if line.startswith("figures: ")), None)
    assert line is not None, output
    return json.loads(line[len("figures: "):])


# ---- what a process costs ----


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def threads_cpu_s(pid):
    """By the thread's name, those of one name together."""
    ticks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it has ended
        fields = rest.split()
        ticks[name] = ticks.get(name, 0) + int(fields[11]) + int(fields[12])
    return {name: n / os.sysconf("SC_CLK_TCK") for name, n in ticks.items()}


class Watch:
    """Looks at a process until it ends: its peak memory, its threads' CPU time, its memory over time."""

    def __init__(self, process):
        self.process, self.began = process, time.monotonic()
        self.peak_kib, self.threads, self.samples = 0, {}, []

    def until_end(self, seconds=1800):
        while self.process.poll() is None:
            assert time.monotonic() < self.began + seconds, f"{self.process.args[0]} does not end"
            try:
                status = Path(f"/proc/{self.process.pid}/status").read_text()
                for name, cpu_s in threads_cpu_s(self.process.pid).items():
                    # (less than before: threads of that name have ended)
                    self.threads[name] = max(cpu_s, self.threads.get(name, 0))
            except OSError:
                continue
            peak, now = (next((int(line.split()[1]) for line in status.splitlines() if line.startswith(name)), 0)
                         for name in ("VmHWM", "VmRSS"))
            self.peak_kib = max(self.peak_kib, peak)
            self.samples.append((round(time.monotonic() - self.began, 3), now))
            time.sleep(SAMPLE_S)


def run_program(world, *arguments):
    process = subprocess.Popen([PROGRAMS / arguments[0], *arguments[1:]], stdout=subprocess.PIPE, text=True)
    watch = Watch(process)
    watch.until_end()
    output = process.stdout.read()
    assert process.returncode == 0, f"{arguments[0]}: {process.returncode}"
    return watch, figures_of(output)


def run_floor(world):
    return run_program(world, "floor", world.kafka.brokers, world.topic)


def run_naive(world):
    return run_program(world, "naive", world.kafka.brokers, world.topic, world.redis.socket, world.prefix)


def run_cloutd(world):
    run_cloutd.count += 1
    daemon = world.daemon("--until-end", kafka={**world.config["kafka"], "group": f"bench-{run_cloutd.count}"})
    while not daemon.had_partitions():
        assert daemon.process.poll() is None, daemon.log_tail()
        time.sleep(0.002)
    began = time.monotonic()
    watch = Watch(daemon.process)
    watch.until_end()
    seconds = time.monotonic() - began
    assert daemon.wait() == 0, daemon.log_tail()
    said = daemon.last_words()
    return watch, {"events": said["messages"], "seconds": seconds, "account_writes": said["account_writes"]}


def run_go(world):
    return run_program(world, "consumer-go", world.kafka.brokers, world.topic, world.redis.socket, world.prefix)


run_cloutd.count = 0
CONTENDERS = {"floor": run_floor, "cloutd": run_cloutd, "naive": run_naive, "go": run_go}
RIVALS = [name for name in CONTENDERS if name != "cloutd"]


def left_out():
    """{rival: why it does not run}"""
    reasons = {name: f"bench/{name} is not built (its library is missing)" for name in ("floor", "naive")
               if not (PROGRAMS / name).exists()}
    try:
        # Once; its modules come from the network.
        subprocess.run(["go", "build", "-o", PROGRAMS / "consumer-go", "."], cwd=ROOT / "bench" / "rivals" / "consumer_go",
                       check=True, capture_output=True, text=True)
    except OSError:
        reasons["go"] = "there is no Go compiler"
    except subprocess.CalledProcessError as error:
        reasons["go"] = f"bench/rivals/consumer_go cannot be built: {error.stderr.strip().splitlines()[-1]}"
    return reasons


def measure(world, name):
    """One run of a contender, as figures."""
    world.redis.restart_empty()
    cpu_before, redis_before = children_cpu_s(), world.redis.client.info()
    watch, said = CONTENDERS[name](world)
    cpu_s, redis = children_cpu_s() - cpu_before, world.redis.client.info()
    redis_cpu_s = sum(redis[field] - redis_before[field] for field in ("used_cpu_user", "used_cpu_sys"))
    events, writes = said["events"], said.get("account_writes")
    figures = {"events_per_s": events / said["seconds"], "cpu_ns": cpu_s / events * 1e9, "peak_rss_mib": watch.peak_kib / 1024}
    figures.update({f"cpu_ns_of.{thread}": cpu / events * 1e9 for thread, cpu in watch.threads.items()
                    if cpu / events * 1e9 >= 1})
    if writes:
        figures.update({
            "account_writes": writes, "redis_cpu_ns": redis_cpu_s / events * 1e9,
            "redis_cpu_ns_per_write": redis_cpu_s / writes * 1e9,
            "redis_bytes_in": (redis["total_net_input_bytes"] - redis_before["total_net_input_bytes"]) / events,
            "redis_memory_mib": redis["used_memory"] / 2**20})
        # Where the server's time goes.  (EXEC's is that of the commands in it once more.)
        for command, row in world.redis.client.info("commandstats").items():
            if row["calls"] / writes >= 0.01:
                figures[f"redis_calls_per_write_of.{command[8:]}"] = row["calls"] / writes
                figures[f"redis_us_per_write_of.{command[8:]}"] = row["usec"] / writes
    return figures


def points_of_all_time(world):
    head = f"{world.prefix}a:".encode()
    keys = list(world.redis.client.scan_iter(match=head + b"*", count=10_000))
    points = {}
    for i in range(0, len(keys), 10_000):
        pipeline = world.redis.client.pipeline(transaction=False)
        for key in keys[i:i + 10_000]:
            pipeline.hget(key, "all")
        points.update(zip(keys[i:i + 10_000], map(int, pipeline.execute())))
    return points


def compare(pipe, events, accounts, rounds, say=print):
    """{figure: one value for each round}"""
    missing = left_out()
    names = [name for name in CONTENDERS if name not in missing]
    for name, why in missing.items():
        say(f"LEFT OUT: {why}: there is no comparison with {name}")
    world = pipe.world()
    fill(world, events, accounts)
    rows = []
    for number in range(rounds):
        row, answers = {}, {}
        for name in names if number % 2 == 0 else names[::-1]:
            figures = measure(world, name)
            row.update({f"{name}.{figure}": value for figure, value in figures.items()})
            if "account_writes" in figures:
                answers[name] = points_of_all_time(world)
            say(f"  {name:7} {figures['events_per_s']:11,.0f} events/s  {figures['cpu_ns']:7,.0f} ns of CPU an event"
                + (f"  Redis {figures['redis_cpu_ns']:6,.0f} ns" if "redis_cpu_ns" in figures else ""))
        for name, answer in answers.items():
            assert answer == answers["cloutd"], f"cloutd and {name} disagree"
        row.update(ratios(row))
        rows.append(row)
    return {**{f"cpu_to_{name}": why for name, why in missing.items()},
            **{figure: [row[figure] for row in rows if figure in row] for figure in rows[0]}}


def ratios(row):
    ratio = {}
    for rival in RIVALS:
        if f"{rival}.cpu_ns" in row:
            ratio[f"cpu_to_{rival}"] = row["cloutd.cpu_ns"] / row[f"{rival}.cpu_ns"]
            ratio[f"rate_to_{rival}"] = row["cloutd.events_per_s"] / row[f"{rival}.events_per_s"]
    return ratio


def catch_up(pipe, events, accounts, rounds, say=print):
    """A long log against the slower of two floors: librdkafka's empty loop, and a pipeline that writes each account once."""
    world = pipe.world()
    fill(world, events, accounts)
    rows = []
    for _ in range(rounds):
        floor = measure(world, "floor")
        cloutd = measure(world, "cloutd")
        _, refill = run_program(world, "refill", world.redis.socket, world.prefix)
        fed_per_s = events / refill["seconds"]
        rows.append({"events_per_s": cloutd["events_per_s"], "floor_events_per_s": floor["events_per_s"],
                     "refill_events_per_s": fed_per_s, "writes_per_event": cloutd["account_writes"] / events,
                     "rate_to_floors": cloutd["events_per_s"] / min(floor["events_per_s"], fed_per_s),
                     "redis_cpu_ns_per_write": cloutd["redis_cpu_ns_per_write"],
                     "redis_cpu_ns_per_plain_hset": refill["redis_cpu_ns_per_account"],
                     "write_to_plain_hset": cloutd["redis_cpu_ns_per_write"] / refill["redis_cpu_ns_per_account"]})
        say("  " + ", ".join(f"{name} {value:,.2f}" for name, value in rows[-1].items()))
    return {figure: [row[figure] for row in rows] for figure in rows[0]}


@contextlib.contextmanager
def hard_times(process, after_s, stopped_s, slow_s):
    """Beside the block: Redis stands still for a while, does little for another, and stands still again."""
    over = threading.Event()

    def stop(seconds):
        process.send_signal(signal.SIGSTOP)
        over.wait(seconds)
        process.send_signal(signal.SIGCONT)

    def run():
        over.wait(after_s)
        stop(min(stopped_s, 10))  # shorter than the daemon waits for an answer
        end = time.monotonic() + slow_s
        while time.monotonic() < end and not over.is_set():
            stop(0.09)
            over.wait(0.01)
        stop(stopped_s)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def bound(pipe, events, accounts, limit_mib, stopped_s, slow_s, say=print):
    """Many more accounts than memory may hold, and a Redis that has its troubles: how much memory it takes after all, and
    whether every account is right in the end."""
    world = pipe.world(memory_limit=f"{limit_mib}MiB")
    fill(world, events, accounts, zipf=0)
    daemon = world.daemon("--until-end")
    while not daemon.had_partitions():
        assert daemon.process.poll() is None, daemon.log_tail()
        time.sleep(0.01)
    watch = Watch(daemon.process)
    with hard_times(world.redis.process, stopped_s / 2, stopped_s, slow_s):
        watch.until_end(seconds=3600)
    seconds = time.monotonic() - watch.began
    assert daemon.wait() == 0, daemon.log_tail()
    _, audit = run_program(world, "audit", daemon.log_path.with_suffix(".yaml"), str(accounts))
    ratio = watch.peak_kib / 1024 / limit_mib
    say(f"  {audit['accounts']:,} accounts, {audit['wrong']:,} of them wrong; peak {watch.peak_kib / 1024:,.0f} MiB, {ratio:.2f} of "
        f"the limit; {events / seconds:,.0f} events/s")
    assert daemon.last_words()["evictions"] > 0, "everything fitted into memory"
    assert audit["wrong"] == 0, f"{audit['wrong']} accounts are wrong"
    return {"peak_to_limit": ratio, "events_per_s": events / seconds, "accounts": audit["accounts"]}


def scale(pipe, events, few, many, rounds, say=print):
    """CPU per event with @many accounts against @few."""
    worlds = {accounts: pipe.world() for accounts in (few, many)}
    for accounts, world in worlds.items():
        fill(world, events, accounts)
    ratios_ = []
    for _ in range(rounds):
        cpu = {accounts: measure(world, "cloutd")["cpu_ns"] for accounts, world in worlds.items()}
        say("  " + ", ".join(f"{accounts:,} accounts: {ns:,.0f} ns of CPU an event" for accounts, ns in cpu.items()))
        ratios_.append(cpu[many] / cpu[few])
    return {"many_to_few": ratios_}
