# SPDX-License-Identifier: Apache-2.0
"""monitoring/: do the alerts and the dashboard ask for what the daemon has?"""

import json
import re
import shutil
import subprocess

from fixtures import require
from harness import ROOT, wait_for
from stream import running

MONITORING = ROOT / "monitoring"
# What Prometheus adds to each sample.
ADDED = {"instance", "job"}


def expressions():
    """(where, expression, labels that its legend or text names) of all alerts and panels."""
    rules = (MONITORING / "alerts.yml").read_text()
    for alert in re.split(r"\n      - alert: ", rules)[1:]:
        expr = re.search(r"\n        expr: (?:>-\n)?(.*?)\n        (?:for|labels):", alert, re.DOTALL)[1]
        yield alert.split("\n")[0], expr, set(re.findall(r"\$labels\.(\w+)", alert))
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    for note in dashboard["annotations"]["list"]:
        yield note["name"], note["expr"], set(re.findall(r"{{(\w+)}}", note["titleFormat"]))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"], set()


def test_alerts_and_dashboard_name_what_is_exposed(new_world):
    with running(new_world, 500) as (_, daemon):
        samples = {}
        for sample in daemon.metrics():
            name, labels = re.match(r"(\w+)(?:{(.*)})?$", sample).groups()
            samples.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
    asked = 0
    for where, expr, named in expressions():
        labels = set(ADDED)
        for name, matchers in re.findall(r"\b((?:cloutd|process|up)\w*)(?:{([^}]*)})?", expr):
            if name == "up":
                continue
            assert name in samples, f"{where}: there is no metric {name}"
            for key, how, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
                if key in ADDED:
                    continue
                assert any(key in sample for sample in samples[name]), f"{where}: {name} has no label {key}"
                if how == "=":
                    assert any(sample.get(key) == value for sample in samples[name]), f'{where}: no {name}{{{key}="{value}"}}'
            labels |= set().union(*samples[name])
            asked += 1
        grouped = [set(re.findall(r"\w+", by)) for by in re.findall(r"\bby \(([^)]*)\)", expr)]
        for by in grouped:
            assert by <= labels, f"{where}: grouped by {by - labels}, which nothing has"
            assert named <= by, f"{where}: {named - by} is named and summed away"
        assert named <= labels, f"{where}: {named - labels} is named, and nothing has it"
    assert asked >= 30


def test_latency_is_measured_from_the_record_and_from_its_arrival(new_world):
    """The records of a Stream bear times of years ago, but arrive now."""
    name = "cloutd_event_to_redis_seconds"

    def books(daemon):
        """Both counts, once they have settled: Redis has the events before the daemon hears of it."""
        counts = [daemon.metrics()[f'{name}_count{{since="{since}"}}'] for since in ("record", "arrival")]
        return counts[0] > 0 and counts[0] == counts[1]

    with running(new_world, 500) as (_, daemon):
        wait_for(lambda: books(daemon), what="both are counted")
        metrics = daemon.metrics()
        n = metrics[f'{name}_count{{since="arrival"}}']
        assert metrics[f'{name}_count{{since="record"}}'] == n
        assert metrics[f'{name}_bucket{{since="arrival",le="1000"}}'] == n
        assert metrics[f'{name}_bucket{{since="record",le="1000"}}'] == 0
        assert metrics[f'{name}_sum{{since="record"}}'] > n * 365 * 86400


def test_the_alerts_fire_when_they_should():
    promtool = shutil.which("promtool")
    require(promtool, "promtool is not installed")
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        judged = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stdout + judged.stderr
