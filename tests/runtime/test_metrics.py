import logging
import subprocess
import sys
from importlib.util import find_spec

import pytest

from galaxy_batch.runtime.metrics import RunMetrics
from galaxy_batch.runtime.progress import Progress
from tests.support.repository import REPOSITORY

SCRAPE = """
import re, socket, time, urllib.request
import ray
from galaxy_batch.runtime.metrics import RunMetrics
from galaxy_batch.runtime.progress import Progress

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ray.init(num_cpus=1, include_dashboard=False, _metrics_export_port=port)
progress = Progress(total=1000, done=100, every_s=60)
progress.add(20, failed=3, flagged=7)
progress.add(30, failed=0, flagged=0)
RunMetrics("dr17").update(progress)
wanted = {"galaxies": 1000, "galaxies_done": 150, "galaxies_failed": 3, "galaxies_flagged": 7}
for _ in range(60):
    time.sleep(1)
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    lines = re.findall(r"^ray_galaxy_batch_(\\w+)\\{([^}]*)\\} (\\S+)$", page, re.M)
    exported = {name: float(value) for name, tags, value in lines if 'release="dr17"' in tags}
    if wanted.items() <= exported.items():
        break
else:
    raise SystemExit(f"not exported: {exported}")
assert exported["galaxies_per_second"] > 0 and exported["seconds_left"] > 0, exported
"""


def test_gauges_without_an_exporter_have_no_effect(ray_started: None, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(total=10, done=0, every_s=60)
    RunMetrics("dr17").update(progress)  # nothing is done yet: the time left is unknown
    progress.add(10, 0, 0)
    RunMetrics("dr17").update(progress)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_prometheus_sees_the_run() -> None:
    if find_spec("prometheus_client") is None:
        pytest.skip("ray[default] is not installed: Ray's metrics are not exported")
    subprocess.run([sys.executable, "-c", SCRAPE], cwd=REPOSITORY, check=True, timeout=180)
