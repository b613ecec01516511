"""Configurations of jobs on the simulated survey, as TOML and as objects."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from galaxy_batch.config import CatalogConfig
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.models import SavedModel

CATALOG_VALUES = {
    "release": "dr7",
    "output_uri": "s3://bucket/out",
    "checkpoint_uri": "/m.safetensors",
    "manifest": {"uri": "objects.csv", "uri_template": "{object_id}.jpg"},
}


POSITIONS = {"ra_column": "ra", "dec_column": "dec"}


CATALOG_TOML = """
release = "made-up"
output_uri = "{output}"
checkpoint_uri = "{checkpoint}"
max_failed_fraction = 0.5
[manifest]
uri = "{manifest}"
ra_column = "ra"
dec_column = "dec"
uri_template = "images/{{object_id}}.jpg"
[classify]
chunk_rows = 7
[runtime]
num_cpus = 1
"""


PACK_TOML = """
output_uri = "{output}"
shard_bytes = 1_048_576
row_group_rows = 32
[manifest]
uri = "{manifest}"
id_column = "dr7objid"
ra_column = "ra"
dec_column = "dec"
uri_template = "{images}/{{dr7objid}}.jpeg"
keep_columns = ["gz1_class"]
[runtime]
num_cpus = 1
engine = "torch"
"""


def catalog_config(survey: SurveyFiles, model: SavedModel, output: Path, **settings: Any) -> CatalogConfig:
    values: dict[str, Any] = {
        "release": "made-up",
        "output_uri": str(output),
        "checkpoint_uri": model.uri,
        "max_failed_fraction": 0.5,
        "manifest": {
            "uri": str(survey.manifest),
            "ra_column": "ra",
            "dec_column": "dec",
            "uri_template": "images/{object_id}.jpg",
        },
        "classify": {"chunk_rows": 7},
        "runtime": {"actors": 1},
        "report": {"enabled": False},  # seconds for its figures
    }
    return parse_config(CatalogConfig, {**values, **settings})


@dataclasses.dataclass(frozen=True)
class FinishedRelease:
    """A published catalog."""

    config: CatalogConfig
    summary: dict[str, Any]

    def copy(self, output: Path) -> CatalogConfig:
        """Copy the output of the run; the config of the copy."""
        shutil.copytree(self.config.output_uri, output, dirs_exist_ok=True)
        return dataclasses.replace(self.config, output_uri=str(output))


def pack_config(survey: SurveyFiles, output: Path, **settings: Any) -> PackConfig:
    """Row groups of 4 rows and about five shards."""
    values: dict[str, Any] = {
        "output_uri": str(output),
        "manifest": {"uri": str(survey.manifest), "uri_template": "images/{object_id}.jpg", **POSITIONS},
        "row_group_rows": 4,
        "max_failed_fraction": 0.1,
        "runtime": {"num_cpus": 1},
    }
    config = parse_config(PackConfig, {**values, **settings})
    total = sum(file.stat().st_size for file in survey.images.iterdir())
    return dataclasses.replace(
        config, shard_bytes=total // 5
    )  # below the minimum of a config, because the survey is small
