"""Simulated galaxies: morphological kinds and the parameters of each galaxy.

Galaxy ``index`` of survey ``seed`` has a random generator of its own, so its parameters do not depend on which other
galaxies are drawn, in which order or process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.special import expit

__all__ = ["KINDS", "PIXEL_SCALE_ARCSEC", "Galaxy", "draw_galaxy"]

PIXEL_SCALE_ARCSEC = 0.396
"""Pixel scale of the SDSS camera."""


class Kind(NamedTuple):
    """A morphological kind: its share of the survey, and ranges of uniformly distributed parameters."""

    share: float
    g_minus_r: tuple[float, float]
    axis_ratio: tuple[float, float]
    sersic_index: tuple[float, float]
    bulge_fraction: tuple[float, float]


# Colours overlap on purpose, so that only the shape distinguishes the classes.
KINDS: Mapping[str, Kind] = MappingProxyType({
    "elliptical": Kind(0.17, (0.48, 0.93), (0.55, 1.0), (1.8, 3.9), (1.0, 1.0)),
    "lenticular": Kind(0.13, (0.40, 0.88), (0.25, 1.0), (2.0, 4.0), (0.3, 0.6)),
    "smooth_disk": Kind(0.10, (0.20, 0.65), (0.35, 1.0), (0.8, 1.8), (1.0, 1.0)),
    "spiral": Kind(0.25, (0.28, 0.85), (0.35, 1.0), (1.5, 3.0), (0.03, 0.30)),
    "barred_spiral": Kind(0.16, (0.30, 0.88), (0.45, 1.0), (1.0, 2.0), (0.03, 0.15)),
    "edge_on": Kind(0.13, (0.40, 0.95), (0.11, 0.26), (1.0, 3.0), (0.05, 0.35)),
    "irregular": Kind(0.06, (0.25, 0.60), (0.40, 0.9), (1.0, 1.5), (0.0, 0.05)),
})  # fmt: skip
_SMOOTH_KINDS = ("elliptical", "lenticular", "smooth_disk")
_DRAW = 0  # random stream; rendering and survey use others


@dataclass(frozen=True)
class Galaxy:
    """Parameters of one simulated galaxy."""

    kind: str
    """One of ``KINDS``."""
    frame_side_arcsec: float
    """Side of the cutout; scales with the galaxy as in Galaxy Zoo 2, so apparent size carries no information."""
    half_light_radius_arcsec: float
    """Along the major axis."""
    axis_ratio: float
    """Minor over major axis; for a disk the cosine of its inclination."""
    position_angle_deg: float
    sersic_index: float
    """Of the whole galaxy, or of the bulge if there is a disk."""
    bulge_fraction: float
    surface_brightness: float
    """Mean surface brightness within the half-light radius, r band, mag / arcsec^2."""
    g_minus_r: float
    arms: int
    pitch_angle_deg: float
    feature_strength: float
    """Contrast of arms, bar, clumps and dust, from 0 (smooth) to 1."""
    seeing_arcsec: float
    """Full width at half maximum of the PSF."""
    featured_probability: float
    """Probability that a volunteer who sees a galaxy votes "features or disk"."""

    @property
    def true_class(self) -> str:
        """``smooth`` or ``featured``, by the kind, independent of the votes."""
        return "smooth" if self.kind in _SMOOTH_KINDS else "featured"

    @property
    def side_px(self) -> int:
        """Side of the cutout in SDSS pixels, before resampling."""
        return 2 * round(self.frame_side_arcsec / PIXEL_SCALE_ARCSEC / 2)


def draw_galaxy(index: int, seed: int) -> Galaxy:
    """Draw the parameters of galaxy ``index`` of survey ``seed``."""
    rng = np.random.default_rng((seed, index, _DRAW))
    name = str(rng.choice(list(KINDS), p=[kind.share for kind in KINDS.values()]))
    kind, smooth = KINDS[name], name in _SMOOTH_KINDS
    sersic_index, bulge_fraction = rng.uniform(*kind.sersic_index), rng.uniform(*kind.bulge_fraction)
    frame_side = float(np.clip(rng.lognormal(np.log(48.0), 0.38), 27.0, 110.0))
    # R90 / R50 grows with the Sersic index: 2.3 for an exponential disk, 3.3 for de Vaucouleurs' law.
    concentration = 2.0 + 0.32 * sersic_index if bulge_fraction == 1.0 else 2.3 + 0.7 * bulge_fraction
    galaxy = Galaxy(
        kind=name,
        frame_side_arcsec=frame_side,
        half_light_radius_arcsec=frame_side / concentration * rng.uniform(0.16, 0.22),
        axis_ratio=rng.uniform(*kind.axis_ratio),
        position_angle_deg=rng.uniform(0.0, 180.0),
        sersic_index=sersic_index,
        bulge_fraction=bulge_fraction,
        surface_brightness=rng.normal(20.4, 0.4),
        g_minus_r=rng.uniform(*kind.g_minus_r),
        arms=2 if name == "barred_spiral" else int(rng.choice([2, 2, 2, 3, 4])),
        pitch_angle_deg=rng.uniform(10.0, 32.0),
        feature_strength=0.0 if smooth else rng.beta(1.3, 0.9),
        seeing_arcsec=float(np.clip(rng.lognormal(np.log(1.32), 0.1), 1.0, 1.8)),
        featured_probability=0.0,
    )
    logit = _featured_logit(galaxy) + rng.normal(0.0, 0.4)
    return replace(galaxy, featured_probability=float(expit(logit)))


def _featured_logit(galaxy: Galaxy) -> float:
    """Log odds of a vote for "features or disk": lower for weak, blurred, faint or inclined features.

    Smooth galaxies get such votes too, the more the flatter they are, and lenticulars for their visible disk.
    """
    if galaxy.true_class == "smooth":
        flat = max(0.0, 0.6 - galaxy.axis_ratio)
        return -1.2 + 3.0 * flat + (0.6 if galaxy.kind == "lenticular" else 0.0)
    resolution = galaxy.half_light_radius_arcsec / galaxy.seeing_arcsec
    clarity = np.log(resolution / 2.9) + 0.5 * (20.4 - galaxy.surface_brightness)
    if galaxy.kind == "edge_on":  # recognised by its outline alone
        return float(1.5 + 1.4 * clarity + galaxy.feature_strength)
    visible = np.log(0.08 + galaxy.feature_strength) + 0.6 * np.log(galaxy.axis_ratio)
    return float(2.8 + 2.2 * visible + 1.5 * clarity)
