"""Simulated galaxy images: JPEG cutouts in the style of Galaxy Zoo 2.

The flux in g, r and i is computed from the galaxy's parameters at SDSS's pixel scale, convolved with a PSF, given
noise, combined to RGB (Lupton et al. 2004, PASP 116, 133), and resampled to 424 px (Willett et al. 2013, MNRAS 435,
2835).

Galaxy ``index`` of survey ``seed`` has random generators of its own, so its image does not depend on which others are
made, in which order or process. Bytes are equal with equal versions of NumPy, SciPy, Pillow and astropy.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
from PIL import Image
from scipy.special import gammaincinv

from galaxy_batch.synthetic.galaxies import PIXEL_SCALE_ARCSEC, Galaxy, draw_galaxy

__all__ = [
    "CUTOUT_SIDE_PX", "LUPTON_Q", "LUPTON_STRETCH", "SKY_NOISE_NANOMAGGIES", "WHITE_BALANCE", "jpeg", "observe",
    "render",
]  # fmt: skip

Array = npt.NDArray[Any]

CUTOUT_SIDE_PX = 424
MARGIN_PX = 24  # simulated and cut off: convolution by FFT wraps around

# g, r, i. A nanomaggy is the flux of a 22.5 mag object; noise as of SDSS's sky, gains and 54 s exposures.
SKY_NOISE_NANOMAGGIES = np.array([0.017, 0.026, 0.042])
ELECTRONS_PER_NANOMAGGY = 900.0
DUST_REDDENING = np.array([1.25, 1.0, 0.78])  # optical depth relative to r
WHITE_BALANCE = np.array([1.34, 1.0, 0.90])  # makes solar colours white, as in SDSS's images
LUPTON_STRETCH, LUPTON_Q = 0.95, 5.0
_PIXELS = 1  # random stream; galaxies and survey use others, so that changing one does not affect them


def _sersic(radius: Array, half_light_radius: float, index: float) -> Array:
    """Sersic (1963) profile, unnormalised."""
    b = gammaincinv(2 * index, 0.5)
    return np.asarray(np.exp(-b * (radius / half_light_radius) ** np.float32(1 / index)))


def _bands(g_minus_r: float, r_minus_i: float | None = None) -> Array:
    """Fluxes in g, r, i relative to r, ``(3, 1, 1)``; by default r-i follows from g-r as for galaxies."""
    r_minus_i = 0.05 + 0.42 * g_minus_r if r_minus_i is None else r_minus_i
    return np.array([10 ** (-0.4 * g_minus_r), 1.0, 10 ** (0.4 * r_minus_i)]).reshape(3, 1, 1)


def _axes(side: int, angle_deg: float, x: float = 0.0, y: float = 0.0) -> tuple[Array, Array]:
    """Coordinates in pixels along and across an axis through ``(x, y)`` from the centre, each ``(side, side)``."""
    line = np.arange(side, dtype=np.float32) - (side - 1) / 2
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    dx, dy = (line - x)[None, :], (line - y)[:, None]
    return (cos * dx + sin * dy).astype(np.float32), (cos * dy - sin * dx).astype(np.float32)


def _radius(u: Array, v: Array, axis_ratio: float) -> Array:
    """Elliptical radius in pixels, softened at the centre in place of averaging over pixels."""
    return np.asarray(np.sqrt(u**2 + (v / np.float32(axis_ratio)) ** 2 + np.float32(0.35)))


def _normalised(light: Array) -> Array:
    return np.asarray(light / light.sum())


def _flux(galaxy: Galaxy, side: int, rng: np.random.Generator) -> Array:
    """Flux of the galaxy before seeing and noise, ``(3, side, side)``, in nanomaggies per pixel."""
    half_light = galaxy.half_light_radius_arcsec / PIXEL_SCALE_ARCSEC
    u, v = _axes(side, galaxy.position_angle_deg, *rng.uniform(-0.5, 0.5, 2))
    area = 2 * np.pi * galaxy.half_light_radius_arcsec**2 * galaxy.axis_ratio**0.7
    flux = area * 10 ** (0.4 * (22.5 - galaxy.surface_brightness))
    if galaxy.kind == "edge_on":
        return np.asarray(flux * _edge_on(galaxy, u, v, half_light, rng), np.float32)
    radius = _radius(u, v, galaxy.axis_ratio)
    if galaxy.bulge_fraction == 1.0:
        shape = _normalised(_sersic(radius, half_light, galaxy.sersic_index))
        gradient = (radius / half_light) ** (np.array([0.06, 0.0, -0.03], np.float32)[:, None, None])  # redder inside
        return np.asarray(flux * _bands(galaxy.g_minus_r) * gradient * shape, np.float32)
    # A bulge is rounder than its disk, and older stars make it redder.
    bulge_radius = _radius(u, v, 0.5 + 0.5 * galaxy.axis_ratio)
    bulge = _normalised(_sersic(bulge_radius, 0.28 * half_light, galaxy.sersic_index))
    red = _bands(max(galaxy.g_minus_r, 0.75))
    if galaxy.kind == "lenticular":
        disk = _bands(galaxy.g_minus_r) * _normalised(_sersic(radius, 1.3 * half_light, 1.0))
    else:
        disk = _structured_disk(galaxy, u / half_light, v / half_light, rng)
    return np.asarray(flux * (galaxy.bulge_fraction * red * bulge + (1 - galaxy.bulge_fraction) * disk), np.float32)


def _structured_disk(galaxy: Galaxy, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Disk of unit r flux with the arms, bar, ring, dust and star-forming clumps of its kind, ``(3, side, side)``.

    Arms are logarithmic spirals, made flocculent by weak spiral modes with random phases. ``u`` and ``v`` are in
    half-light radii.
    """
    strength, spiral = galaxy.feature_strength, galaxy.kind != "irregular"
    bar_radius = rng.uniform(0.5, 0.9) if galaxy.kind == "barred_spiral" else rng.uniform(0.2, 0.4)
    radius = np.sqrt(u**2 + (v / np.float32(galaxy.axis_ratio)) ** 2 + np.float32(1e-3))
    azimuth, log_radius = np.arctan2(v / np.float32(galaxy.axis_ratio), u), np.log(radius / np.float32(bar_radius))
    azimuth -= np.float32(rng.uniform(0, 2 * np.pi))
    winding = np.float32(rng.choice([-1, 1]) / np.tan(np.radians(galaxy.pitch_angle_deg)))
    texture = np.zeros_like(radius)
    across, along = (azimuth, log_radius) if spiral else (u, v)
    for mode in rng.integers(2, 12, 7) if spiral else rng.normal(0, 2.2, 7):
        wave = mode * winding + rng.normal(0, 2.5) if spiral else rng.normal(0, 2.2)
        texture += np.cos(np.float32(mode) * across - np.float32(wave) * along + np.float32(rng.uniform(0, 2 * np.pi)))
    texture *= np.float32(0.27)
    phase = galaxy.arms * (azimuth - winding * log_radius) + np.float32(0.8) * texture
    sharpness = np.float32(rng.uniform(0.8, 3.0))
    begin = np.clip((radius / bar_radius - 0.6) / 0.6, 0, 1)
    ridge = np.exp(sharpness * (np.cos(phase) - 1)) * begin if spiral else np.clip(0.35 + texture, 0.05, None)
    young = np.clip(ridge * (1 + 1.2 * texture) + 0.15 * texture + 0.05, 0, None)
    if spiral and rng.random() < 0.3:
        young += np.float32(0.7) * np.exp(-(((radius - 1.25 * bar_radius) / 0.16) ** 2))
    scale = rng.uniform(1.4, 1.8)
    young = _normalised(young * np.exp(-scale * np.float32(0.8) * radius))
    old = _normalised(np.exp(-np.float32(scale) * radius) * (1 + np.float32(0.9 * strength) * ridge))
    young_part = 0.10 + 0.50 * strength
    young, old = young_part * young, (1 - young_part) * old
    disk = _bands(galaxy.g_minus_r + 0.1) * old + _bands(galaxy.g_minus_r - 0.38) * young
    if galaxy.kind == "barred_spiral":
        along, across = radius * np.cos(azimuth), radius * np.sin(azimuth)
        bar = _normalised(np.exp(-((np.abs(along) / bar_radius) ** 3) - (np.abs(across) / (0.26 * bar_radius)) ** 2))
        bar_part = 0.06 + 0.20 * strength
        disk = (1 - bar_part) * disk + bar_part * _bands(galaxy.g_minus_r + 0.15) * bar
    if spiral:  # dust lies on the arms' inner edges
        lane = np.exp(3 * (np.cos(phase + np.float32(0.9)) - 1)) * begin
        disk = disk * np.exp(-DUST_REDDENING[:, None, None] * (rng.uniform(0, 0.8) * strength * lane))
    clumps = rng.poisson(25 * strength)
    if clumps:
        places = np.searchsorted(np.cumsum(young), rng.random(clumps) * 0.999 * young_part)  # follow the young stars
        disk.reshape(3, -1)[:, places] += _bands(galaxy.g_minus_r - 0.5)[:, 0] * rng.exponential(0.002, clumps)
    return np.asarray(disk, np.float32)


