import dataclasses
import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import Range, check_annotations, load_config, parse_config, resolve_uri
from tests.support.configs import CATALOG_VALUES
from tests.support.repository import REPOSITORY


def test_defaults_and_overrides() -> None:
    config = parse_config(
        CatalogConfig, CATALOG_VALUES, ["review.audit_fraction=0.5", "release=dr8", "manifest.keep_columns=['z']"]
    )
    assert config.review.audit_fraction == 0.5
    assert config.release == "dr8"
    assert config.manifest.keep_columns == ("z",)
    assert config.output_uri == "s3://bucket/out"
    assert config.manifest.uri == str(Path("objects.csv").absolute())


def test_integers_are_accepted_as_floats_and_booleans_are_not_numbers() -> None:
    assert parse_config(CatalogConfig, CATALOG_VALUES, ["max_failed_fraction=1"]).max_failed_fraction == 1.0
    with pytest.raises(InputError, match=r"classify\.chunk_rows = True: must be of type int"):
        parse_config(CatalogConfig, CATALOG_VALUES, ["classify.chunk_rows=true"])
    with pytest.raises(InputError, match=r"classify\.stability_views = True: must be one of 1, 2, 4, 8"):
        parse_config(CatalogConfig, CATALOG_VALUES, ["classify.stability_views=true"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("relase=x", "relase = 'x': unknown key; did you mean release?"),
        ("review.audit_fration=0.1", "review.audit_fration = 0.1: unknown key; did you mean review.audit_fraction?"),
        ("review.audit_fraction=1.5", "review.audit_fraction = 1.5: must be between 0 and 1"),
        ("review.audit_fraction=nan", "review.audit_fraction = nan: must be between 0 and 1"),
        ("classify.chunk_rows='many'", "classify.chunk_rows = 'many': must be of type int, not str"),
        ("runtime.device=tpu", "runtime.device = 'tpu': must be one of 'auto', 'cpu', 'cuda'"),
        ("manifest.keep_columns=z", "manifest.keep_columns = 'z': must be a list"),
        ("review=3", "review = 3: must be a section: [review]"),
        ("output_uri=''", "output_uri = '': must not be empty"),
        ("classify.rgb.stretch=0", "classify.rgb.stretch = 0.0: must be between"),
        ("classify.rgb.scale=[1, 2]", "classify.rgb.scale = [1, 2]: must be a list of 3 values"),
        ("classify.rgb.scale=[1, 2, nan]", "classify.rgb.scale[2] = nan: must be between 1e-12 and 1e+12"),
        ("classify.rgb.planes=[2, 1, -1]", "classify.rgb.planes[2] = -1: must be at least 0"),
        ("runtime.actors=0", "runtime.actors = 0: must be at least 1"),
        ("classify.rgb.strech=1", "did you mean classify.rgb.stretch?"),
        ("no equals sign", "write key=value"),
        ("release.name=x", "release is a value, not a section"),
    ],
)
def test_errors_name_field_value_and_remedy(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(CatalogConfig, CATALOG_VALUES, [override])
    assert message in str(caught.value)


def test_a_missing_required_field_is_named() -> None:
    with pytest.raises(InputError, match="checkpoint_uri = None: is required"):
        parse_config(CatalogConfig, {k: v for k, v in CATALOG_VALUES.items() if k != "checkpoint_uri"})


def test_missing_files_and_invalid_toml_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config(CatalogConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("release = \n")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(CatalogConfig, tmp_path / "bad.toml")


def test_uris_keep_their_scheme_and_paths_become_absolute() -> None:
    assert resolve_uri("gs://b/x") == "gs://b/x"
    assert resolve_uri("a/b") == str(Path("a/b").absolute())


def test_every_config_class_of_the_project_can_be_parsed() -> None:
    names = []
    for folder in ("galaxy_batch", "train", "jobs"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            module = importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
            for name, kind in vars(module).items():
                if name.endswith("Config") and kind.__module__ == module.__name__:
                    check_annotations(kind)
                    names.append(name)
    assert {"CatalogConfig", "PackConfig", "ExportConfig", "CompareConfig", "TrainConfig", "DemoConfig"} <= set(names)


def test_every_supported_annotation_is_checked() -> None:
    kind = dataclasses.make_dataclass(
        "Every",
        [
            ("pair", tuple[int, str]),
            ("limits", tuple[Annotated[float, Range(0, 1)], ...]),
            ("table", dict[str, tuple[bool, ...]]),
            ("choice", Literal["a", 1] | None),
        ],
    )
    values = {"pair": [1, "x"], "limits": [0, 0.5], "table": {"x": [True]}, "choice": None}
    assert parse_config(kind, values) == kind((1, "x"), (0.0, 0.5), {"x": (True,)}, None)
    for override, message in (
        ("pair=[1, 2]", "pair[1] = 2: must be of type str, not int"),
        ("pair=[1]", "pair = [1]: must be a list of 2 values"),
        ("limits=[2]", "limits[0] = 2.0: must be between 0 and 1"),
        ("table.x=[1]", "table.x[0] = 1: must be of type bool, not int"),
        ("table=1", "table = 1: must be a section"),
        ("choice=1.0", "choice = 1.0: must be one of 'a', 1"),
    ):
        with pytest.raises(InputError) as caught:
            parse_config(kind, values, [override])
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "hint", [int | str, int | str | None, list[int], set[str], bytes, dict[int, str], Annotated[int, "up"], tuple]
)
def test_an_unsupported_annotation_names_class_and_field(hint: Any) -> None:
    inner = dataclasses.make_dataclass("Inner", [("fits", int, 1), ("odd", hint, None)])
    outer = dataclasses.make_dataclass("Outer", [("inner", inner | None, None)])
    with pytest.raises(TypeError, match=r"Inner\.odd: settings cannot have the type"):
        parse_config(outer, {})
