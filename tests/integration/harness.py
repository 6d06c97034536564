# SPDX-License-Identifier: Apache-2.0
"""harness.py - a real Kafka, a real Redis, real daemons, and whether what Redis shows is what the oracle says.

    world = World(kafka, folder, policy=KRED, clock="record")     a topic, a Redis and an oracle of its own
    world.send(Record(partition, time_ms, key, value), ...)       into Kafka, and to the oracle
    world.run_until_end()                                         a daemon, to the end of the log
    world.check()                                                 every key of Redis against the oracle

    with world.daemon() as daemon: ...                            a daemon in the background; stopped and looked at after

CLOUTD_BUILD names the folder with the programs.  Everything listens on loopback, on ports that were free.
"""

import contextlib
import fcntl
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import namedtuple
from pathlib import Path

import redis
import xxhash

from oracle import Oracle
from policies import KRED, WINDOWS, policy_yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CLOUTD_BUILD", ROOT / "build" / "dev"))
SALT = "not-a-secret-in-a-test-0123456789"
UNDER_SANITIZER = "asan" in BUILD.name
# Where the new seeds of this run begin: its workers inherit it, for all of them must collect the same tests.
FIRST_SEED = int(os.environ.setdefault("CLOUTD_FIRST_SEED", str(random.SystemRandom().randrange(1, 10**9))))
# Seconds that anything may take that is quick when it works.  A wait ends when what it waits for is there; only what never
# comes costs so much.  How long things may take is the business of unit tests, with a clock in their hands.
PATIENCE = 180 if UNDER_SANITIZER else 90

Record = namedtuple("Record", "partition time_ms key value")


class Unavailable(Exception):
    """What a test needs cannot be had on this machine."""


def now_ms():
    return time.time_ns() // 1_000_000


def seeds(variable, rounds):
    """Of random tests: the one that the environment's @variable names, or those of @rounds new ones."""
    return [int(os.environ[variable])] if variable in os.environ else [FIRST_SEED + i for i in range(rounds)]


def wait_for(condition, seconds=PATIENCE, what="the condition", every=0.05):
    """The first true value of condition(), or an AssertionError."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(every)


def own_ports():
    """A hundred ports in turn, which no other process of these tests hands out while this one lasts: each holds a lock
    on its hundred.  Below the ephemeral range, so that no client is given one before the server takes it."""
    for begin in range(10_000, 20_000, 100):
        try:
            lock = (Path(tempfile.gettempdir()) / f"cloutd-tests-ports-{begin}").open("w")
        except OSError:  # of another user
            continue
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock, itertools.cycle(range(begin, begin + 100))
        lock.close()
    raise Unavailable("no free ports: all are held by other runs of these tests")


def free_port():
    if free_port.own is None:
        free_port.own = own_ports()
    for port in itertools.islice(free_port.own[1], 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable("no free port")


free_port.own = None


# ---- Kafka ----


def _escape(value):
    if value is None:
        return b"\\N"
    for byte, escaped in ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\0", b"\\0")):
        if byte in value:
            value = value.replace(byte, escaped)
    return value


def _unescape(field):
    if field == b"\\N":
        return None
    meaning = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"0": b"\0", b"\\": b"\\"}
    return re.sub(rb"\\(.)", lambda match: meaning[match[1]], field)


def build_topic_tool(folder):
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "rdkafka"], check=True, capture_output=True, text=True)
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", folder / "topic",
                    ROOT / "tests/support/topic.c", *flags.stdout.split()], check=True)
    return folder / "topic"


class CA:
    """A private one, with the certificates that it signs: each a file NAME.pem with key and certificate in @folder."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.file = folder / "ca.pem"
        self._openssl("req", "-x509", *self.NEW_KEY, "-keyout", folder / "ca.key", "-out", self.file, "-days", "30",
                      "-subj", "/CN=cloutd's tests")

    NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    @staticmethod
    def _openssl(*command):
        subprocess.run(["openssl", *command], check=True, capture_output=True)

    def issue(self, name, *names, days=30):
        """A certificate for @names ("DNS:localhost", "IP:127.0.0.1"); with @days=-1 one that has expired."""
        key, request, cert, both = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt", "pem"))
        self._openssl("req", *self.NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}",
                      *(["-addext", "subjectAltName=" + ",".join(names)] if names else []))
        self._openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key", "-out", cert,
                      "-days", str(days), "-copy_extensions", "copy")
        both.write_bytes(key.read_bytes() + cert.read_bytes())
        return both


