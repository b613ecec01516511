"""One decision about each object from the verdicts of several people, by crowd-kit.

Majority counts every verdict the same; its probability is the share of the verdicts. The model of Dawid & Skene (1979,
Applied Statistics 28, 20) estimates for each person how often they call one class another, from how they agree with the
others, and gives each class a probability. It needs enough verdicts of each person.
"""

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.config import MergeMethod

__all__ = ["merge_verdicts"]

# Simulated with two classes and people who are right in 60 to 98% (three to ten verdicts an object): with 50 or more
# verdicts of each person the probabilities of Dawid and Skene have the smaller squared error, with 30 or fewer those of
# the majority.
_LEAST_VERDICTS_EACH = 50
_LEAST_PEOPLE = 3  # of two who disagree, the model cannot know which one errs
_TIE = 1e-9
_ITERATIONS = 100


def merge_verdicts(
    verdicts: pd.DataFrame, method: Literal["auto"] | MergeMethod
) -> tuple[pd.DataFrame, MergeMethod | None]:
    """The class of each object, and the method that decided.

    Args:
        verdicts: `object_id`, `reviewer`, `verdict`, each a class or `artifact`; at most one row a person and object,
            in any order.
        method: as in the settings.

    Returns:
        By `object_id`, ascending: `reviewed_class`, None where two are equally probable, and `reviewed_probability` of
        the most probable one. The method is None where no object has several verdicts, which is decided already.

    Raises:
        InputError: an object has several verdicts, and crowd-kit is not installed.
    """
    verdicts = verdicts.sort_values(["object_id", "reviewer"], kind="stable")
    several = verdicts["object_id"].duplicated(keep=False)
    if not several.any():
        single = verdicts.set_index("object_id")["verdict"]
        return pd.DataFrame({"reviewed_class": single, "reviewed_probability": 1.0}, index=single.index), None
    if method == "auto":
        people = verdicts["reviewer"][several].nunique()
        enough = people >= _LEAST_PEOPLE and several.sum() >= _LEAST_VERDICTS_EACH * people
        method = "dawid_skene" if enough else "majority"
    probabilities, labels = _probabilities(verdicts, method)
    return _decided(probabilities, labels, np.unique(verdicts["object_id"])), method


def _probabilities(verdicts: pd.DataFrame, method: MergeMethod) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Probability of each label ``(objects, labels)``, objects and labels in ascending order."""
    try:
        from crowdkit.aggregation import DawidSkene, MajorityVote  # noqa: PLC0415 - optional dependency
    except ImportError:
        raise InputError(
            "merge", method, "several verdicts an object need crowd-kit: `uv sync --extra review`"
        ) from None
    labels = sorted(verdicts["verdict"].unique())
    numbers = pd.DataFrame(
        {
            "task": np.unique(verdicts["object_id"], return_inverse=True)[1],
            "worker": np.unique(verdicts["reviewer"].to_numpy(object), return_inverse=True)[1],
            "label": np.searchsorted(labels, verdicts["verdict"].to_numpy(object)),
        }
    )
    aggregator = MajorityVote() if method == "majority" else DawidSkene(n_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, to the library
        fitted = aggregator.fit_predict_proba(numbers)
    probabilities = fitted.reindex(columns=range(len(labels)), fill_value=0.0)
    return probabilities.sort_index().to_numpy(np.float64, na_value=0.0), labels


def _decided(probabilities: npt.NDArray[np.float64], labels: list[str], ids: npt.NDArray[np.generic]) -> pd.DataFrame:
    best = probabilities.max(axis=1)
    tied = (probabilities >= best[:, None] - _TIE).sum(axis=1) > 1
    names = np.array(labels, object)[probabilities.argmax(axis=1)]
    decided = np.where(tied, None, names)
    return pd.DataFrame(
        {"reviewed_class": decided, "reviewed_probability": best}, index=pd.Index(ids, name="object_id")
    )
