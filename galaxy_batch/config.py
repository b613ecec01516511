"""Settings of a catalog job, as in its TOML file, and those of its sections that other jobs share.

Each setting is documented beneath it. `settings` reads and checks the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from galaxy_batch.errors import InputError
from galaxy_batch.fits_format import BLOCK_BYTES, whole_blocks
from galaxy_batch.links import SKY_LINKS, check_links
from galaxy_batch.settings import Range, Uri

__all__ = [
    "CatalogConfig",
    "ClassifyConfig",
    "DryRunConfig",
    "JoinConfig",
    "ManifestConfig",
    "PublishConfig",
    "ReportConfig",
    "ReviewConfig",
    "RgbConfig",
    "RuntimeConfig",
    "TilesConfig",
    "check_cutout_size",
    "fingerprint_settings",
]

_HTTP = re.compile(r"https?://", re.IGNORECASE)
_TABLE = re.compile(r"(\.(parquet|csv|tsv|ecsv|vot|votable|xml)|^[^*?\[]*\.(fits|fit))(\.gz|\.bz2)?$", re.IGNORECASE)


@dataclass(frozen=True)
class JoinConfig:
    """A second table with further columns of the same objects."""

    uri: Annotated[str, Uri]
    """The second table, in any format of the first. Its key and `columns` are held in memory."""
    id_column: str
    """Column of the second table by which its rows are found: its key."""
    columns: tuple[str, ...]
    """Columns of the second table. Other settings name them like columns of the first, which may have others of the
    same names; they are null for objects without a row in the second table."""
    key_column: str | None = None
    """Column of the first table that equals the key. When not given, `id_column`."""
    only: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Use only rows of the second table with one of these values, e.g. `{sample = ["original", "extra"]}`. Of several
    rows of an object, the one whose value is listed first."""

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError("join.columns", self.columns, "name the columns to use of the second table")


@dataclass(frozen=True)
class TilesConfig:
    """Tiles of a survey (frames, bricks), from which the cutouts of a table of positions are cut."""

    band_templates: tuple[str, ...]
    """URIs of the tiles' FITS files in the order red, green, blue. With wildcards, all tiles of a survey, e.g.
    `["*/image-z.fits", "*/image-r.fits", "*/image-g.fits"]`: files are bands of one tile where the wildcards stand for
    the same text; their headers are read once and remembered. Or with names of columns in braces: of `table`, or,
    without it, of the manifest, whose rows then name their tiles. `{field:04d}` pads with zeros, `{brick:.3}` is the
    beginning of a text. Relative to the folder of that table; with wildcards, of the manifest."""
    table: Annotated[str, Uri] | None = None
    """Table of the tiles, one per row, in any format of a manifest."""
    ra_column: str | None = None
    """Column of `table` with the right ascension of each tile's centre. Give this and the next three for a survey of
    many tiles, whose headers then need not be read first; or none of them."""
    dec_column: str | None = None
    """Column of `table` with the declination of each tile's centre."""
    width_deg: Annotated[float, Range(1e-6, 30)] | None = None
    """Width of each tile on the sky, from east to west."""
    height_deg: Annotated[float, Range(1e-6, 30)] | None = None
    """Height of each tile on the sky, from south to north."""
    side_arcsec: Annotated[float, Range(1e-3, 36_000)] | None = None
    """Side of each cutout. Give this or `size_column`."""
    size_column: str | None = None
    """Column of the manifest to which the side of each cutout is proportional, such as a radius."""
    size_factor: Annotated[float, Range(1e-9, 1e9)] = 1.0
    """Side of a cutout in arcseconds, for 1 in `size_column`. Galaxy Zoo 2 has 8.48 for `petroR90_r`."""
    size_px: Annotated[int, Range(16, 4096)] = 256
    """Side of each cutout in pixels."""
    north_up: bool = False
    """Rotates the cutouts so that north is up and east is left; otherwise they are oriented like their tile."""
    max_empty_fraction: Annotated[float, Range(0, 1)] = 0.1
    """INCOMPLETE if a larger fraction of a cutout has no data, in one of its bands."""
    max_tile_bytes: Annotated[int, Range(1 << 20, 1 << 40)] = 1 << 30
    """Largest decompressed size of a tile that is compressed as a whole, by gzip or bzip2, and largest compressed size
    of a tile-compressed image (`.fits.fz`)."""

    @property
    def are_listed(self) -> bool:
        """Whether there is a list of all tiles, in which each object's tile is looked up by its position."""
        return self.table is not None or not self.name_columns

    @property
    def name_columns(self) -> bool:
        """Whether the templates name columns, rather than having wildcards."""
        return "{" in "".join(self.band_templates)

    @property
    def cutout_bytes(self) -> int:
        """Encoded size of a cutout: three bands of 32-bit floats and a header."""
        return BLOCK_BYTES + whole_blocks(3 * 4 * self.size_px**2)

    def __post_init__(self) -> None:
        name, templates = "manifest.tiles.band_templates", self.band_templates
        if not len(templates) == len(set(templates)) == 3:
            raise InputError(name, templates, "give three, all different: of the red, the green and the blue band")
        if len({"{" in template for template in templates}) > 1 or not (self.name_columns or "*" in templates[0]):
            raise InputError(name, templates, "give each with columns in braces, or each with wildcards (*)")
        if self.table is not None and not self.name_columns:
            raise InputError("manifest.tiles.table", self.table, "band_templates name no column of it in braces")
        footprint = {key: getattr(self, key) for key in ("ra_column", "dec_column", "width_deg", "height_deg")}
        given = [key for key, value in footprint.items() if value is not None]
        if given and (len(given) < len(footprint) or self.table is None):
            remedy = f"give all of {', '.join(footprint)}, with a table of the tiles, or none of them"
            raise InputError(f"manifest.tiles.{given[0]}", footprint[given[0]], remedy)
        if (self.side_arcsec is None) == (self.size_column is None):
            remedy = "give either side_arcsec or size_column: how large a cutout is on the sky"
            raise InputError("manifest.tiles.side_arcsec", self.side_arcsec, remedy)
        if self.size_column is None and self.size_factor != 1:
            raise InputError("manifest.tiles.size_factor", self.size_factor, "is only used with size_column")


