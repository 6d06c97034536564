# SPDX-License-Identifier: Apache-2.0
"""Kafka and Redis as they are elsewhere: behind TLS, passwords and rights; out of reach, or not who they say they are.

Whatever is wrong is said in one sentence, which names the address and the setting; no log ever shows a secret."""

import contextlib
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

from harness import BUILD, CA, PATIENCE, ROOT, Kafka, Unavailable, World, free_port, wait_for
from stream import Stream
from test_partitions import Scattered

T0 = 1_718_000_000_000
REDIS_PASSWORD = "redis-password-that-no-log-shows"
SECRETS = (REDIS_PASSWORD, Kafka.PASSWORD, "another-password")


def rights():
    """The words of the ACL line that docs/running.md shows."""
    line = re.search(r"^ +(ACL SETUSER cloutd .*)$", (ROOT / "docs/running.md").read_text(), re.MULTILINE)[1]
    return line.replace(">PASSWORD", ">" + REDIS_PASSWORD).replace("~clout:", "~t:").split()


class Secured(World):
    """A world whose Redis wants TLS, a password and (@mutual) a certificate, whose Kafka wants TLS and a password."""

    def __init__(self, kafka, folder, ca, *, mutual=False, names=("DNS:localhost",), days=30, **options):
        self.ca, self.tls_port = ca, free_port()
        self.cert = folder / "redis.pem"
        self.present(names, days)
        super().__init__(kafka, folder, redis_options=(
            "--bind", "127.0.0.1", "--tls-port", str(self.tls_port), "--tls-cert-file",
            self.cert, "--tls-key-file", self.cert, "--tls-ca-cert-file", ca.file, "--tls-auth-clients",
            "yes" if mutual else "no"), **options)
        self.grant()
        self.password = folder / "password"
        self.password.write_text(REDIS_PASSWORD + "\n")
        self.trusted = folder / "redis-ca.pem"
        self.trusted.write_bytes(ca.file.read_bytes())
        self.config["redis"] = {"address": f"rediss://localhost:{self.tls_port}", "prefix": self.prefix,
                                "username": "cloutd", "password_file": "password", "tls_ca_file": "redis-ca.pem"}
        if mutual:
            pem = ca.issue("daemon")
            self.config["redis"] |= {"tls_cert_file": str(pem), "tls_key_file": str(pem)}
        self.config["kafka"]["brokers"] = kafka.secure_brokers
        self.kafka_security()

    def present(self, names, days=30, ca=None):
        """The certificate that Redis shows from its next start on."""
        self.cert.write_bytes((ca or self.ca).issue("redis", *names, days=days).read_bytes())

    def grant(self):
        self.redis.client.execute_command(*rights())

    def kafka_security(self, mechanism="PLAIN", password=Kafka.PASSWORD, ca=None, properties="kafka.properties"):
        (self.folder / properties).write_text(
            "session.timeout.ms=2000\nheartbeat.interval.ms=400\nbroker.address.family=v4\n"
            f"security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.username=cloutd\nsasl.password={password}\n"
            f"ssl.ca.location={(ca or self.ca).file}\n")

    def cloutctl(self, *words):
        return subprocess.run([BUILD / "cloutctl", "--config", self.daemons[-1].log_path.with_suffix(".yaml"), *words],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def secured(new_world, ca):
    worlds = []

    def make(**options):
        worlds.append(new_world(kind=lambda kafka, folder, **more: Secured(kafka, folder, ca, **more), **options))
        return worlds[-1]

    yield make
    for world in worlds:
        for daemon in world.daemons:
            assert not [secret for secret in SECRETS if secret in daemon.log()], daemon.log_tail()


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    return CA(tmp_path_factory.mktemp("other-ca") / "ca")


class Impostor:
    """A server that shows a certificate, and then has nothing to say; without one it answers as a Redis that is greeted in
    a language that it does not know."""

    def __init__(self, pem):
        self.context = pem and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if pem:
            self.context.load_cert_chain(pem)
        self.socket = socket.create_server(("127.0.0.1", free_port()))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                connection = self.socket.accept()[0]
                with contextlib.suppress(OSError), connection:
                    if self.context:
                        self.context.wrap_socket(connection, server_side=True).close()
                    else:
                        connection.recv(1)
                        connection.sendall(b"-ERR unknown command\r\n")
                        connection.recv(1 << 16)

    def close(self):
        self.socket.close()


def refusal(daemon):
    """Why it ended with 69: its one line of that weight."""
    assert daemon.wait() == 69, daemon.log_tail()
    lines = [line for line in daemon.log().splitlines() if " level=error " in line and "from=librdkafka" not in line]
    assert len(lines) == 1, daemon.log_tail()
    return lines[0]


@pytest.mark.parametrize("keyed", [pytest.param(True, marks=pytest.mark.sanitizer), False])
def test_tls_and_passwords_on_both_sides_and_the_rights_that_the_manual_names(secured, keyed):
    world = secured(mutual=True, keyed=keyed)
    # Where an account has several parts, the function in Redis writes it.
    world.send(*(Stream if keyed else Scattered)(71, world).records(3_000))
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.wait_until_read()
        for words in (("top",), ("lag",), ("policy",)):
            done = world.cloutctl(*words)
            assert (done.returncode, done.stderr) == (0, ""), words
    world.run_until_end()
    world.check()
    world.check_letters()
    assert "errorstat_NOPERM" not in world.redis.client.info("errorstats")


@pytest.mark.parametrize("what, named", [
    ("password", "cannot log in to Redis at {address}: Redis: AUTH: WRONGPASS"),
    ("CA", "{address}: its certificate is not trusted .*: redis.tls_ca_file must hold the CA"),
    ("expired", "{address}: certificate has expired: have a new one made"),
    ("name", "{address}: its certificate is for another name: set redis.tls_server_name"),
    ("no certificate", "{address}: .*the server ends the TLS handshake .* redis.tls_cert_file and redis.tls_key_file"),
    ("no TLS", "{address}: no TLS is spoken there: redis.address must name Redis's tls-port"),
])
def test_a_redis_that_is_not_trusted_or_does_not_trust_us_is_69(secured, other_ca, what, named):
    world = secured(mutual=what == "no certificate", days=-1 if what == "expired" else 30,
                    names=("DNS:elsewhere.example",) if what == "name" else ("DNS:localhost",))
    config = world.config["redis"]
    if what == "password":
        world.password.write_text("another-password\n")
    elif what == "CA":
        config["tls_ca_file"] = str(other_ca.file)
    elif what == "no certificate":
        del config["tls_cert_file"], config["tls_key_file"]
    impostor = Impostor(None)
    with contextlib.closing(impostor):
        if what == "no TLS":
            config["address"] = f"rediss://localhost:{impostor.port}"
        named = named.format(address=re.escape(config["address"]))
        daemon = world.daemon()
        assert re.search(named, refusal(daemon)), daemon.log_tail()
        asked = world.cloutctl("get", "bob")
    assert asked.returncode == 69 and re.search(named, asked.stderr), asked.stderr
    if what == "name":
        config["tls_server_name"] = "elsewhere.example"
        world.run_until_end()


def test_a_kafka_that_is_not_trusted_or_does_not_trust_us_is_69(secured, ca, other_ca):
    world = secured()
    kafka = world.config["kafka"]
    impostor = Impostor(ca.issue("impostor", "DNS:localhost", days=-1))
    cases = [
        # brokers, password, CA, why
        (kafka["brokers"], "another-password", ca, "SASL authentication error"),
        (kafka["brokers"], Kafka.PASSWORD, other_ca, "certificate verify failed"),
        (f"localhost:{impostor.port}", Kafka.PASSWORD, ca, "certificate verify failed"),  # expired
        (kafka["brokers"].replace("localhost", "127.0.0.1"), Kafka.PASSWORD, ca, "certificate verify failed"),
    ]
    with contextlib.closing(impostor):
        daemons = []
        for i, (brokers, password, trusted, why) in enumerate(cases):
            properties = f"kafka-{i}.properties"
            world.kafka_security(password=password, ca=trusted, properties=properties)
            named = f"Kafka at {brokers} refused us: .*{why}.*; see kafka.properties_file {world.folder}/{properties}"
            daemons.append((world.daemon(kafka=kafka | {"brokers": brokers, "properties_file": properties}), named))
        for daemon, named in daemons:
            line = refusal(daemon)
            assert re.search(named, line), line


def test_scram_where_librdkafka_and_the_broker_understand_each_other(secured):
    world = secured()
    world.kafka_security("SCRAM-SHA-512")
    world.send(*Stream(72, world).records(500))
    daemon = world.daemon("--until-end")
    version = tuple(map(int, subprocess.run(["pkg-config", "--modversion", "rdkafka"], capture_output=True, text=True,
                                            check=True).stdout.split(".")[:3]))
    if version < (2, 6, 1):
        assert "this librdkafka cannot log in by SCRAM" in refusal(daemon)
    else:
        assert daemon.wait() == 0, daemon.log_tail()
        world.check()


def test_scram_to_a_broker_that_takes_it_from_every_librdkafka(secured, ca, tmp_path):
    try:
        kafka = Kafka(tmp_path / "kafka-3.9.1", ca, version="3.9.1")
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        world = secured(kafka=kafka)
        world.kafka_security("SCRAM-SHA-512")
        world.send(*Stream(73, world).records(500))
        world.run_until_end()
        world.check()
        world.kafka_security("SCRAM-SHA-512", password="another-password")
        assert "SASL authentication error" in refusal(world.daemon())
    finally:
        kafka.stop()


def test_what_cannot_be_reached_is_waited_for_and_named(secured, monkeypatch):
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    world = secured()
    kafka, redis = world.config["kafka"], world.config["redis"]
    nowhere = free_port()
    cases = [
        ({"kafka": kafka | {"brokers": f"localhost:{nowhere}"}}, rf"cannot reach Kafka.*localhost:{nowhere}.*refused"),
        ({"kafka": kafka | {"brokers": "kafka.invalid:9092"}}, r"cannot reach Kafka.*kafka.invalid:9092.*resolve"),
        ({"redis": redis | {"address": f"rediss://localhost:{nowhere}"}},
         rf"waiting for Redis.*rediss://localhost:{nowhere}: Connection refused"),
        ({"redis": redis | {"address": "rediss://redis.invalid"}},
         r"waiting for Redis.*rediss://redis.invalid:6379: the name has no address: "),
    ]
    began = time.monotonic()
    daemons = [(world.daemon(**changes), said) for changes, said in cases]
    for daemon, said in daemons:
        wait_for(lambda: re.search(said, daemon.log()), what=f"the log says {said}")
        daemon.wait_ready(False)
        assert daemon.get("/healthz", PATIENCE)[0] == 200
    for daemon, _ in daemons:
        assert daemon.terminate() == 0, daemon.log_tail()
        # librdkafka has something to say as well
        assert len(daemon.log().splitlines()) <= 10 + 3 * (time.monotonic() - began), daemon.log_tail()


def test_a_certificate_that_expires_under_a_running_daemon_is_waited_out(secured):
    world = secured()
    with world.daemon() as daemon:
        daemon.wait_ready()
        for days in (-1, 30):
            world.redis.kill()
            world.present(("DNS:localhost",), days)
            world.redis.start()
            world.grant()
            daemon.wait_ready(days > 0)
            wait_for(lambda: "certificate has expired: have a new one made" in daemon.log(), what="the log says why")
        world.send(world.record({"type": "retweet", "actor": "a", "target": "bob"}, T0))
        world.wait_until_read()
    world.check()


def test_secrets_that_are_changed_are_taken_up_by_a_reload(secured, other_ca):
    world = secured()
    with world.daemon() as daemon:
        daemon.wait_ready()
        world.present(("DNS:localhost",), ca=other_ca)
        world.redis.kill()
        world.redis.start()
        world.grant()
        world.redis.client.execute_command("ACL", "SETUSER", "cloutd", "resetpass", ">another-password")
        daemon.wait_ready(False)
        wait_for(lambda: "redis.tls_ca_file must hold the CA" in daemon.log(), what="the log says that nobody trusts it")
        world.trusted.write_bytes(other_ca.file.read_bytes())
        daemon.process.send_signal(1)
        wait_for(lambda: "changed=redis.tls_ca_file" in daemon.log(), what="it is reloaded")
        wait_for(lambda: "WRONGPASS" in daemon.log(), what="the log says that the password is another one")
        world.password.write_text("another-password\n")
        daemon.process.send_signal(1)
        wait_for(lambda: "changed=redis.password_file" in daemon.log(), what="it is reloaded")
        daemon.wait_ready()
        world.send(world.record({"type": "retweet", "actor": "a", "target": "bob"}, T0))
        world.wait_until_read()
    world.check()
