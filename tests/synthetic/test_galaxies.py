"""Simulated galaxies: votes depend on more than the kind."""

import numpy as np

from galaxy_batch.synthetic.galaxies import draw_galaxy


def test_weak_and_blurred_features_get_fewer_votes() -> None:
    galaxies = [draw_galaxy(index, 5) for index in range(2000)]
    arms = [galaxy for galaxy in galaxies if galaxy.kind in ("spiral", "barred_spiral")]
    strength = np.array([galaxy.feature_strength for galaxy in arms])
    resolution = np.array([galaxy.half_light_radius_arcsec / galaxy.seeing_arcsec for galaxy in arms])
    seen = np.array([galaxy.featured_probability for galaxy in arms])
    assert seen[strength > 0.8].mean() > seen[strength < 0.2].mean() + 0.3
    assert seen[resolution > 4].mean() > seen[resolution < 2].mean() + 0.1
