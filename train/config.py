"""Settings of a training run: galaxies, labels, split, network, fit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.config import ManifestConfig, RgbConfig
from galaxy_batch.errors import InputError
from galaxy_batch.model.spec import PRETRAINED
from galaxy_batch.settings import Range, Uri

__all__ = [
    "FitConfig",
    "LabelConfig",
    "NetworkConfig",
    "Phase",
    "SimulationConfig",
    "SplitConfig",
    "Strategy",
    "SweepConfig",
    "TrainConfig",
    "VerdictsConfig",
]

Strategy = Literal["random", "uncertain", "diverse"]
"""How a simulation chooses the galaxies to look at."""


@dataclass(frozen=True)
class LabelConfig:
    """How votes become labels: a galaxy has a label when one class has at least the threshold of the votes."""

    table: Literal["kaggle", "gz2", "galaxy-datasets", "columns"] = "kaggle"
    """Column naming scheme of the table: `kaggle` (Galaxy Challenge: `Class1.1`), `gz2` (Willett et al. 2013, Hart et
    al. 2016: `t01_smooth_or_features_a01_smooth_…`), `galaxy-datasets` (counts: `smooth-or-featured-gz2_smooth`), or
    `columns`: the columns that the setting `columns` names."""
    votes: Literal["fraction", "weighted_fraction", "debiased"] = "fraction"
    """Which fractions of a `gz2` table: raw, weighted by the volunteers' consistency, or debiased for redshift."""
    question: str = "smooth-or-featured-gz2"
    """Column prefix of a `galaxy-datasets` table: question and survey."""
    artifact_class: bool = False
    """Adds "star or artifact" as a third class."""
    columns: dict[str, str] = field(default_factory=dict)
    """With `table = "columns"`: class name -> vote column, in the order of the checkpoint's classes."""
    other_columns: tuple[str, ...] = ()
    """With `table = "columns"`: vote columns of the question's other answers."""
    counts: bool = False
    """With `table = "columns"`: the columns hold vote counts, not fractions."""
    threshold: Annotated[float, Range(0.5, 1)] = 0.6
    """Share of the votes that makes a label; galaxies without a label are ambiguous and excluded."""

    questions: tuple[str, ...] = ()
    """Questions of the decision tree (`galaxy_batch/decision_tree.py`) whose vote fractions the model predicts beside
    the class; not with `table = "columns"`."""
    volunteers: Annotated[float, Range(1)] = 40.0
    """Volunteers per galaxy where the table has shares (`kaggle`) and no column of volunteers. Galaxy Zoo 2: about
    40."""
    volunteers_column: str | None = None
    """Column with the number of volunteers of each galaxy, for a table of shares."""

    def __post_init__(self) -> None:
        by_name = self.table == "columns"
        if by_name and self.questions:
            raise InputError("labels.questions", self.questions, 'not with table = "columns"')
        if by_name != bool(self.columns) or (self.other_columns and not by_name):
            raise InputError("labels.columns", self.columns, 'required with table = "columns", not allowed otherwise')
        if by_name and len(self.columns) < 2:
            raise InputError("labels.columns", self.columns, "name the vote columns of at least two classes")
        for name in self.columns:
            if not name.isidentifier() or not name.islower():
                raise InputError(
                    "labels.columns", name, "class names appear in column names (p_<class>): use a-z, 0-9 and _"
                )


@dataclass(frozen=True)
class SplitConfig:
    """Assignment of galaxies to training, calibration and test set, by a hash of the id: stable when rows are added."""

    folds: Annotated[int, Range(2, 1000)] = 5
    """Number of equal folds; one of them is the test set."""
    fold: Annotated[int, Range(0)] = 0
    """Index of the test fold; vary it for cross-validation."""
    calibration_fraction: Annotated[float, Range(0.01, 0.9)] = 0.1
    """Share of the galaxies outside the test fold that sets temperature and review limits instead of training."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of the hash."""

    def __post_init__(self) -> None:
        if self.fold >= self.folds:
            raise InputError("split.fold", self.fold, f"must be below split.folds = {self.folds}")


