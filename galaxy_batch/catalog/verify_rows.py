"""What must hold for each row of a published catalog, whatever the other rows say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.decision_tree import Question, asked_fractions
from galaxy_batch.review.flags import ReviewFlag, ReviewLimits
from galaxy_batch.rows import Status, probability_columns
from galaxy_batch.sky.healpix import pixels_at, separation_arcsec

__all__ = ["CatalogContract", "broken_rules"]

Array = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

_ALWAYS = ("object_id", "review_flags", "needs_review", "status", "release", "model_id")  # never null
_WITHOUT_BYTES = (Status.MISSING, Status.UNREACHABLE, Status.REFUSED)
_SUM_TOLERANCE = 1e-4
_MAX_INSTABILITY = 0.5 + 1e-6  # of numbers between 0 and 1
_PIXEL_TOLERANCE_ARCSEC = 1e-3  # another library, or processor, may round a position into the neighbouring pixel


@dataclass(frozen=True)
class CatalogContract:
    """What the `manifest.json` of a catalog says of each row."""

    classes: tuple[str, ...]
    release: str
    model_id: str
    limits: ReviewLimits
    flags: tuple[ReviewFlag, ...] = tuple(ReviewFlag)
    """Flags of the version that wrote the catalog; no row has another one."""
    questions: tuple[Question, ...] = ()
    """Questions of the decision tree that the checkpoint answers."""
    concentrations: bool = False
    """Whether the catalog has the concentrations of their answers."""
    image_uri: bool = False
    """Whether the catalog has the location of each cutout."""
    sure_odds: float | None = None
    """Logarithm of the least ratio of the two largest probabilities of a row with an image and without an instability:
    one view was sure. None: rows without it are not checked, because there is one view, or it is not known."""

    @classmethod
    def of(cls, manifest: CatalogManifest) -> "CatalogContract":
        """The contract of a catalog with this manifest."""
        return cls(
            manifest.classes,
            manifest.release,
            manifest.model_id,
            manifest.review_limits,
            manifest.flags,
            manifest.questions,
            manifest.concentrations,
            manifest.keeps_image_uri,
            _sure_odds(manifest.checkpoint, manifest.config),
        )


def _sure_odds(checkpoint: dict[str, Any], config: dict[str, Any]) -> float | None:
    """See `CatalogContract`. Infinite where every cutout gets all views: then no row may be without an instability."""
    spec, temperature = checkpoint.get("spec", {}), checkpoint.get("temperature")
    views = max(spec.get("views", 1), (config.get("classify") or {}).get("stability_views", 1))
    if views == 1 or not temperature:
        return None
    limit = spec.get("further_views_below")
    return np.inf if limit is None else float(limit / temperature)


def broken_rules(rows: pa.Table, contract: CatalogContract) -> dict[str, Mask]:
    """The rules that some rows break, in words that follow "rows with", and which rows these are, ``(N,)`` each."""
    nulls = {f"a null in {name}": rows[name].is_null().to_numpy() for name in _ALWAYS if rows[name].null_count}
    if nulls:
        return nulls  # the other rules could not be judged
    rules = _about_classes(rows, contract) | _about_flags(rows, contract) | _about_positions(rows)
    rules |= _about_questions(rows, contract) | _about_views(rows, contract)
    rules |= {
        f"another {name} than {value}": pc.not_equal(rows[name], value).to_numpy()
        for name, value in (("release", contract.release), ("model_id", contract.model_id))
    }
    return {rule: broken for rule, broken in rules.items() if broken.any()}


def _about_classes(rows: pa.Table, contract: CatalogContract) -> dict[str, Mask]:
    names = probability_columns(contract.classes)
    probabilities = np.stack([rows[name].to_numpy() for name in names], axis=1)
    confidence = rows["confidence"].to_numpy()
    label = pc.fill_null(pc.index_in(rows["predicted_class"], pa.array(contract.classes, pa.string())), -1).to_numpy()
    unknown = (label < 0) & rows["predicted_class"].is_valid().to_numpy()
    seen = ~np.isnan(probabilities).any(axis=1)
    best = np.where(seen, np.nan_to_num(probabilities).argmax(axis=1), -1)
    ok = pc.equal(rows["status"], str(Status.OK)).to_numpy()
    bytes_missing = pc.is_in(rows["status"], pa.array([str(status) for status in _WITHOUT_BYTES])).to_numpy()
    hashed = rows["image_hash"].is_valid().to_numpy()
    with np.errstate(invalid="ignore"):
        return {
            "probabilities outside 0…1": ((probabilities < 0) | (probabilities > 1)).any(axis=1),
            "probabilities that do not sum to 1": seen & (np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE),
            "some probabilities and not all": ~seen & ~np.isnan(probabilities).all(axis=1),
            "a class that the model does not have": unknown,
            "a class that is not the most probable one": label != best,
            "a confidence that is not the probability of the class": np.where(
                seen, confidence != probabilities.max(axis=1), ~np.isnan(confidence)
            ),
            "a class without status ok, or the reverse": seen != ok,
            "an unknown status": ~pc.is_in(rows["status"], pa.array([str(status) for status in Status])).to_numpy(),
            "an error text with status ok, or none without": rows["error"].is_null().to_numpy() != ok,
            "an image_hash at odds with status": (ok & ~hashed) | (bytes_missing & hashed),
            "an unfamiliarity below 0, or without an image": _impossible(rows["unfamiliarity"], ok, np.inf),
            "an instability outside 0…0.5, or without an image": _impossible(rows["instability"], ok, _MAX_INSTABILITY),
        }


def _impossible(values: pa.ChunkedArray, ok: Mask, highest: float) -> Mask:
    there, numbers = values.is_valid().to_numpy(), pc.fill_null(values, 0).to_numpy()
    return np.asarray(there & (~ok | ~((numbers >= 0) & (numbers <= highest))))


def _about_views(rows: pa.Table, contract: CatalogContract) -> dict[str, Mask]:
    if contract.sure_odds is None:
        return {}
    probabilities = np.stack([rows[name].to_numpy() for name in probability_columns(contract.classes)], axis=1)
    second, largest = np.partition(probabilities.astype(np.float64), -2, axis=1)[:, -2:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(largest / second)
    least = contract.sure_odds * (1 - _SUM_TOLERANCE) - _SUM_TOLERANCE
    sure = (odds >= least) & np.isfinite(least)
    seen = pc.equal(rows["status"], str(Status.OK)).to_numpy()
    return {"no instability, though one view was not sure": seen & ~sure & rows["instability"].is_null().to_numpy()}


def _about_questions(rows: pa.Table, contract: CatalogContract) -> dict[str, Mask]:
    """Rules of the decision tree; the fractions themselves are taken from the rows."""
    if not contract.questions:
        return {}
    no_image = pc.not_equal(rows["status"], str(Status.OK)).to_numpy()
    fractions = {q.name: _values(rows, q.fraction_columns) for q in contract.questions}
    rules = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        asked = asked_fractions(contract.questions, fractions)
        for question in contract.questions:
            names = (question.asked_column, *question.fraction_columns)
            if contract.concentrations:
                names += question.dirichlet_columns
            rules[f"an answer to {question.name} without an image, or the reverse"] = np.any(
                [rows[name].is_null().to_numpy() != no_image for name in names], axis=0
            )
            kept = _kept_rules(rows, question, fractions[question.name], asked[question.name])
            if contract.concentrations:
                kept |= _kept_by_concentrations(rows, question, fractions[question.name])
            rules |= {rule: ~holds & ~no_image for rule, holds in kept.items()}
    return rules


def _kept_rules(rows: pa.Table, question: Question, fractions: Array, asked: Array) -> dict[str, Mask]:
    """What a row that breaks a rule has, and the rows that keep it; nan keeps none."""
    name, recorded = question.name, _values(rows, (question.asked_column,))[:, 0]
    return {
        f"fractions of {name} outside 0…1": _all((fractions >= 0) & (fractions <= 1)),
        f"fractions of {name} that do not sum to 1": _near(fractions.sum(axis=1), 1),
        f"{question.asked_column} outside 0…1": (recorded >= 0) & (recorded <= 1),
        f"{question.asked_column} at odds with the answers that lead there": _near(recorded, asked),
    }


def _kept_by_concentrations(rows: pa.Table, question: Question, fractions: Array) -> dict[str, Mask]:
    """As `_kept_rules`."""
    values = _values(rows, question.dirichlet_columns)
    near = _near(values / values.sum(axis=1, keepdims=True), fractions)
    return {
        f"concentrations of {question.name} that are not positive": _all((values > 0) & np.isfinite(values)),
        f"concentrations of {question.name} at odds with the fractions": _all(near),
    }


def _all(answers: Mask) -> Mask:
    return np.asarray(answers.all(axis=1))


def _near(values: Array, expected: Array | float) -> Mask:
    return np.asarray(np.abs(values - expected) <= _SUM_TOLERANCE)


def _values(rows: pa.Table, names: Sequence[str]) -> Array:
    """Columns of numbers as ``(N, columns)``; nan for null."""
    return np.stack([rows[name].to_numpy().astype(np.float64) for name in names], axis=1)


def _about_flags(rows: pa.Table, contract: CatalogContract) -> dict[str, Mask]:
    flags = rows["review_flags"].to_numpy()
    no_image = pc.not_equal(rows["status"], str(Status.OK)).to_numpy()
    rules = {
        "unknown bits in review_flags": (flags & ~np.int32(sum(contract.flags))) != 0,
        "needs_review at odds with review_flags": rows["needs_review"].to_numpy() != (flags != 0),
    }
    for flag in contract.flags:
        condition, is_set = flag.condition, (flags & flag) != 0
        if condition.on_pixels:
            rules[f"{flag.name} without an image"] = is_set & no_image
        elif condition.test is None:
            rules[f"{flag.name} without {condition.column}"] = is_set & rows[condition.column].is_null().to_numpy()
        else:
            by = f" by {', '.join(condition.settings)}" if condition.settings else ""
            rules[f"{flag.name} at odds with {condition.column}{by}"] = is_set != flag.holds(rows, contract.limits)
    return rules


def _about_positions(rows: pa.Table) -> dict[str, Mask]:
    missing = rows["ra"].is_null().to_numpy()
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    with np.errstate(invalid="ignore"):
        usable = (ra >= 0) & (ra < 360) & (dec >= -90) & (dec <= 90)
    pixels = rows["_healpix_29"].fill_null(-1).to_numpy()
    away = np.zeros(len(rows), np.bool_)
    away[usable] = pixels_at(ra[usable], dec[usable]) != pixels[usable]
    on_sky = away & (pixels >= 0) & (pixels < 12 << 58)
    away[on_sky] = separation_arcsec(pixels[on_sky], ra[on_sky], dec[on_sky]) > _PIXEL_TOLERANCE_ARCSEC
    return {
        "ra or dec out of range": ~missing & ~usable,
        "dec without ra, or the reverse": rows["dec"].is_null().to_numpy() != missing,
        "_healpix_29 without a position, or the reverse": rows["_healpix_29"].is_null().to_numpy() != missing,
        "a _healpix_29 that is not the pixel of ra, dec": away,
    }