@dataclass(frozen=True)
class ManifestConfig:
    """The table of objects and the location of their cutouts, or a folder of cutouts."""

    uri: Annotated[str, Uri]
    """Table of objects: Parquet (a file, a folder, a glob or a HATS catalog), CSV, TSV, ECSV, FITS or VOTable. Without
    image_column, uri_template and band_templates: the cutouts themselves, in a folder, a glob, a zip or a tar; the id
    of each is its file name without the ending."""
    id_column: str = "object_id"
    """Column of unique object ids: integers or strings."""
    ra_column: str | None = None
    """Column of right ascensions, ICRS, in degrees or the unit that the table declares. Leave out if the manifest has
    no positions."""
    dec_column: str | None = None
    """Column of declinations, ICRS, in degrees or the unit that the table declares. Needed exactly if `ra_column` is
    given."""
    image_column: str | None = None
    """Column that holds the cutouts: encoded bytes, `{bytes, path}` structs, URIs, or `{band, flux}` arrays."""
    image_bands: tuple[str, ...] = ()
    """Names of three bands in an `image_column` of `{band, flux}` arrays, in the order red, green, blue, e.g.
    `["DES-Z", "DES-R", "DES-G"]`. They are drawn as FITS bands are, by `classify.rgb`."""
    uri_template: str | None = None
    """URI of each cutout, with column names in braces, e.g. `../images/{dr7objid}.jpeg`; relative to the manifest's
    folder."""
    band_templates: tuple[str, ...] = ()
    """URIs of each cutout's three FITS files in the order red, green, blue, e.g. `["{field}-i.fits", "{field}-r.fits",
    "{field}-g.fits"]`; relative to the manifest's folder."""
    keep_columns: tuple[str, ...] = ()
    """Columns of the manifest that the catalog keeps, under the same names or, written as `RELEASE as survey_release`,
    other ones. A new name is needed where the name equals one of the catalog, in upper or lower case."""
    keep_image_uri: bool = False
    """Adds the location of each cutout to the catalog (`image_uri`), without user, password and the parameters of a URL
    that are credentials or signatures; null where the manifest holds the image. The record of the run then also keeps
    the other parameters of `uri_template` and `band_templates`, so that pages can fetch cutouts of a service."""
    integer_ids: bool = False
    """Text ids become int64; all must be whole numbers. For joins with tables that have the same ids as int64."""
    table: str | None = None
    """Table of a FITS file (name or number of its HDU) or VOTable (name, ID or number from 1) that has several."""
    recursive: bool = False
    """Whether cutouts in folders below `uri` belong to a folder of cutouts."""
    join: JoinConfig | None = None
    """A second table with further columns."""
    tiles: TilesConfig | None = None
    """Tiles of the survey, from which the cutouts are cut at the positions in the manifest."""

    @property
    def lists_images(self) -> bool:
        """Whether `uri` is a folder of cutouts, not a table."""
        return not self._locations

    @property
    def names_http(self) -> bool:
        """Whether the manifest or the templates name an http(s) host. URIs in the table itself may do so as well."""
        of_tiles = () if self.tiles is None else (self.tiles.table or "", *self.tiles.band_templates)
        return any(map(_HTTP.search, (self.uri, self.uri_template or "", *self.band_templates, *of_tiles)))

    @property
    def _locations(self) -> list[str]:
        """The settings that say where the cutouts are."""
        return [name for name in ("image_column", "uri_template", "band_templates", "tiles") if getattr(self, name)]

    def __post_init__(self) -> None:
        if len(self._locations) > 1 or (self.lists_images and _TABLE.search(self.uri)):
            remedy = "give exactly one of image_column, uri_template and band_templates, or of tiles to cut from"
            raise InputError("manifest", self.uri, remedy)
        if self.tiles is not None and self.ra_column is None:
            raise InputError("manifest.ra_column", None, "cutting from tiles needs positions: give their columns")
        if self.image_bands and not len(self.image_bands) == len(set(self.image_bands)) == 3:
            raise InputError("manifest.image_bands", self.image_bands, "give three, all different, the reddest first")
        if self.image_bands and self.image_column is None:
            raise InputError("manifest.image_bands", self.image_bands, "give image_column, which holds the bands")
        if self.join is not None and self.id_column in self.join.columns:
            raise InputError("manifest.join.columns", self.id_column, "the ids are in the first table: leave it out")
        if self.band_templates and not len(self.band_templates) == len(set(self.band_templates)) == 3:
            raise InputError("manifest.band_templates", self.band_templates, "give three, all different")
        if (self.ra_column is None) != (self.dec_column is None):
            raise InputError("manifest.ra_column", self.ra_column, "give both ra_column and dec_column, or neither")


