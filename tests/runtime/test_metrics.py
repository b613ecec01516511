import logging
import subprocess
import sys
from importlib.util import find_spec

import pytest

from galaxy_batch.runtime.metrics import Dashboard
from galaxy_batch.runtime.progress import Progress
from tests.conftest import REPOSITORY

SCRAPE = """
import re, socket, time, urllib.request
import ray
from galaxy_batch.runtime.metrics import Dashboard
from galaxy_batch.runtime.progress import Progress

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ray.init(num_cpus=1, include_dashboard=False, _metrics_export_port=port)
progress = Progress(total=1000, done=100, every_s=60)
progress.add(50, failed=3, flagged=7)
Dashboard("dr17").show(progress)
wanted = {"galaxies": 1000, "galaxies_done": 150, "galaxies_failed": 3, "galaxies_flagged": 7}
for _ in range(60):
    time.sleep(1)
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    lines = re.findall(r"^ray_galaxy_batch_(\\w+)\\{([^}]*)\\} (\\S+)$", page, re.M)
    found = {name: float(value) for name, tags, value in lines if 'release="dr17"' in tags}
    if wanted.items() <= found.items():
        break
else:
    raise SystemExit(f"not exported: {found}")
assert found["galaxies_per_second"] > 0 and found["seconds_left"] > 0, found
"""


def test_gauges_do_no_harm_where_nobody_exports_them(ray_started: None, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(total=10, done=0, every_s=60)
    Dashboard("dr17").show(progress)  # nothing is done yet: infinite time left
    progress.add(10, 0, 0)
    Dashboard("dr17").show(progress)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_prometheus_sees_the_run() -> None:
    if find_spec("prometheus_client") is None:
        pytest.skip("ray[default] is not installed: nobody exports Ray's metrics")
    subprocess.run([sys.executable, "-c", SCRAPE], cwd=REPOSITORY, check=True, timeout=180)
