from pathlib import Path

import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import load_config, parse_config, resolve_uri
from tests.test_config import VALUES


def test_defaults_and_overrides() -> None:
    config = parse_config(
        CatalogConfig, VALUES, ["review.audit_fraction=0.5", "release=dr8", "manifest.keep_columns=['z']"]
    )
    assert config.review.audit_fraction == 0.5
    assert config.release == "dr8"
    assert config.manifest.keep_columns == ("z",)
    assert config.output_uri == "s3://bucket/out"
    assert config.manifest.uri == str(Path("objects.csv").absolute())


def test_whole_numbers_are_good_floats_and_true_is_no_number() -> None:
    assert parse_config(CatalogConfig, VALUES, ["max_failed_fraction=1"]).max_failed_fraction == 1.0
    with pytest.raises(InputError, match=r"classify\.chunk_rows = True: must be of type int"):
        parse_config(CatalogConfig, VALUES, ["classify.chunk_rows=true"])


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
        ("classify.rgb.strech=1", "did you mean classify.rgb.stretch?"),
        ("no equals sign", "write it as key=value"),
        ("release.name=x", "release is a value, not a section"),
    ],
)
def test_each_mistake_is_named_with_its_remedy(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(CatalogConfig, VALUES, [override])
    assert message in str(caught.value)


def test_what_is_required_is_named() -> None:
    with pytest.raises(InputError, match="checkpoint_uri = None: is required"):
        parse_config(CatalogConfig, {k: v for k, v in VALUES.items() if k != "checkpoint_uri"})


def test_files_that_are_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config(CatalogConfig, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("release = \n")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(CatalogConfig, tmp_path / "bad.toml")


def test_uris_keep_their_scheme_and_paths_become_absolute() -> None:
    assert resolve_uri("gs://b/x") == "gs://b/x"
    assert resolve_uri("a/b") == str(Path("a/b").absolute())
