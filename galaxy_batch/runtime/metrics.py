"""A run's progress as Ray metrics, which Ray exports to Prometheus."""

from ray.util.metrics import Gauge

from galaxy_batch.runtime.progress import Progress

__all__ = ["RunMetrics"]

_TAG = "release"


class RunMetrics:
    """Gauges of one run, each with the tag `release`; Ray prefixes their names with `ray_`.

    Without Ray's `default` extra nothing exports them, and they have no effect.

    Args:
        release: name of the survey release.
    """

    def __init__(self, release: str) -> None:
        self.tags = {_TAG: release}
        self.gauges = {
            name: Gauge(f"galaxy_batch_{name}", description, tag_keys=(_TAG,))
            for name, description in (
                ("galaxies", "Galaxies of the whole manifest."),
                ("galaxies_done", "Galaxies with a finished part, of this run and of previous ones."),
                ("galaxies_failed", "Galaxies of this run without a class."),
                ("galaxies_flagged", "Galaxies of this run that need review."),
                ("galaxies_per_second", "Rate of this run since all workers have started."),
                ("seconds_left", "Estimated time to the end of the run."),
            )
        }

    def update(self, progress: Progress) -> None:
        """Set all gauges to the state of the run."""
        values = {
            "galaxies": progress.total,
            "galaxies_done": progress.done,
            "galaxies_failed": progress.failed,
            "galaxies_flagged": progress.flagged,
            "galaxies_per_second": progress.rate,
            "seconds_left": progress.seconds_left,
        }
        for name, gauge in self.gauges.items():
            if (value := values[name]) is not None:
                gauge.set(value, self.tags)