def _edge_on(galaxy: Galaxy, u: Array, v: Array, half_light: float, rng: np.random.Generator) -> Array:
    """Edge-on galaxy of unit r flux: disk (exponential along, sech^2 across), bulge and dust lane."""
    length, thickness = half_light / 1.3, galaxy.axis_ratio * half_light
    v = v - np.float32(rng.normal(0, 0.015) / half_light) * u * np.abs(u)  # a slight warp
    along = np.sqrt(u**2 + 1) / np.float32(length)
    disk = _normalised(np.exp(-along) / np.cosh(np.clip(v / np.float32(thickness), -20, 20)) ** 2)
    bulge = _normalised(_sersic(_radius(u, v, 0.65), 0.22 * half_light, galaxy.sersic_index))
    light = (1 - galaxy.bulge_fraction) * _bands(galaxy.g_minus_r - 0.05) * disk
    light = light + galaxy.bulge_fraction * _bands(max(galaxy.g_minus_r, 0.75)) * bulge
    across = (v - np.float32(rng.normal(0, 0.25) * thickness)) / np.float32(max(0.35 * thickness, 0.7))
    lane = np.exp(-0.6 * along - across**2) * galaxy.feature_strength * rng.uniform(0.3, 2.5)
    return np.asarray(light * np.exp(-DUST_REDDENING[:, None, None] * lane), np.float32)