class Kafka:
    """A broker; for localhost also with TLS and SASL, where a @ca says so."""

    PASSWORD = "kafka-password-that-no-log-shows"

    def __init__(self, folder, ca=None, version=None):
        self.folder = folder
        self.environment = {**os.environ, **({"CLOUTD_KAFKA_VERSION": version} if version else {})}
        folder.mkdir()
        self.tool = build_topic_tool(folder)
        if ca is not None:
            (folder / "kafka").mkdir()
            (folder / "kafka" / "password").write_text(self.PASSWORD)
            (folder / "kafka" / "server.pem").write_bytes(ca.issue("kafka", "DNS:localhost").read_bytes())
        self.start()
        self.brokers = (folder / "kafka" / "brokers").read_text().strip()
        self.secure_brokers = (folder / "kafka" / "secure-brokers").read_text().strip() if ca is not None else None

    def _shell(self, *command):
        # kafka.sh says on stderr what is wrong; the broker that it leaves running must not hold our pipes.
        with open(self.folder / "kafka.sh.log", "ab") as log:
            return subprocess.run(["bash", "-c", '. "$0" && "$@"', ROOT / "tests/support/kafka.sh", *command],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                                  check=False).returncode == 0

    def start(self):
        if not self._shell("kafka_fetch"):
            # The last line says what to do.  Control characters would spoil the report of the run.
            said = (self.folder / "kafka.sh.log").read_text().splitlines()[-1]
            raise Unavailable("NO REAL KAFKA: " + "".join(filter(str.isprintable, said)))
        if not self._shell("kafka_start", self.folder / "kafka"):
            raise RuntimeError((self.folder / "kafka.sh.log").read_text()[-2000:])

    def stop(self, sig="TERM"):
        self._shell("kafka_stop", self.folder / "kafka", sig)

    def _topic(self, command, topic, *more, **options):
        done = subprocess.run([self.tool, self.brokers, command, topic, *map(str, more)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False, **options)
        assert done.returncode == 0, done.stderr.decode()
        return [line.split(b"\t") for line in done.stdout.splitlines()]

    def create(self, topic, partitions, *properties):
        self._topic("create", topic, partitions, *properties)

    def grow(self, topic, partitions):
        self._topic("grow", topic, partitions)

    def delete(self, topic):
        self._topic("delete", topic)

    def cut(self, topic, partition, offset):
        """Delete what lies before @offset."""
        self._topic("cut", topic, partition, offset)

    def write(self, topic, records, transaction=None):
        """In a @transaction that ends with commit or abort."""
        lines = [b"%d\t%d\t%b\t%b" % (record.partition, record.time_ms, _escape(record.key), _escape(record.value))
                 for record in records]
        self._topic(*(["transact", topic, transaction] if transaction else ["write", topic]),
                    input=b"\n".join(lines) + b"\n" if lines else b"")

    def read(self, topic):
        """[(partition, offset, time_ms, key, value, {header: value})]"""
        return [(int(fields[0]), int(fields[1]), int(fields[2]), _unescape(fields[3]), _unescape(fields[4]),
                 {header.split(b"=", 1)[0].decode(): _unescape(header.split(b"=", 1)[1]) for header in fields[5:]})
                for fields in self._topic("read", topic)]

    def ends(self, topic):
        return {int(partition): int(end) for partition, _, end in self._topic("ends", topic)}

    def committed(self, topic, group):
        return {int(partition): int(offset) for partition, offset in self._topic("committed", topic, group)}


# ---- Redis ----


def redis_server_program(folder):
    """redis-tools has the server too, under the name redis-check-rdb: a link in @folder gives it the right one."""
    program = shutil.which("redis-server")
    if program is not None:
        return program
    program = shutil.which("redis-check-rdb")
    if program is None:
        raise Unavailable("no redis-server")
    link = folder / "redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return link


class Redis:
    """A redis-server of its own; nothing is saved unless a test asks for it."""

    def __init__(self, folder, *options, password=None):
        self.folder, self.password = folder, password
        self.options = [*options, *(["--requirepass", password] if password else [])]
        folder.mkdir(parents=True)
        self.socket = folder / "redis.sock"
        self.process = None
        self.start()

    def start(self, *more):
        program = redis_server_program(self.folder)
        with open(self.folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                [program, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "",
                 "--appendonly", "no", "--maxmemory-policy", "noeviction", *self.options, *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                restore_signals=False)  # SIGXFSZ stays ignored: a file that may not grow is an error, not the end
        self.client = redis.Redis(unix_socket_path=str(self.socket), password=self.password)
        wait_for(self._answers, what="redis-server answers")

    def _answers(self):
        with contextlib.suppress(redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
            return self.client.ping()
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.client.close()

    def restart_empty(self):
        self.kill()
        (self.folder / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def restart_with_data(self):
        """Nothing is written between what is saved and the end."""
        self.client.shutdown(save=True)
        self.process.wait(PATIENCE)
        self.client.close()
        self.start()

    def dump(self):
        """Every byte that is stored, as one string: for asking whether a name is anywhere in it."""
        parts = []
        for key in self.client.scan_iter(count=1000):
            kind = self.client.type(key)
            value = {b"string": self.client.get, b"hash": self.client.hgetall, b"set": self.client.smembers,
                     b"zset": lambda k: self.client.zrange(k, 0, -1)}[kind](key)
            parts += [key, value if isinstance(value, bytes) else
                      b"\n".join(b"%b=%b" % pair for pair in value.items()) if isinstance(value, dict) else
                      b"\n".join(value)]
        return b"\n".join(parts)


# ---- cloutd ----


def _yaml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value) if isinstance(value, int) else json.dumps(str(value))


def parse_metrics(text):
    """{name or name{labels}: value}"""
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


RESULTS = ("scored", "unscored", "self", "late", "duplicate", "opted_out", "control", "rejected")


class Daemon:
    """One cloutd process."""

    count = 0

    def __init__(self, config, folder, *options):
        Daemon.count += 1
        self.name = f"cloutd-{Daemon.count}"
        self.log_path = folder / (self.name + ".log")
        self.http = config["http"]
        config_path = folder / (self.name + ".yaml")
        config_path.write_text("".join(f"{name}: {_yaml(value)}\n" for name, value in config.items()))
        self._log = open(self.log_path, "wb")  # noqa: SIM115  closed by finish()
        self.process = subprocess.Popen([BUILD / "cloutd", "--config", config_path, *options],
                                        stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            if kind is None:
                assert self.terminate() == 0, self.log_tail()
            else:
                self.kill()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_tail(self):
        return f"--- {self.log_path}\n{self.log()[-3000:]}"

    def wait(self, seconds=PATIENCE):
        """The exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s\n{self.log_tail()}") from None
        self._log.close()
        assert not re.search(r"Sanitizer|runtime error", self.log()), self.log_tail()
        return status

    def terminate(self, seconds=PATIENCE):
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._log.close()

    def get(self, path, seconds=5):
        """(status, text); (0, reason) while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self):
        status, text = self.get("/metrics", PATIENCE)
        assert status == 200, text
        return parse_metrics(text)

    def wait_ready(self, ready=True, seconds=PATIENCE):
        want = 200 if ready else 503

        def answers():
            assert self.process.poll() is None, self.log_tail()
            return self.get("/readyz")[0] == want

        wait_for(answers, seconds, f"{self.name}: /readyz is {want}")

    def books(self):
        """Lines by result, replayed included."""
        metrics = self.metrics()
        books = {result: int(metrics[f'cloutd_events_total{{result="{result}"}}']) for result in RESULTS}
        books["replayed"] = int(metrics["cloutd_events_replayed_total"])
        return books

    def memory_kib(self, what):
        """VmRSS, or VmHWM: the most there was."""
        return int(re.search(rf"^{what}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)[1])

    def had_partitions(self):
        return 'msg="partitions assigned"' in self.log()

    def last_words(self):
        """The numbers of the log line that a stopped daemon leaves."""
        line = next((line for line in self.log().splitlines() if " msg=stopped " in line), None)
        assert line is not None, self.log_tail()
        return {name: int(value) for name, value in re.findall(r"\b(\w+)=(\d+)\b", line)}

    def last_books(self):
        """The same as books(), from there."""
        said = self.last_words()
        return {name: said.get(name, 0) for name in (*RESULTS, "replayed")}


def parts_of(fields):
    """From how many partitions the account with this hash is fed."""
    return sum(name.startswith(b"_s") and name != b"_src" for name in fields)


# ---- a world of its own for each test ----


class World:
    count = 0

    def __init__(self, kafka, folder, *, policy=KRED, windows=None, headline=None, clock="record", partitions=3,
                 boards=1000, skew_ms=300_000, redis_options=(), redis_password=None, **config):
        World.count += 1
        self.kafka, self.folder, self.policy, self.clock = kafka, folder, policy, clock
        self.windows = WINDOWS if windows is None else windows
        self.headline = headline or (self.windows[1].name if len(self.windows) > 1 else
                                     self.windows[0].name if self.windows else "all")
        self.boards, self.partitions = boards, partitions
        self.topic = f"events-{World.count}"
        self.letters = self.topic + ".rejected"
        self.group = f"group-{World.count}"
        self.redis = Redis(folder / "redis", *redis_options, password=redis_password)
        self.prefix = "t:"
        self.oracle = Oracle(policy, self.windows, self.headline, skew_ms,
                             config.get("optout_as_actor", True))
        self.daemons = []
        self.ends = dict.fromkeys(range(partitions), 0)
        (folder / "salt").write_text(SALT)
        # A killed member must leave the group within the test's patience, not after 45 s.
        (folder / "kafka.properties").write_text("session.timeout.ms=2000\nheartbeat.interval.ms=400\n")
        self.config = {
            "kafka": {"brokers": kafka.brokers, "topic": self.topic, "group": self.group,
                      "dead_letter_topic": self.letters, "properties_file": "kafka.properties"},
            "redis": {"address": f"unix:{self.redis.socket}", "prefix": self.prefix},
            "policy": "policy.yaml",
            "windows": [{"length": window.name, "bucket": f"{window.bucket_ms}ms"} for window in self.windows],
            "headline": self.headline, "boards": {"size": boards}, "clock": clock,
            "max_clock_skew": f"{skew_ms}ms", "optout_salt_file": "salt", **config,
        }
        self.set_policy(policy)
        kafka.create(self.topic, partitions)
        kafka.create(self.letters, 1)

    def close(self):
        for daemon in self.daemons:
            if daemon.process.poll() is None:  # the test failed before it came to that
                daemon.kill()
        self.redis.kill()

    def set_policy(self, policy):
        self.policy = self.oracle.policy = policy
        (self.folder / "policy.yaml").write_text(policy_yaml(policy))

    # -- events

    def partition_of(self, target):
        """Any function of the target will do."""
        return xxhash.xxh64_intdigest(target, seed=99) % self.partitions

    def add_partitions(self, partitions):
        """So many altogether; from now on most targets are in another one."""
        self.kafka.grow(self.topic, partitions)
        self.ends.update(dict.fromkeys(range(self.partitions, partitions), 0))
        self.partitions = partitions

    def record(self, event, time_ms, target=None):
        """One event, or several lines of bytes for accounts of one partition, as a record."""
        if not isinstance(event, bytes):
            target = str(event["target"]).encode(errors="surrogatepass") if target is None else target
            event = json.dumps(event).encode()
        return Record(self.partition_of(target), time_ms, target, event)

    def send(self, *records):
        """The oracle first: it reads what was, not what came out of Kafka."""
        for record in records:
            self.feed(record)
        self.kafka.write(self.topic, records)

    def feed(self, record):
        self.oracle.feed(record.partition, self.ends[record.partition], record.time_ms, record.key, record.value)
        self.ends[record.partition] += 1

    # -- daemons

    def daemon(self, *options, **changes):
        config = {**self.config, "http": f"127.0.0.1:{free_port()}", **changes}
        self.daemons.append(Daemon(config, self.folder, *options))
        return self.daemons[-1]

    def ctl(self, *words):
        """cloutctl with the configuration of the last daemon: (exit status, what it printed, what it complained of)."""
        done = subprocess.run([BUILD / "cloutctl", "--config", self.daemons[-1].log_path.with_suffix(".yaml"), *words],
                              capture_output=True, text=True, check=False, timeout=120,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"})
        assert "Sanitizer" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def run_until_end(self, seconds=PATIENCE, **changes):
        """To the end of the log and out; what it said of its books is returned."""
        daemon = self.daemon("--until-end", **changes)
        assert daemon.wait(seconds) == 0, daemon.log_tail()
        self.check_positions()
        return daemon.last_books()

    def low(self):
        """Up to where Redis has everything, by partition."""
        lows = {}
        for partition in range(self.partitions):
            low = self.redis.client.hget(f"{self.prefix}own:{self.topic}:{partition}", "low")
            lows[partition] = 0 if low is None else int(low)
        return lows

    def wait_until_read(self, seconds=PATIENCE):
        def read():
            with contextlib.suppress(redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
                return self.low() == self.ends
            return False

        try:
            wait_for(read, seconds, "everything is in Redis")
        except AssertionError as error:
            raise AssertionError(f"{error}: low {self.low()}, ends {self.ends}") from None

    def check_positions(self):
        """After a graceful stop the committed offsets are exactly what Redis has."""
        committed = {partition: max(offset, 0)
                     for partition, offset in self.kafka.committed(self.topic, self.group).items()}
        low = self.low()
        assert committed == low, f"committed {committed}, low {low}"

    # -- the comparison

    def wait_until_right(self, seconds=PATIENCE):
        """check() until it finds nothing, for at most @seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.check()
            except (AssertionError, redis.exceptions.RedisError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def check(self, now=None, boards=True):
        """Everything a reader can see.  Redis may lag behind the edges of the wall clock by 2 s, behind those of the
        log's time not at all.  Without @boards, where something changes meanwhile: they are not read at one moment
        with the accounts."""
        slack_ms = 0 if self.clock == "record" else 2000
        if now is None:
            now = self.oracle.now_ms if self.clock == "record" else now_ms()
        hashes = self.read_accounts()
        wrong = self.compare(hashes, now, slack_ms) + self.compare_policy(hashes)
        if boards:
            wrong += self.compare_boards(hashes)
        # Of each kind the first few: ten thousand of one must not hide the only one of another.
        kinds = {}
        for kind, text in wrong:
            kinds.setdefault(kind, []).append(text)
        assert not wrong, "".join(f"\n{len(texts)} x {kind}\n    " + "\n    ".join(texts[:4])
                                  for kind, texts in kinds.items())

    def read_accounts(self):
        """{id: {field: value}} of everything that looks like an account."""
        head = f"{self.prefix}a:".encode()
        keys = list(self.redis.client.scan_iter(match=head + b"*", count=5000))
        hashes = {}
        for i in range(0, len(keys), 5000):
            pipeline = self.redis.client.pipeline(transaction=False)
            for key in keys[i:i + 5000]:
                pipeline.hgetall(key)
            for key, fields in zip(keys[i:i + 5000], pipeline.execute()):
                hashes[key[len(head):]] = fields
        return hashes

    def compare(self, hashes, now, slack_ms):
        """[(kind of difference, text)]; @now is from before the hashes were read."""
        wrong = []
        for id_ in hashes.keys() - self.oracle.accounts.keys():
            wrong.append(("should have no key", f"{id_} ({'left' if id_ in self.oracle.left else 'nothing was counted'}), "
                                                f"has {hashes[id_]}"))
        for id_, account in self.oracle.accounts.items():
            fields = hashes.get(id_)
            if fields is None:
                if not account.shows_nothing(now):
                    wrong.append(("has no key", f"{id_}, should have {account.fields(now)}"))
                continue
            try:
                at = int(fields[b"at"])
                shown = {name.decode(): fields[name].decode() if name == b"cells" else int(fields[name])
                         for name in fields if not name.startswith(b"_") and name not in (b"at", b"next", b"pol")}
            except (KeyError, ValueError) as error:
                wrong.append(("cannot be read", f"{id_}: {error!r}: {fields}"))
                continue
            if self.clock == "record" and at > now:
                wrong.append(("written for a later moment than now", f"{id_}: {at}, now is {now}"))
            if shown != account.fields(at):
                wrong.append(("wrong at the moment it names",
                              f"{id_}: at {at} should show {account.fields(at)}, shows {shown}"))
            elif at < now - slack_ms and shown != account.fields(now - slack_ms):
                wrong.append(("did not change on time",
                              f"{id_}: written at {at}; at {now - slack_ms}, {slack_ms} ms ago, was "
                              f"{account.fields(now - slack_ms)}, shows {shown}"))
            change = account.next_change(at)
            # (parts of several partitions may cancel each other out, each with a change of its own)
            if change is None and b"next" in fields and parts_of(fields) == 1:
                wrong.append(("no bucket is left, yet there is next", f"{id_}: {fields[b'next'].decode()}"))
            if change is not None and not (b"next" in fields and int(fields[b"next"]) <= change):
                wrong.append(("next is later than the change", f"{id_}: changes at {change}, {fields.get(b'next')}"))
        return wrong

    def compare_boards(self, hashes):
        """By what the hashes show: they were compared with the oracle."""
        wrong = []
        for name in [window.name for window in self.windows] + ["all"]:
            key = f"{self.prefix}top:{name}"
            if self.boards == 0:
                if self.redis.client.exists(key):
                    wrong.append(("board that nobody asked for", key))
                continue
            best = sorted(((int(fields.get(name.encode(), 0)), id_) for id_, fields in hashes.items()), reverse=True)
            want = [(id_, points) for points, id_ in best if points > 0][:self.boards]
            shown = [(id_, int(points))
                     for id_, points in self.redis.client.zrevrange(key, 0, self.boards - 1, withscores=True)]
            if shown[:len(want)] != want or any(points > 0 for _, points in shown[len(want):]):
                place = next((i for i, pair in enumerate(want) if i >= len(shown) or shown[i] != pair), len(want))
                wrong.append(("wrong board", f"{key}, place {place + 1}: should be {want[place:place + 3]}, is "
                                             f"{shown[place:place + 3]}"))
            strangers = set(self.redis.client.zrange(key, 0, -1)) - hashes.keys()
            if strangers:
                wrong.append(("board members without a key", f"{key}: {sorted(strangers)[:5]}"))
        return wrong

    def compare_policy(self, hashes):
        wrong = []
        version = self.redis.client.get(self.prefix + "policy")
        text = None if version is None else self.redis.client.get(f"{self.prefix}policy:{version.decode()}")
        if text is None:
            return [("policy", "is not in Redis")]
        policy = json.loads(text)
        if policy.pop("version").encode() != version:
            wrong.append(("policy", "names another version"))
        rest = json.dumps(policy, separators=(",", ":"), ensure_ascii=False).encode()
        if xxhash.xxh3_128_hexdigest(rest)[:16].encode() != version:
            wrong.append(("policy", "its version is not the hash of its text"))
        if [cell["points"] for cell in policy["cells"]] != self.policy.points:
            wrong.append(("policy", f"gives other points: {policy['cells']}"))
        wrong += [("pol is another version", f"{id_}: {fields.get(b'pol')}")
                  for id_, fields in hashes.items() if fields.get(b"pol") != version]
        return wrong

    def check_letters(self, exactly_once=True):
        """The dead-letter topic has each rejected line, with its headers; nothing else."""
        want = [(rejected.key, rejected.value,
                 {"cloutd.reason": rejected.reason, "cloutd.topic": self.topic,
                  "cloutd.partition": str(rejected.partition), "cloutd.offset": str(rejected.offset),
                  "cloutd.line": str(rejected.line)}) for rejected in self.oracle.rejected]
        letters = [(key, value or b"", {name: header.decode() for name, header in headers.items()})
                   for _, _, _, key, value, headers in self.kafka.read(self.letters)]

        def order(letter):
            headers = letter[2]
            return int(headers["cloutd.partition"]), int(headers["cloutd.offset"]), int(headers["cloutd.line"])

        want.sort(key=order)
        letters.sort(key=order)
        if not exactly_once:
            letters = [letter for i, letter in enumerate(letters) if i == 0 or letters[i - 1] != letter]
        assert letters == want

    def check_books(self, books, replayed=False):
        """@books of daemons that together read everything once, or (@replayed) some of it again."""
        if replayed:
            assert sum(books.values()) >= self.oracle.lines
            return
        assert sum(books.values()) == self.oracle.lines
        assert {name: n for name, n in books.items() if n} == dict(self.oracle.results)
