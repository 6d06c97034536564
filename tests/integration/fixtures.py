# SPDX-License-Identifier: Apache-2.0
"""fixtures.py - what tests against a real Kafka and Redis share: one Kafka for all of them, a world for each.

The conftest.py of each folder of such tests imports it."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from harness import CA, Kafka, Unavailable, World


def pytest_configure(config):
    # Asked to end: as by Ctrl-C, so that what the fixtures started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes minutes")
    config.addinivalue_line("markers", "big: 2,000,000 events; only when asked for")
    config.addinivalue_line("markers", "sanitizer: worth running under AddressSanitizer, too")


def pytest_collection_modifyitems(items):
    """What takes minutes first, so that no worker ends with it while the others have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def require(condition, why):
    if not condition:
        pytest.skip(why)


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return CA(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory, ca):
    try:
        broker = Kafka(tmp_path_factory.mktemp("session") / "kafka", ca)
    except Unavailable as error:
        pytest.skip(str(error))
    yield broker
    broker.stop()


@pytest.fixture
def new_world(kafka, tmp_path, request):
    """World(...), or another @kind of it, that is cleared away after the test; its logs are kept where the test failed."""
    worlds = []

    def make(**options):
        folder = tmp_path / f"world-{len(worlds)}"
        folder.mkdir()
        worlds.append(options.pop("kind", World)(options.pop("kafka", kafka), folder, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
    keep = os.environ.get("CLOUTD_CHECK_LOGS")
    if keep and getattr(request.node, "failed", False):
        target = Path(keep) / request.node.name.replace("/", "_")[:100]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(tmp_path, target, ignore=shutil.ignore_patterns("*.sock", "data", "dump.rdb"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True
