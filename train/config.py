"""Settings of a training run: which galaxies, which labels, which network, how it learns."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.config import ManifestConfig, RgbConfig
from galaxy_batch.errors import InputError
from galaxy_batch.model.network import PRETRAINED
from galaxy_batch.settings import Range, Uri

__all__ = ["FitConfig", "LabelConfig", "NetworkConfig", "Phase", "SplitConfig", "TrainConfig"]


@dataclass(frozen=True)
class LabelConfig:
    """How votes become labels. A galaxy is labelled when one class has at least the threshold of the votes."""

    table: Literal["kaggle", "gz2", "galaxy-datasets", "columns"] = "kaggle"
    """Whose column names the table has: the Kaggle Galaxy Challenge's (`Class1.1`), the Galaxy Zoo 2 releases'
    (Willett et al. 2013, Hart et al. 2016: `t01_smooth_or_features_a01_smooth_…`), the galaxy-datasets package's
    counts (`smooth-or-featured-gz2_smooth`), or those that `columns` names."""
    votes: Literal["fraction", "weighted_fraction", "debiased"] = "fraction"
    """Fractions of a `gz2` table: as counted, weighted by the volunteers' consistency, or debiased for distance."""
    question: str = "smooth-or-featured-gz2"
    """First part of the column names of a `galaxy-datasets` table: the question and its survey."""
    artifact_class: bool = False
    """Whether star or artifact is a class of its own, the third."""
    columns: dict[str, str] = field(default_factory=dict)
    """With `table = "columns"`: the vote column of each class, in the order of the checkpoint's classes."""
    other_columns: tuple[str, ...] = ()
    """With `table = "columns"`: vote columns of the question's other answers."""
    counts: bool = False
    """With `table = "columns"`: whether the columns count votes instead of giving fractions."""
    threshold: Annotated[float, Range(0.5, 1)] = 0.6
    """Share of the votes that makes a label; galaxies without one are ambiguous, and left out."""

    def __post_init__(self) -> None:
        own = self.table == "columns"
        if own != bool(self.columns) or (self.other_columns and not own):
            raise InputError("labels.columns", self.columns, 'give columns with table = "columns", and only then')
        if own and len(self.columns) < 2:
            raise InputError("labels.columns", self.columns, "name the vote column of two classes or more")
        for name in self.columns:
            if not name.isidentifier() or not name.islower():
                raise InputError(
                    "labels.columns", name, "a class becomes a column p_<class>: lower-case letters, digits, _"
                )


@dataclass(frozen=True)
class SplitConfig:
    """Which galaxies train, calibrate and test: a hash of the id decides, so that no galaxy ever changes sides."""

    folds: Annotated[int, Range(2, 1000)] = 5
    """The test set is one of so many equal parts."""
    fold: Annotated[int, Range(0)] = 0
    """Which part; another one for cross-validation."""
    calibration_fraction: Annotated[float, Range(0.01, 0.9)] = 0.1
    """Share of the other galaxies that calibrates the confidence, and does not train."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Another seed is another split."""

    def __post_init__(self) -> None:
        if self.fold >= self.folds:
            raise InputError("split.fold", self.fold, f"must be below split.folds = {self.folds}")


@dataclass(frozen=True)
class NetworkConfig:
    """The network, where it starts, and what it sees."""

    architecture: str = "efficientnet_b0"
    """Any image model of timm."""
    weights: str = PRETRAINED
    """`pretrained` (timm's hub), `random`, or the URI of a weights file."""
    size_px: Annotated[int, Range(32, 1024)] = 224
    """CatalogColumns of the square that the network sees."""
    crop_fraction: Annotated[float, Range(0.1, 1)] = 1.0
    """Share of the cutout's shorter side that is kept, around the centre."""
    views: Literal[1, 2, 4, 8] = 1
    """Symmetries that inference averages over; each costs a forward pass."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Per channel of pixels in 0…1; the default is ImageNet's."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Per channel of pixels in 0…1; the default is ImageNet's."""
    rgb: RgbConfig = field(default_factory=RgbConfig)
    """How FITS cutouts are drawn; classify with the same `[classify.rgb]`."""

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InputError("network.mean, network.std", (self.mean, self.std), "three numbers each, std above 0")


@dataclass(frozen=True)
class Phase:
    """One phase of the fit."""

    epochs: Annotated[int, Range(0)]
    """Passes over the training galaxies."""
    learning_rate: Annotated[float, Range(0, 1)]
    """Step size of the optimiser, at its highest."""
    blocks: Annotated[int, Range(0)] = 0
    """How many of the network's last blocks learn, beside the linear head."""


@dataclass(frozen=True)
class FitConfig:
    """How the network learns, in two phases."""

    head: Phase = field(default_factory=lambda: Phase(epochs=10, learning_rate=1e-3))
    """Phase 1: only the linear head, on a frozen backbone."""
    blocks: Phase = field(default_factory=lambda: Phase(epochs=5, learning_rate=1e-4, blocks=3))
    """Phase 2: the last blocks too."""
    batch_size: Annotated[int, Range(2)] = 32
    """Galaxies per step."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.0
    """Of AdamW, on weights of layers, not on biases or batch norm."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate within a phase: as it is, or risen over a tenth of the steps and then down half a cosine."""
    averaging: Annotated[float, Range(0, 0.99999)] = 0.0
    """Exponential average of the weights in phase 2: the share that each step keeps; 0 takes the last weights."""
    learn_from: Literal["labels", "votes"] = "labels"
    """`labels`: galaxies with a clear label, and that label. `votes`: every galaxy, and the shares of its votes."""
    auxiliary_questions: tuple[tuple[str, ...], ...] = ()
    """Vote columns of further questions that the network answers while it learns, each question a list: what the
    volunteers saw beside the class teaches the features. Not part of the checkpoint."""
    auxiliary_weight: Annotated[float, Range(0, 10)] = 0.5
    """Weight of the further questions in the loss."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Statistics of batch norm in the blocks that learn: `eval` keeps the pretrained ones, `train` (for random
    weights) learns them. Frozen blocks always keep theirs."""
    symmetries: Literal[1, 2, 4, 8] = 8
    """Flips and quarter turns seen in training: the sky has no up."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of weights, order and augmentation."""

    @property
    def auxiliary_sizes(self) -> tuple[int, ...]:
        """Answers of each auxiliary question."""
        return tuple(len(question) for question in self.auxiliary_questions)


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    output_uri: Annotated[str, Uri]
    """Folder that gets `model.safetensors` and `report/`."""
    galaxies: ManifestConfig
    """The table of votes, and where the cutouts are."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    review_accuracy: Annotated[float, Range(0.5, 1)] = 0.95
    """The review threshold is the lowest confidence above which so many predictions are right."""
    workers: Annotated[int, Range(1)] = 1
    """Workers that train together, each a process of its own under Ray, with a GPU of its own where Ray has GPUs; with
    1 the fit runs right here."""
    threads: Annotated[int, Range(1)] | None = None
    """CPU threads of each worker; its share of all when not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` takes a GPU where there is one."""