_Factor = Annotated[float, Range(1e-12, 1e12)]


@dataclass(frozen=True)
class RgbConfig:
    """Conversion of the bands of a FITS cutout to an RGB image (Lupton et al. 2004, PASP 116, 133).

    The defaults make SDSS frames in nanomaggies (i, r, g as red, green, blue) look like SDSS's JPEG cutouts. Use the
    values the model was trained with; the defaults suit a model trained on SDSS JPEGs.
    """

    scale: tuple[_Factor, _Factor, _Factor] = (1.0, 1.2, 1.8)
    """Factors that multiply the pixels of the red, green and blue band, to adapt units and pixel scale."""
    minimum: Annotated[float, Range(-1e9, 1e9)] = 0.0
    """Black level: pixel value, after `scale`, that becomes black. 0 is right where the sky is subtracted."""
    stretch: Annotated[float, Range(1e-9, 1e9)] = 0.5
    """Linear stretch: intensities below this are mapped linearly."""
    q: Annotated[float, Range(1e-3, 1e6)] = 6.0
    """Asinh softening: higher values compress bright parts more and show more detail in them."""
    jpeg_quality: Annotated[int, Range(1, 100)] | None = None
    """Compresses the drawn image as JPEG of this quality, and decompresses it: for a model trained on JPEGs, to which
    images without their artefacts are UNFAMILIAR. Works best with cutouts of about as many pixels as the survey has."""
    planes: tuple[Annotated[int, Range(0)], ...] = ()
    """Planes of a cube, or images of a file, that are red, green and blue, counted from 0. The Legacy Surveys' cubes
    (g, r, z) need `[2, 1, 0]`. When not given, there must be exactly three, red first."""

    def __post_init__(self) -> None:
        if len(self.planes) not in (0, 3):
            raise InputError("rgb.planes", self.planes, "give three numbers: the red, the green and the blue plane")


