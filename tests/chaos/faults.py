# SPDX-License-Identifier: Apache-2.0
"""faults.py - everything that is broken on purpose.

Each fault is a function of the world and of a random generator: it breaks something, waits a random while, and mends it
before it returns.  @fault names what it lays hands on (PARTIES): faults of different parties may run at the same time,
those of one party follow each other.  `hits` is a counter of the daemons or of the wire that cannot stay at zero, so that a
test sees that the fault was there; @again: something may be read twice because of it; @needs: options of the world."""

import contextlib
import os
import resource
import shutil
import signal
import threading
import time
from collections import namedtuple

import redis

from harness import free_port, wait_for
from proxy import DOWN, UP, Proxy

Fault = namedtuple("Fault", "name party run hits again needs")
FAULTS = {}
PARTIES = ("daemons", "wire", "redis", "kafka")


def fault(party, hits=None, again=True, needs=None):
    def register(run):
        assert party in PARTIES
        FAULTS[run.__name__] = Fault(run.__name__, party, run, hits, again, needs or {})
        return run

    return register


REBALANCES, ERRORS = "cloutd_rebalances_total", "cloutd_redis_errors_total"
ROLLBACKS = "cloutd_redis_rollbacks_total"


# ---- daemons ----


def somebody(world, rnd):
    members = world.crew.working()
    return rnd.choice(members) if members else None


@fault("daemons")
def daemon_is_killed(world, rnd):
    for _ in range(rnd.choice([1, 1, 2, 3])):
        member = somebody(world, rnd)
        if member is not None:
            with member.lock:
                world.crew.kill(member)
                time.sleep(rnd.choice([0, rnd.uniform(0, 1)]))
                world.crew.start(member)
            time.sleep(rnd.uniform(0.2, 1.2))


@fault("daemons")
def all_daemons_are_killed(world, rnd):
    members = world.crew.working()
    for member in members:
        world.crew.kill(member)
    time.sleep(rnd.uniform(0, 1))
    for member in members:
        world.crew.start(member)


@fault("daemons", REBALANCES)
def daemon_is_frozen_until_others_have_its_work(world, rnd):
    member = somebody(world, rnd)
    if member is not None:
        world.crew.freeze(member, rnd.uniform(2.5, 4.5))


@fault("daemons", again=False)
def daemon_is_stopped_and_started(world, rnd):
    member = somebody(world, rnd)
    if member is not None:
        with member.lock:
            world.crew.stop(member)
            time.sleep(rnd.choice([0, rnd.uniform(0, 1)]))
            world.crew.start(member)


@fault("daemons", REBALANCES)
def daemon_is_added_and_one_removed(world, rnd):
    if len(world.crew.working()) < 3:
        world.crew.hire()
    time.sleep(rnd.uniform(0.5, 3))
    members = world.crew.working()
    if len(members) > 1:
        world.crew.stop(rnd.choice(members))


# ---- the wire between daemons and Redis ----


@fault("wire", again=False)
def connections_are_cut(world, rnd):
    for _ in range(rnd.randrange(1, 8)):
        world.wire.cut()
        time.sleep(rnd.uniform(0, 0.3))


@fault("wire", "cut up")
def requests_are_cut_in_the_middle(world, rnd):
    for _ in range(rnd.randrange(2, 8)):
        world.wire.cut_after(UP, rnd.randrange(1, rnd.choice([300, 5000, 30_000])))
        time.sleep(rnd.uniform(0.1, 0.4))


@fault("wire", "cut down")
def replies_are_cut_in_the_middle(world, rnd):
    for _ in range(rnd.randrange(2, 8)):
        world.wire.cut_after(DOWN, rnd.randrange(0, rnd.choice([50, 1000, 10_000])))
        time.sleep(rnd.uniform(0.1, 0.4))


@fault("wire", "robbed bytes")
def replies_are_lost(world, rnd):
    world.wire.rob(DOWN)
    time.sleep(rnd.uniform(0.3, 1.5))
    world.wire.cut()


@fault("wire", "robbed bytes")
def requests_are_lost(world, rnd):
    world.wire.rob(UP)
    time.sleep(rnd.uniform(0.3, 1.5))
    world.wire.cut()


@fault("wire", "late bytes")
def requests_come_late(world, rnd):
    """Bytes of a dead connection that Redis reads when others were written already."""
    for _ in range(rnd.randrange(1, 5)):
        for _ in range(20):  # the own key is looked at once a second, if somebody is there
            world.wire.hold_requests()
            time.sleep(0.1)
            if world.wire.has_held():
                break
        world.wire.cut_late(rnd.uniform(0.05, 0.6))


