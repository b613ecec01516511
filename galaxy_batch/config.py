"""What a run is asked to do: a dataclass for each job and each part of one, as its TOML file is written.

Each field is documented beneath it. How the file is read and checked is in `settings`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.errors import InputError
from galaxy_batch.settings import Range, Uri

__all__ = [
    "CatalogConfig",
    "ClassifyConfig",
    "DryRunConfig",
    "ManifestConfig",
    "PublishConfig",
    "ReportConfig",
    "ReviewConfig",
    "RgbConfig",
    "RuntimeConfig",
]


@dataclass(frozen=True)
class ManifestConfig:
    """Which objects to classify, and where their cutouts are."""

    uri: Annotated[str, Uri]
    """The table of objects: Parquet (a file, a folder or a glob), CSV, ECSV, FITS or VOTable."""
    id_column: str = "object_id"
    """Column of unique identifiers: integers or strings."""
    ra_column: str | None = None
    """Column of right ascensions, ICRS, in degrees; none when the manifest has no positions."""
    dec_column: str | None = None
    """Column of declinations, ICRS, in degrees."""
    image_column: str | None = None
    """Column with the cutouts: encoded bytes, `{bytes, path}` structs, or URIs. Or give `uri_template`."""
    uri_template: str | None = None
    """Where each cutout is, e.g. `../images/{dr7objid}.jpeg`; relative to the manifest's folder."""
    band_templates: tuple[str, ...] = ()
    """Where each cutout's three FITS files are, red, green, blue, e.g. `{field}-i.fits.bz2`, `…-r…`, `…-g…`."""
    keep_columns: tuple[str, ...] = ()
    """Columns of the manifest that the catalog keeps, under their own names."""

    def __post_init__(self) -> None:
        if [self.image_column is None, self.uri_template is None, not self.band_templates].count(False) != 1:
            raise InputError(
                "manifest", self.uri, "give either image_column or uri_template or band_templates, and only one of them"
            )
        if self.band_templates and (len(self.band_templates) != 3 or len(set(self.band_templates)) != 3):
            raise InputError("manifest.band_templates", self.band_templates, "give three: red, green, blue")
        if (self.ra_column is None) != (self.dec_column is None):
            raise InputError("manifest.ra_column", self.ra_column, "give both ra_column and dec_column, or neither")


@dataclass(frozen=True)
class RgbConfig:
    """How the bands of a FITS cutout become a picture, after Lupton et al. (2004, PASP 116, 133).

    The defaults make SDSS frames in nanomaggies (i, r, g as red, green, blue) look like SDSS's own JPEG cutouts. A
    model that learned from JPEGs should see FITS drawn like them; a model that learned from FITS, with its own values.
    """

    scale: tuple[float, ...] = (1.0, 1.2, 1.8)
    """What each band's pixels are multiplied with, red first; another unit or pixel scale wants another factor."""
    minimum: Annotated[float, Range(-1e9, 1e9)] = 0.0
    """The value that is black, after `scale`; 0 is the sky where that is subtracted."""
    stretch: Annotated[float, Range(1e-9, 1e9)] = 0.5
    """Where faint ends: about up to this mean of the bands, the picture is as bright as the pixel is."""
    q: Annotated[float, Range(1e-3, 1e6)] = 6.0
    """Softening of the asinh: a higher one has darker bright parts, with more to be seen in them."""
    planes: tuple[int, ...] = ()
    """Which planes of a cube, or which images of a file, are red, green, blue; counted from 0. When not given there
    must be three, red first. The Legacy Surveys' cubes (g, r, z) begin with blue: `[2, 1, 0]`."""

    def __post_init__(self) -> None:
        if len(self.scale) != 3 or not all(0 < factor < 1e12 for factor in self.scale):
            raise InputError("rgb.scale", self.scale, "three factors above 0, of the red, green and blue band")
        if self.planes and (len(self.planes) != 3 or min(self.planes) < 0):
            raise InputError("rgb.planes", self.planes, "three numbers from 0 on, of the red, green and blue plane")


@dataclass(frozen=True)
class ClassifyConfig:
    """What is done to each cutout; all of it is part of the fingerprint in the output's path."""

    chunk_rows: Annotated[int, Range(1, 1_000_000)] = 1024
    """Rows per chunk: one chunk is one unit of work and one part file."""
    max_image_bytes: Annotated[int, Range(1024, 1 << 30)] = 20 << 20
    """A cutout with more encoded bytes than this is not read further: status `too_large`."""
    max_image_pixels: Annotated[int, Range(1024, 1 << 30)] = 25_000_000
    """A cutout with more pixels than this is not decoded: status `too_large`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floats of the network's sums: `bf16` is about twice as fast where the processor has it. `auto` takes it where
    the checkpoint has seen that it changes next to nothing."""
    stability_views: Literal[1, 2, 4, 8] = 1
    """UNSTABLE for a checkpoint of one view: so many flips and turns are looked at, each of which costs as much as the
    classification itself; 1 does without. A checkpoint of several views has them anyway, and does not look at this."""
    rgb: RgbConfig = field(default_factory=RgbConfig)
    """How FITS cutouts are drawn; not looked at for other formats."""


