"""What dashboards show of a run: its progress as Ray metrics, which Ray exports to Prometheus."""

from ray.util.metrics import Gauge

from galaxy_batch.runtime.progress import Progress

__all__ = ["Dashboard"]

_TAG = "release"


class Dashboard:
    """Gauges of one run, each with the tag `release`; Ray adds `ray_` to their names.

    A Ray without its `default` extra has nobody who exports them; then they do nothing.

    Args:
        release: name of the survey release.
    """

    def __init__(self, release: str) -> None:
        self.tags = {_TAG: release}
        self.gauges = {
            name: Gauge(f"galaxy_batch_{name}", description, tag_keys=(_TAG,))
            for name, description in (
                ("galaxies", "Galaxies of the whole manifest."),
                ("galaxies_done", "Galaxies with a finished part, of this run and of earlier ones."),
                ("galaxies_failed", "Galaxies of this run without a class."),
                ("galaxies_flagged", "Galaxies of this run that a person should look at."),
                ("galaxies_per_second", "Rate of this run since its workers are at work."),
                ("seconds_left", "Time that the rest takes at this rate."),
            )
        }

    def show(self, progress: Progress) -> None:
        """Set all gauges to where the run is."""
        values = (
            progress.total,
            progress.done,
            progress.failed,
            progress.flagged,
            progress.rate,
            progress.seconds_left,
        )
        for gauge, value in zip(self.gauges.values(), values, strict=True):
            gauge.set(value, self.tags)