_Positive = Annotated[float, Range(1e-9)]


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture, initial weights and preprocessing."""

    architecture: str = "efficientnet_b0"
    """Name of a timm image model."""
    weights: str = PRETRAINED
    """Initial weights: `pretrained` (ImageNet, from timm's hub), `random`, or the URI of a weights file."""
    size_px: Annotated[int, Range(32, 1024)] = 224
    """Side of the square network input, in pixels."""
    crop_fraction: Annotated[float, Range(0.1, 1)] = 1.0
    """Side of the central crop, as a share of the cutout's shorter side."""
    views: Literal[1, 2, 4, 8] = 1
    """Number of views (flips and quarter turns) that inference averages over. Each costs one forward pass."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of each channel, of pixels scaled to 0…1; subtracted. Default: ImageNet."""
    std: tuple[_Positive, _Positive, _Positive] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel, of pixels scaled to 0…1; divided by. Default: ImageNet."""
    further_views: Annotated[float, Range(0, 1)] = 1.0
    """Share of the calibration galaxies that get all `views`: those whose first view is least sure. The others get one,
    which sets the limit for all cutouts. 1: all views for each cutout."""
    stored_as: Literal["fp32", "fp16"] = "fp32"
    """Floating-point format of the weights in the checkpoint. `fp16` halves the file; the weights are rounded before
    the model is calibrated and tested."""
    rgb: RgbConfig = field(default_factory=RgbConfig)
    """Rendering of FITS bands to RGB; use the same values in `[classify.rgb]` when classifying."""


@dataclass(frozen=True)
class Phase:
    """One phase of the fit: epochs, learning rate, trainable blocks."""

    epochs: Annotated[int, Range(0)]
    """Passes over the training galaxies."""
    learning_rate: Annotated[float, Range(0, 1)]
    """Peak learning rate of AdamW."""
    blocks: Annotated[int, Range(0)] = 0
    """Number of trainable blocks before the linear head, counted from the end of the network."""


@dataclass(frozen=True)
class FitConfig:
    """Optimisation in two phases."""

    head: Phase = field(default_factory=lambda: Phase(epochs=10, learning_rate=1e-3))
    """Phase 1: linear head only, backbone frozen."""
    blocks: Phase = field(default_factory=lambda: Phase(epochs=5, learning_rate=1e-4, blocks=3))
    """Phase 2: linear head and last blocks."""
    batch_size: Annotated[int, Range(2)] = 32
    """Galaxies per optimiser step, over all workers."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.0
    """Weight decay of AdamW; not applied to biases and batch norm."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate within a phase: constant, or a linear rise over a tenth of the steps and a half-cosine decay."""
    averaging: Annotated[float, Range(0, 0.99999)] = 0.0
    """Decay per step of the exponential moving average of the weights in phase 2; 0 disables averaging. Lowered where
    the average would cover more than a fifth of the steps."""
    learn_from: Literal["labels", "votes"] = "labels"
    """Training target. `labels`: the label of each unambiguous galaxy. `votes`: the vote shares of every galaxy."""
    auxiliary_questions: tuple[tuple[str, ...], ...] = ()
    """Vote columns of further questions, one list per question: an auxiliary head predicts them during training, which
    improves the shared features. Not part of the checkpoint."""
    auxiliary_weight: Annotated[float, Range(0, 10)] = 0.5
    """Weight of the auxiliary questions in the loss."""
    question_weight: Annotated[float, Range(0, 10)] = 1.0
    """Weight in the loss of `labels.questions`: the negative log likelihood of a galaxy's votes, per volunteer."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Batch norm statistics in the trainable blocks: `eval` keeps the pretrained ones, `train` (for random weights)
    updates them. Frozen blocks always keep theirs."""
    symmetries: Literal[1, 2, 4, 8] = 8
    """Number of flips and quarter turns used as augmentation; orientation on the sky is arbitrary."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of initial weights, sample order and augmentation."""

    @property
    def auxiliary_sizes(self) -> tuple[int, ...]:
        """Number of answers of each auxiliary question."""
        return tuple(len(question) for question in self.auxiliary_questions)


@dataclass(frozen=True)
class VerdictsConfig:
    """Verdicts of people (`jobs.import_verdicts`) as labels of training galaxies.

    A verdict takes the place of the votes of its galaxy. Galaxies that the table does not have are added. Galaxies of
    the calibration and test set are left as they are.
    """

    uris: tuple[Annotated[str, Uri], ...] = ()
    """Folders of `jobs.import_verdicts`, or their `reviewed.parquet`. Of several verdicts on a galaxy, that of the last
    one named counts."""
    weight: Annotated[float, Range(0.001, 1000)] = 1.0
    """Weight of a galaxy with a verdict in the loss of the class; that of the others is 1."""
    min_probability: Annotated[float, Range(0, 1)] = 0.5
    """Use verdicts whose merged probability is at least this."""
    min_verdicts: Annotated[int, Range(1)] = 1
    """Use galaxies that at least this many people gave a verdict on."""
    queue_uris: tuple[Annotated[str, Uri], ...] = ()
    """Review queues whose pictures are the cutouts of galaxies that the table does not have. When not given, those that
    the verdicts were given on, beside the folders of `uris`."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run."""

    output_uri: Annotated[str, Uri]
    """Output folder: `model.safetensors` and `report/`."""
    galaxies: ManifestConfig
    """Table of votes and locations of the cutouts."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    verdicts: VerdictsConfig = field(default_factory=VerdictsConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    review_accuracy: Annotated[float, Range(0.5, 1)] = 0.95
    """Target accuracy: the review threshold is the lowest confidence at or above which predictions reach it."""
    workers: Annotated[int, Range(1)] = 1
    """Number of data-parallel training processes under Ray, one GPU each where Ray has GPUs. 1 trains in this process,
    without Ray."""
    threads: Annotated[int, Range(1)] | None = None
    """CPU threads per worker. Default: an equal share of the CPUs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Training device; `auto` uses a GPU if there is one."""


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """A training config and the thresholds to train at."""

    thresholds: tuple[Annotated[float, Range(0.5, 1)], ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Vote thresholds; one training run each."""
    clean_threshold: Annotated[float, Range(0.5, 1)] = 0.8
    """The common test set of all runs: test galaxies where one class has at least this share of the votes."""

    def __post_init__(self) -> None:
        if len(set(self.thresholds)) < 2:
            raise InputError("thresholds", self.thresholds, "give at least two different thresholds")


@dataclass(frozen=True)
class SimulationConfig(TrainConfig):
    """A training config, and the simulated reviews to train from."""

    strategies: tuple[Strategy, ...] = ("random", "uncertain", "diverse")
    """Which galaxies are looked at first: `random` ones; `uncertain` ones, by the margin of the last model; `diverse`
    ones, each as far as possible in the last model's features from those seen. The others are compared with the
    first."""
    rounds: tuple[Annotated[int, Range(2)], ...] = (100, 200, 400, 800, 1600)
    """Galaxies looked at up to the end of each round. The first round is random; each round trains a new model."""
    seeds: tuple[Annotated[int, Range(0, 2**31 - 1)], ...] = (0, 1, 2)
    """One simulation each: of the reviewers' answers, the first round and the training."""

    def __post_init__(self) -> None:
        if not self.rounds or list(self.rounds) != sorted(set(self.rounds)):
            raise InputError("rounds", self.rounds, "give increasing numbers")
        if not self.strategies or not self.seeds:
            raise InputError("strategies" if not self.strategies else "seeds", [], "give at least one")