@fault("wire", again=False)
def wire_stalls(world, rnd):
    world.wire.stall(rnd.choice([UP, DOWN]))
    time.sleep(rnd.uniform(0.2, 3))
    world.wire.resume()


@fault("wire", again=False)
def wire_is_slow(world, rnd):
    for way in (UP, DOWN):
        world.wire.slow(way, rnd.uniform(0.002, 0.1))
    time.sleep(rnd.uniform(1, 2.5))
    for way in (UP, DOWN):
        world.wire.slow(way, 0)


@fault("wire")
def wire_stalls_and_is_cut(world, rnd):
    world.wire.stall(rnd.choice([UP, DOWN]))
    time.sleep(rnd.uniform(0.2, 2))
    world.wire.cut()
    world.wire.resume()


# ---- Redis ----


@fault("redis", ERRORS)
def redis_kills_its_clients(world, rnd):
    for _ in range(rnd.randrange(1, 6)):
        with contextlib.suppress(redis.exceptions.RedisError):
            world.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(rnd.uniform(0, 0.4))


@fault("redis", again=False)
def redis_pauses(world, rnd):
    world.redis.client.execute_command("CLIENT", "PAUSE", rnd.randrange(200, 2500), rnd.choice(["ALL", "WRITE"]))


@fault("redis", again=False)
def redis_sleeps(world, rnd):
    world.redis.client.execute_command("DEBUG", "SLEEP", f"{rnd.uniform(0.2, 2.5):.3f}")


@fault("redis", ROLLBACKS)
def redis_comes_back_from_an_older_snapshot(world, rnd):
    world.redis.client.save()
    time.sleep(rnd.uniform(0.2, 2.5))
    world.redis.kill()
    time.sleep(rnd.choice([0, rnd.uniform(0, 1)]))
    world.redis.start()


@fault("redis", ROLLBACKS)
def redis_comes_back_empty(world, rnd):
    time.sleep(rnd.uniform(0, 1))
    world.redis.restart_empty()


@fault("redis", ROLLBACKS)
def redis_is_flushed(world, rnd):
    for _ in range(rnd.choice([1, 1, 2])):
        world.redis.client.flushall(asynchronous=rnd.random() < 0.5)
        time.sleep(rnd.uniform(0, 0.8))