def _add_surroundings(scene: Array, rng: np.random.Generator) -> None:
    """Add neighbouring galaxies and foreground stars to ``scene``, with the number counts of the sky."""
    side = scene.shape[1]
    area_arcmin2 = (side * PIXEL_SCALE_ARCSEC / 60) ** 2
    for _ in range(rng.poisson(6.0 * area_arcmin2)):
        flux = 10 ** (0.4 * (22.5 - max(16.5, 22.3 + np.log10(rng.random()) / 0.4)))
        half_light = rng.uniform(0.7, 1.4) * flux**0.2 / PIXEL_SCALE_ARCSEC
        reach = int(4 * half_light) + 3
        x, y = rng.integers(0, side, 2)
        u, v = _axes(2 * reach + 1, rng.uniform(0, 180))
        stamp = _normalised(_sersic(_radius(u, v, rng.uniform(0.3, 1)), half_light, rng.choice([1.0, 1.0, 2.5])))
        top, left = max(0, y - reach), max(0, x - reach)
        cut = stamp[top - y + reach : side - y + reach, left - x + reach : side - x + reach]
        scene[:, top : top + cut.shape[0], left : left + cut.shape[1]] += flux * _bands(rng.uniform(0.2, 1.3)) * cut
    for _ in range(rng.poisson(3.5 * area_arcmin2)):
        flux = 10 ** (0.4 * (22.5 - max(13.0, 22.0 + np.log10(rng.random()) / 0.22)))
        red_dwarf = rng.random() < 0.5 and flux < 400  # brighter ones are rare
        colour = _bands(1.35, rng.uniform(0.45, 1.1)) if red_dwarf else _bands(rng.uniform(0.15, 1.0))
        scene[:, *rng.integers(0, side, 2)] += flux * colour[:, 0, 0]


