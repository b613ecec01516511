import importlib.util
import subprocess
import sys

import fsspec
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.storage.drivers import filesystem, filesystem_without_retries

WITHOUT = """
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from galaxy_batch.storage.drivers import filesystem
from galaxy_batch.errors import InputError
try:
    filesystem({uri!r})
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://bucket/x", "s3fs", "s3"),
        ("hf://datasets/a/b/x.parquet", "huggingface_hub", "hf"),
        ("https://host/x.jpg", "aiohttp", "http"),
    ],
)
def test_a_missing_driver_is_named(uri: str, package: str, extra: str) -> None:
    script = WITHOUT.format(package=package, uri=uri)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert process.stdout == f"uri = {uri!r}: no driver for this scheme: install {package}, or galaxy-batch[{extra}]\n"


@pytest.mark.parametrize(
    ("uri", "package", "remedy"),
    [
        ("gs://bucket/x", "gcsfs", r"install gcsfs, or galaxy-batch\[gcs\]"),
        ("gcs://bucket/x", "gcsfs", r"install gcsfs, or galaxy-batch\[gcs\]"),
        ("abfs://container@account/x", "adlfs", "Install adlfs"),
        ("simplecache::gs://bucket/x", "gcsfs", "gcsfs"),
    ],
)
def test_missing_drivers_that_the_tests_do_not_install_are_named(uri: str, package: str, remedy: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(InputError, match=f"no driver for this scheme: .*{remedy}"):
        filesystem(uri)


def test_an_unknown_scheme_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no driver for this scheme: Protocol not known: nosuchscheme"):
        filesystem("nosuchscheme://bucket/x")


def test_the_users_boto_settings_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    plain, _ = filesystem_without_retries("s3://bucket/x")
    assert plain.config_kwargs["retries"]["total_max_attempts"] == 1
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 99, "retries": {"mode": "adaptive"}}}
    )
    chosen, path = filesystem_without_retries("s3://bucket/x")
    assert path == "bucket/x"
    assert chosen.config_kwargs["read_timeout"] == 99
    assert chosen.config_kwargs["retries"] == {"mode": "adaptive"}
    assert chosen.config_kwargs["max_pool_connections"] == plain.config_kwargs["max_pool_connections"]