def start_aof(server, fsync):
    """Returns the file that grows."""
    client = server.client
    shutil.rmtree(server.folder / "appendonlydir", ignore_errors=True)
    client.config_set("appendfsync", fsync)
    client.config_set("auto-aof-rewrite-percentage", "0")
    client.config_set("appendonly", "yes")

    def ready():
        info = client.info("persistence")
        assert info["aof_last_bgrewrite_status"] == "ok"
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    wait_for(ready, what="the AOF is there")
    return max((server.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


def stop_aof(server):
    server.client.config_set("appendonly", "no")


@fault("redis", ERRORS)
def redis_is_killed_and_comes_back_from_its_aof(world, rnd):
    """What it had acknowledged is all there, or (as after a loss of power) the last of it is missing, perhaps from the
    middle of a transaction."""
    server = world.redis
    grown = start_aof(server, rnd.choice(["everysec", "always"]))
    time.sleep(rnd.uniform(0.3, 2))
    server.kill()
    if rnd.random() < 0.6:
        os.truncate(grown, max(0, grown.stat().st_size - rnd.randrange(1, rnd.choice([200, 20_000]))))
    server.start("--appendonly", "yes")
    stop_aof(server)


@fault("redis", ERRORS)
def disk_of_the_aof_is_full(world, rnd):
    """The file may not grow: the same for Redis as a full disk.  With appendfsync always it ends itself then."""
    server = world.redis
    fsync = rnd.choice(["everysec", "always"])
    grown = start_aof(server, fsync)
    hard = resource.RLIM_INFINITY
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (grown.stat().st_size + rnd.randrange(3000), hard))
    time.sleep(rnd.uniform(1.2, 2.5))
    if server.process.poll() is None:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        if rnd.random() < 0.5:
            wait_for(lambda: server.client.info("persistence")["aof_last_write_status"] == "ok", what="the AOF is written")
            stop_aof(server)
            return
    # What it could not write is lost.
    server.kill()
    server.start("--appendonly", "yes")
    stop_aof(server)


@fault("redis", ERRORS)
def snapshots_fail(world, rnd):
    """MISCONF: no writes while the last snapshot failed."""
    server = world.redis
    target = server.folder / "dump.rdb"
    target.unlink(missing_ok=True)
    target.mkdir()

    def saved(status):
        info = server.client.info("persistence")
        return not info["rdb_bgsave_in_progress"] and info["rdb_last_bgsave_status"] == status

    try:
        server.client.config_set("save", "3600 1000000")
        server.client.bgsave()
        wait_for(lambda: saved("err"), what="the snapshot fails")
        time.sleep(rnd.uniform(0.6, 2.5))
    finally:
        target.rmdir()
    server.client.bgsave()
    wait_for(lambda: saved("ok"), what="the snapshot succeeds")
    server.client.config_set("save", "")


@fault("redis", ERRORS)
def redis_has_no_memory(world, rnd):
    world.redis.client.config_set("maxmemory", "100kb")
    time.sleep(rnd.uniform(0.6, 2.5))
    world.redis.client.config_set("maxmemory", "0")


@fault("redis", ERRORS)
def redis_is_readonly_for_a_while(world, rnd):
    world.redis.client.execute_command("REPLICAOF", "127.0.0.1", "1")  # nobody is there
    time.sleep(rnd.uniform(0.6, 2.5))
    world.redis.client.execute_command("REPLICAOF", "NO", "ONE")


@fault("redis", ERRORS)
def redis_is_loading(world, rnd):
    server = world.redis
    server.client.save()
    keys = max(1, server.client.dbsize())
    server.kill()
    server.start("--key-load-delay", str(int(rnd.uniform(0.5, 2) * 1_000_000 / keys)))
    server.client.config_set("key-load-delay", "0")


@fault("redis", ERRORS)
def redis_is_busy_with_a_script(world, rnd):
    server = world.redis
    server.client.config_set("busy-reply-threshold", "20")
    other = redis.Redis(unix_socket_path=str(server.socket))

    def run():
        with contextlib.suppress(redis.exceptions.RedisError):  # it is killed
            other.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(rnd.uniform(0.6, 2.5))

    def killed():
        with contextlib.suppress(redis.exceptions.ResponseError):  # NOTBUSY: not begun, or not noticed yet
            return server.client.script_kill()
        return not thread.is_alive()

    wait_for(killed, what="the script is killed")
    thread.join()
    other.close()


def listen(server):
    """At a port, which only a replica needs; returns it."""
    def listens():
        with contextlib.suppress(redis.exceptions.ResponseError):  # somebody else was faster
            port = free_port()
            return server.client.config_set("port", port) and port
        return None

    return int(server.client.config_get("port")["port"]) or wait_for(listens, what="a port")


@fault("redis", ERRORS)
def replica_that_lags_becomes_the_primary(world, rnd):
    """The old primary is killed, or goes on for a while and is then demoted: whoever still talks to it hears READONLY."""
    old = world.redis
    line = Proxy(("127.0.0.1", listen(old)))
    new = world.new_server()
    try:
        new.client.execute_command("REPLICAOF", *line.address.split(":"))
        wait_for(lambda: new.client.info("replication")["master_link_status"] == "up", what="the replica is there")
        line.stall(DOWN)
        time.sleep(rnd.uniform(0.1, 2))
        dies = rnd.random() < 0.6
        if dies:
            old.kill()
        line.cut()
        new.client.execute_command("REPLICAOF", "NO", "ONE")
    finally:
        line.close()
    if dies:
        time.sleep(rnd.uniform(0, 1))
    else:
        time.sleep(rnd.uniform(0, 0.5))
        old.client.execute_command("REPLICAOF", "127.0.0.1", listen(new))
        time.sleep(rnd.uniform(0, 1))
    world.lead_to(new)
    if rnd.random() < 0.4:
        # The address leads to the old one once more, which is a replica now.
        time.sleep(rnd.uniform(0, 1))
        if dies:
            old.start("--replicaof", f"127.0.0.1 {listen(new)}")
        world.wire.retarget(old.socket)
        time.sleep(rnd.uniform(0.2, 1))
        world.wire.retarget(new.socket)
    old.kill()


# ---- Kafka ----


@fault("kafka")
def broker_is_killed(world, rnd):
    time.sleep(rnd.uniform(0, 1))
    world.kafka.stop("KILL")
    time.sleep(rnd.choice([0, rnd.uniform(0, 2)]))
    world.kafka.start()


@fault("kafka")
def broker_is_stopped_and_started(world, rnd):
    world.kafka.stop()
    time.sleep(rnd.choice([0, rnd.uniform(0, 1)]))
    world.kafka.start()


@fault("kafka")
def broker_is_frozen(world, rnd):
    pid = int((world.kafka.folder / "kafka" / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(rnd.uniform(0.5, 4))
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("kafka", REBALANCES, needs={"leaving": 0})
def partitions_are_added(world, rnd):
    """Most keys move, and their accounts have parts in two partitions then.  Nobody leaves meanwhile: a partition obeys the
    opt-outs that it has."""
    world.add_partitions(world.partitions + rnd.randrange(1, 4))