def _observe(scene: Array, seeing_arcsec: float, rng: np.random.Generator) -> Array:
    """Convolve with the PSF and add noise: the sky-subtracted image in nanomaggies, ``(3, side, side)``.

    The PSF is a double Gaussian with a faint halo and diffraction spikes, given by its Fourier transform. The bands are
    misaligned by a fraction of a pixel, as in real cutouts.
    """
    side = scene.shape[1]
    sigma = seeing_arcsec / 2.355 / PIXEL_SCALE_ARCSEC
    ky, kx = np.fft.fftfreq(side).astype(np.float32)[:, None], np.fft.rfftfreq(side).astype(np.float32)[None, :]
    angle = rng.uniform(0, np.pi / 2)
    along, across = (np.cos(angle) * kx + np.sin(angle) * ky) ** 2, (np.cos(angle) * ky - np.sin(angle) * kx) ** 2
    square, turn = along + across, np.float32(-2 * np.pi**2)
    transfer = 0.87 * np.exp(turn * sigma**2 * square) + 0.115 * np.exp(turn * (2.3 * sigma) ** 2 * square)
    transfer += 0.009 * np.exp(turn * (6 * sigma) ** 2 * square)
    for spike, thin in ((along, across), (across, along)):
        transfer += 0.003 * np.exp(turn * (144 * spike + 0.6 * thin))
    shift = rng.normal(0, 0.08, (2, 3, 1, 1))
    register = np.exp(-2j * np.pi * (shift[0] * kx + shift[1] * ky)).astype(np.complex64)
    blurred = np.fft.irfft2(np.fft.rfft2(scene) * (transfer * register).astype(np.complex64), s=(side, side))
    noise_level = SKY_NOISE_NANOMAGGIES[:, None, None] * rng.uniform(0.85, 1.4)
    variance = noise_level**2 + np.clip(blurred, 0, None) / ELECTRONS_PER_NANOMAGGY
    sky_error = rng.normal(0, 0.18, (3, 1, 1)) * noise_level
    noise = rng.standard_normal(scene.shape, dtype=np.float32) * np.sqrt(variance)
    return np.asarray(blurred + noise + sky_error, np.float32)


def observe(galaxy: Galaxy, index: int, seed: int, border_px: int = 0) -> Array:
    """The image of galaxy ``index`` of survey ``seed`` in g, r, i: ``(3, side, side)`` in nanomaggies, sky subtracted.

    ``side`` is the galaxy's ``side_px``, and ``border_px`` more on each side, less than ``MARGIN_PX``.
    """
    rng = np.random.default_rng((seed, index, _PIXELS))
    scene = _flux(galaxy, galaxy.side_px + 2 * MARGIN_PX, rng)
    _add_surroundings(scene, rng)
    inner = slice(MARGIN_PX - border_px, border_px - MARGIN_PX)
    return _observe(scene, galaxy.seeing_arcsec, rng)[:, inner, inner]


def render(index: int, seed: int) -> bytes:
    """Render the JPEG of galaxy ``index`` of survey ``seed``: 424 x 424 px, RGB from i, r, g."""
    observed = observe(draw_galaxy(index, seed), index, seed)
    blue, green, red = observed * WHITE_BALANCE[:, None, None]
    rgb = make_lupton_rgb(red, green, blue, minimum=[-0.004, -0.009, -0.003], stretch=LUPTON_STRETCH, Q=LUPTON_Q)
    # SDSS's server resamples JPEGs: small galaxies show enlarged compression artefacts.
    stored = Image.open(io.BytesIO(jpeg(Image.fromarray(rgb), 88)))
    return jpeg(stored.resize((CUTOUT_SIDE_PX, CUTOUT_SIDE_PX), Image.Resampling.BICUBIC))


def jpeg(image: Image.Image, quality: int = 75) -> bytes:
    """Encode an image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