@dataclass(frozen=True)
class ClassifyConfig:
    """How cutouts are read and classified. All of it is part of the fingerprint in the output's path."""

    chunk_rows: Annotated[int, Range(1, 1_000_000)] = 1024
    """Rows per chunk. A chunk is one unit of work and one part file."""
    max_image_bytes: Annotated[int, Range(1024, 1 << 30)] = 20 << 20
    """Largest encoded cutout in bytes; a larger one is not read and gets the status `too_large`."""
    max_image_pixels: Annotated[int, Range(1024, 1 << 30)] = 25_000_000
    """Largest cutout in pixels; a larger one is not decoded and gets the status `too_large`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point format of the network. `bf16` is about twice as fast on processors that support it; `auto` uses it
    if the checkpoint records that it hardly changes the predictions."""
    stability_views: Literal[1, 2, 4, 8] = 1
    """Number of views (flips and quarter turns) used to measure instability. Each costs one forward pass; 1 disables
    it. Ignored for a checkpoint that averages over several views, whose instability is measured over those."""
    rgb: RgbConfig = field(default_factory=RgbConfig)
    """Conversion of FITS cutouts to RGB; not used for other formats."""
    concentrations: bool = False
    """Adds the Dirichlet concentrations of the answers (`<question>_<answer>_dirichlet`), where the checkpoint answers
    questions of the decision tree."""
    embedding: Annotated[int, Range(0, 4096)] = 0
    """Numbers of the embedding of each cutout, which `find_similar` compares; 0 writes none. At most as many as the
    checkpoint has. They are published beside the rows, in `embedding/`."""