@dataclass(frozen=True)
class ReviewConfig:
    """When a row is flagged for a person."""

    min_confidence: Annotated[float, Range(0, 1)] | None = None
    """LOW_CONFIDENCE under this; the checkpoint's own threshold when not given."""
    max_blank_fraction: Annotated[float, Range(0, 1)] = 0.9
    """BLANK when more than this share of the pixels equals the median brightness."""
    max_unfamiliarity: Annotated[float, Range(0)] | None = None
    """UNFAMILIAR above this distance from the training galaxies, in units of an average one's own; the checkpoint's
    own limit when not given."""
    max_instability: Annotated[float, Range(0, 0.5)] | None = None
    """UNSTABLE when the probability of a class has a larger standard deviation than this over the views; the
    checkpoint's own limit when not given."""
    min_repeats: Annotated[int, Range(2)] = 3
    """REPEATED_IMAGE when the same bytes stand for at least so many objects."""
    audit_fraction: Annotated[float, Range(0, 1)] = 0.01
    """AUDIT for this share of all rows, drawn by a seeded hash of the id."""
    audit_seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Another seed draws another audit sample."""


@dataclass(frozen=True)
class PublishConfig:
    """How the catalog is cut into files; nothing here changes a value in it."""

    max_rows: Annotated[int, Range(1, 100_000_000)] = 1_000_000
    """Rows of a file, at most: a pixel of the sky with more is cut into four. Publishing holds three times so many rows
    in memory per CPU."""


@dataclass(frozen=True)
class ReportConfig:
    """The page of the release, beside the catalog; nothing here changes a value in it."""

    enabled: bool = True
    """Whether there is one."""
    cutouts: Annotated[int, Range(0, 100)] = 8
    """Galaxies of each kind (confident, uncertain, flagged) of each class that it shows."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Another seed shows other galaxies."""


@dataclass(frozen=True)
class RuntimeConfig:
    """How Ray runs the job; nothing here changes a value in the catalog by more than rounding."""

    num_cpus: Annotated[int, Range(1)] | None = None
    """CPUs of a Ray that is started here; all of them when not given. Ignored on a running cluster."""
    wait_for_nodes_s: Annotated[float, Range(0)] = 600.0
    """A cluster whose head does no work is given so many seconds to have a node that does."""
    grow_after_s: Annotated[float, Range(0)] = 30.0
    """Nodes that have been new for so many seconds get work too: the job spreads anew over the whole cluster."""
    actors: Annotated[int, Range(1)] | None = None
    """Model actors; when not given, two per GPU, else as many as suit the engine and the CPUs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` is a GPU where Ray has one."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What computes the network on CPUs; `auto` is OpenVINO where it is installed. GPUs compute with torch."""
    batch_size: Annotated[int, Range(1, 65536)] | None = None
    """Cutouts per forward pass; what suits the engine when not given: OpenVINO 1 per core, torch 16, a GPU 512."""
    row_limit_s: Annotated[float, Range(0.01)] = 1.0
    """A chunk may be in its worker for so many seconds for each of its cutouts and 60 more; then the worker is taken
    for hung and ended, as if a cutout had killed it."""
    max_suspect_chunks: Annotated[int, Range(0)] = 20
    """A chunk whose worker died twice is searched for the cutouts that kill it, and those get the status `crashed`.
    With more such chunks than this the job fails: then it is hardly the cutouts."""
    progress_every_s: Annotated[float, Range(0.1)] = 5.0
    """Seconds between two lines of progress."""


@dataclass(frozen=True)
class DryRunConfig:
    """What `--dry-run` tries."""

    sample: Annotated[int, Range(1, 10_000)] = 32
    """Cutouts that are fetched and classified, spread evenly over the manifest."""


@dataclass(frozen=True)
class CatalogConfig:
    """One catalog: a manifest, a checkpoint, and where the result goes."""

    release: str
    """Name of the survey release; becomes part of the output's path and a column."""
    output_uri: Annotated[str, Uri]
    """Folder (any fsspec URI) under which everything is written."""
    checkpoint_uri: Annotated[str, Uri]
    """The trained model: a `.safetensors` file of `train_model`."""
    manifest: ManifestConfig
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    dry_run: DryRunConfig = field(default_factory=DryRunConfig)
    reuse_from: Annotated[str, Uri] | None = None
    """An earlier catalog by the same model: rows whose cutout is the same to the byte take their answer from there."""
    max_failed_fraction: Annotated[float, Range(0, 1)] = 0.05
    """More unreadable rows than this share: nothing is published, exit code 3."""
    keep_unreachable: bool = False
    """Publish rows whose store did not answer, without a class. When not, nothing is published while there are any,
    exit code 3, and another run asks for them again."""
    overwrite: bool = False
    """Replace a published catalog of this release and model that was made from other input or settings."""

    def __post_init__(self) -> None:
        if (
            not self.release
            or not all(c.isalnum() or c in "-_." for c in self.release)
            or self.release.strip(".") == ""
        ):
            raise InputError("release", self.release, "use letters, digits, '-', '_' and '.' only")
