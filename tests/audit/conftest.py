"""A catalog of simulated rows whose true classes are known, and a queue from it."""

import numpy as np
import pytest

from tests.support.reviews import KnownCatalog
from tests.support.skies import publish_rows, read_catalog, sky_rows


@pytest.fixture(scope="session")
def known_catalog(tmp_path_factory: pytest.TempPathFactory) -> KnownCatalog:
    catalog = publish_rows(tmp_path_factory.mktemp("audited"), sky_rows(3000, seed=5, without_position=0.05))
    rows = read_catalog(catalog).to_pandas()
    rows = rows[rows["predicted_class"].notna()].reset_index(drop=True)
    rng = np.random.default_rng(0)
    verdicts = np.where(rng.random(len(rows)) < rows["p_smooth"], "smooth", "featured").astype(object)
    verdicts[rng.random(len(rows)) < 0.04] = "artifact"
    return KnownCatalog(catalog, rows, dict(zip(rows["object_id"].tolist(), verdicts.tolist(), strict=True)))