def fingerprint_settings(classify: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `[classify]`, without newer ones at their default: so that fingerprints of before stay valid."""
    added = {"concentrations": False, "embedding": 0}
    settings = {name: value for name, value in classify.items() if name not in added or value != added[name]}
    rgb = settings.get("rgb")
    if isinstance(rgb, Mapping) and rgb.get("jpeg_quality") is None:
        settings["rgb"] = {name: value for name, value in rgb.items() if name != "jpeg_quality"}
    return settings


@dataclass(frozen=True)
class ReviewConfig:
    """Limits above or below which a row is flagged for review."""

    min_confidence: Annotated[float, Range(0, 1)] | None = None
    """LOW_CONFIDENCE below this confidence. When not given, the checkpoint's threshold."""
    max_blank_fraction: Annotated[float, Range(0, 1)] = 0.9
    """BLANK if more than this fraction of the pixels equals the median brightness."""
    max_unfamiliarity: Annotated[float, Range(0)] | None = None
    """UNFAMILIAR above this distance from the training galaxies, in units of their mean distance. When not given, the
    checkpoint's limit."""
    max_instability: Annotated[float, Range(0, 0.5)] | None = None
    """UNSTABLE if the standard deviation of a class probability over the views exceeds this. When not given, the
    checkpoint's limit."""
    min_repeats: Annotated[int, Range(2)] = 3
    """REPEATED_IMAGE if at least this many objects have the identical file as cutout."""
    audit_fraction: Annotated[float, Range(0, 1)] = 0.01
    """AUDIT for this fraction of all rows, selected by a seeded hash of the id."""
    audit_seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of the audit sample."""


@dataclass(frozen=True)
class PublishConfig:
    """How the catalog is divided into files; does not change its values."""

    max_rows: Annotated[int, Range(1, 100_000_000)] = 1_000_000
    """Largest number of rows in a file; a HEALPix pixel with more is divided into four. Publishing holds three times
    this many rows in memory per CPU."""
    margin_arcsec: Annotated[float, Range(0, 60)] = 10.0
    """Width in arcseconds of the margin cache beside the catalog: rows near the border of each file's pixel, in other
    pixels. A crossmatch by LSDB needs it where the catalog is on the right side, up to this radius. 0 writes none."""
    index: bool = True
    """Whether an index by `object_id` is written beside the catalog, which LSDB's `id_search` needs."""


@dataclass(frozen=True)
class ReportConfig:
    """The HTML page of the release; does not change the catalog."""

    enabled: bool = True
    """Whether the job writes the page."""
    cutouts: Annotated[int, Range(0, 100)] = 8
    """Number of example galaxies per class and kind (confident, uncertain, flagged), and per answer to a question."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of the choice of example galaxies."""
    links: dict[str, str] = field(default_factory=SKY_LINKS.copy)
    """Links of each example galaxy: addresses by name, with `{ra}`, `{dec}` (degrees) and `{object_id}` in braces."""
    grad_cam: bool = True
    """Whether Grad-CAM maps of flagged example galaxies are shown. They need the checkpoint, and take seconds."""

    def __post_init__(self) -> None:
        check_links("report.links", self.links)


@dataclass(frozen=True)
class RuntimeConfig:
    """How Ray runs the job; changes the catalog by rounding errors at most."""

    num_cpus: Annotated[int, Range(1)] | None = None
    """Number of CPUs of a Ray started by the job; all when not given. Ignored on a running cluster."""
    wait_for_nodes_s: Annotated[float, Range(0)] = 600.0
    """Seconds to wait for the first worker node on a cluster whose head node runs no tasks."""
    grow_after_s: Annotated[float, Range(0)] = 30.0
    """Seconds after which a new node of the cluster gets work: the job then redistributes its work over all nodes."""
    actors: Annotated[int, Range(1)] | None = None
    """Number of model actors. When not given, two per GPU; on CPUs, what suits the engine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for the model; `auto` uses a GPU if Ray has one."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """Inference engine on CPUs; `auto` is OpenVINO if it is installed. GPUs always use torch."""
    batch_size: Annotated[int, Range(1, 65536)] | None = None
    """Cutouts per forward pass. When not given: OpenVINO 1 per core, torch 16, a GPU 512."""
    row_limit_s: Annotated[float, Range(0.01)] = 1.0
    """Time limit of a chunk in its worker, in seconds per cutout, plus 60 s. A worker that exceeds it is stopped and
    treated as if a cutout had crashed it."""
    requests_per_host: Annotated[int, Range(1, 1024)] = 4
    """Largest number of cutouts that the whole run requests at a time from one http(s) host; object stores and files
    are not limited. If the manifest's or the cutouts' location names no host, because the URIs are in the table, each
    read task makes at least one request at a time, so that more tasks than this exceed it."""
    max_suspect_chunks: Annotated[int, Range(0)] = 20
    """Largest number of chunks that are searched for crashing cutouts because their worker died twice; the cutouts
    get the status `crashed`. With more such chunks the job fails: cutouts are then hardly the cause."""
    progress_every_s: Annotated[float, Range(0.1)] = 5.0
    """Seconds between two progress messages."""


@dataclass(frozen=True)
class DryRunConfig:
    """Settings of `--dry-run`."""

    sample: Annotated[int, Range(1, 10_000)] = 32
    """Number of cutouts to fetch and classify, spread evenly over the manifest."""


@dataclass(frozen=True)
class CatalogConfig:
    """Settings of one catalog: manifest, checkpoint and output."""

    release: str
    """Name of the survey release; part of the output's path and a column of the catalog."""
    output_uri: Annotated[str, Uri]
    """Folder (any fsspec URI) for all outputs."""
    checkpoint_uri: Annotated[str, Uri]
    """Trained model: a `.safetensors` file written by `train_model`, or `builtin:gz2-smooth-featured`, which ships."""
    manifest: ManifestConfig
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    dry_run: DryRunConfig = field(default_factory=DryRunConfig)
    reuse_from: Annotated[str, Uri] | None = None
    """Previous catalog made with the same model. Rows with a byte-identical cutout take their predictions from it."""
    max_failed_fraction: Annotated[float, Range(0, 1)] = 0.05
    """Largest fraction of rows without a class. If exceeded, nothing is published and the exit code is 3. Another run
    looks for `missing` cutouts once more."""
    keep_unreachable: bool = False
    """Publish rows whose store did not respond, without a class. Otherwise nothing is published while there are such
    rows (exit code 3), and another run fetches them again."""
    overwrite: bool = False
    """Replace a published catalog of this release and model that was made from other input or settings."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.release) or not self.release.strip("."):
            raise InputError("release", self.release, "use letters, digits, '-', '_' and '.' only")
        if self.manifest.image_bands and self.classify.rgb.planes:
            remedy = "manifest.image_bands names the bands already: leave it out"
            raise InputError("classify.rgb.planes", list(self.classify.rgb.planes), remedy)
        tiles, classify = self.manifest.tiles, self.classify
        if tiles is not None:
            check_cutout_size(tiles, classify.max_image_bytes, "classify.max_image_bytes")
            if classify.rgb.planes:
                remedy = "leave it out: manifest.tiles.band_templates are already red, green, blue"
                raise InputError("classify.rgb.planes", classify.rgb.planes, remedy)


def check_cutout_size(tiles: TilesConfig, max_image_bytes: int, setting: str) -> None:
    """Refuse cutouts from tiles that exceed the limit of a cutout's size, which `setting` names."""
    if tiles.cutout_bytes > max_image_bytes:
        remedy = f"a cutout has {tiles.cutout_bytes} bytes, more than {setting} = {max_image_bytes}"
        raise InputError("manifest.tiles.size_px", tiles.size_px, remedy)
