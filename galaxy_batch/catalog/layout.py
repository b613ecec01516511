"""Every path of a release.

::

    <output_uri>/release=<name>/model=<checkpoint id>/
        parts/<fingerprint>/part-000000.parquet     one per chunk, written while the job runs; see `parts` for its names
        earlier/<fingerprint>/                      predictions of `reuse_from`, until the catalog is published
        exchange/<fingerprint>/                     sorted runs, only while the catalog is being published
        catalog/
            dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet     the rows of one HEALPix pixel: a HATS catalog, see `hats`
            without_position/part-000000.parquet            the rows without a position; may be empty
            embedding/Norder=<k>/Dir=<d>/Npix=<p>.pq        their embeddings, where wanted, see `embedding_files`
            hats.properties, partition_info.csv, skymap.fits, dataset/_metadata, dataset/_common_metadata
            manifest.json                                   written last: without it there is no catalog
        tiles/headers-<what they were read from>.parquet    footprints of the survey's tiles, where cutouts are cut
        collection.properties, margin_10arcs/, index_object_id/     where wanted, see `collection`
        runs/<run id>.json                          one per run: config, times, outcome
        report/index.html                           the page of the release; can be made again from the catalog
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from galaxy_batch.catalog.manifest import FORMAT
from galaxy_batch.storage.files import join

__all__ = ["Layout", "fingerprint"]


@dataclass(frozen=True)
class Layout:
    """Every path of one release under one checkpoint."""

    output_uri: str
    release: str
    model_id: str
    fingerprint: str

    @property
    def root(self) -> str:
        """The folder of this release and this checkpoint; another checkpoint has another."""
        return join(self.output_uri, f"release={self.release}", f"model={self.model_id}")

    @property
    def catalog(self) -> str:
        """The published catalog."""
        return join(self.root, "catalog")

    @property
    def parts(self) -> str:
        """The folder of the parts."""
        return join(self.root, "parts", self.fingerprint)

    @property
    def sorted_runs(self) -> str:
        """The folder of the runs that the parts are sorted into; empty before and after publication."""
        return join(self.root, "exchange", self.fingerprint)

    def sorted_rows(self, run: int) -> str:
        """A run of rows, sorted by their position on the sky."""
        return join(self.sorted_runs, f"rows-{run:06d}.arrow")

    def sorted_hashes(self, run: int) -> str:
        """The image hashes of the same rows, sorted, and how many rows have each."""
        return join(self.sorted_runs, f"hashes-{run:06d}.arrow")

    def margin_rows(self, group: int) -> str:
        """The rows of a group of files that are in margins of other pixels, sorted by these pixels."""
        return join(self.sorted_runs, f"margin-{group:06d}.arrow")

    def sorted_ids(self, group: int) -> str:
        """The ids of a group of files, sorted."""
        return join(self.sorted_runs, f"ids-{group:06d}.arrow")

    @property
    def previous_predictions(self) -> str:
        """The folder of the predictions of `reuse_from`, in the order of the survey's manifest."""
        return join(self.root, "earlier", self.fingerprint)

    @property
    def tiles(self) -> str:
        """The folder where the headers of the survey's tiles are remembered."""
        return join(self.root, "tiles")

    @property
    def report(self) -> str:
        """The folder of the page of the release."""
        return join(self.root, "report")

    def run(self, run_id: str) -> str:
        """The record of one run."""
        return join(self.root, "runs", f"{run_id}.json")


def fingerprint(manifest_id: str, model_id: str, settings: Mapping[str, Any]) -> str:
    """16 hex digits of what a part is made from: manifest content, checkpoint, settings that change a value."""
    made_from = {"format": FORMAT, "manifest": manifest_id, "model": model_id, "settings": settings}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
