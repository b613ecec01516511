import pickle

import pytest

from galaxy_batch.errors import GateError, InputError, without_secrets


def test_an_input_error_names_field_value_and_remedy() -> None:
    assert str(InputError("split.fold", 9, "must be below 5")) == "split.fold = 9: must be below 5"


def test_long_values_are_shortened() -> None:
    assert len(str(InputError("manifest", "x" * 5000, "shorter"))) < 400


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(InputError("a", [1], "b")))
    assert (error.field, error.value, error.remedy) == ("a", [1], "b")
    gate = pickle.loads(pickle.dumps(GateError("too many", {"rows": 3})))
    assert (str(gate), gate.summary) == ("too many", {"rows": 3})


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@host/bucket/x", "s3://host/bucket/x"),
        ("sftp://user:se/cr@et@host:22/x", "sftp://host:22/x"),
        ("https://host/x.csv?X-Amz-Signature=abc#f", "https://host/x.csv"),
        ("https://token@host:8000/a@b/my file.csv?sig=secret", "https://host:8000/a@b/my file.csv"),
        ("http://[::1]:8000/x?token=secret", "http://[::1]:8000/x"),
        ("simplecache::https://user:secret@host/x?y", "simplecache::https://host/x"),
        ("zip://a.jpg::https://user:secret@host/x.zip?sig=secret", "zip://a.jpg::https://host/x.zip"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("hf://datasets/someone/galaxies@v1/x.parquet", "hf://datasets/someone/galaxies@v1/x.parquet"),
        ("/local/path?#", "/local/path?#"),
        ("/a::b/c", "/a::b/c"),
    ],
)
def test_without_secrets_removes_credentials(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_messages_contain_no_credentials() -> None:
    uri = "https://user:secret@host/my survey.csv?X-Amz-Signature=secret"
    assert str(InputError("manifest.uri", uri, "empty")) == "manifest.uri = 'https://host/my survey.csv': empty"
    uri = "https://user:secret@host/survey.csv?X-Amz-Signature=secret"
    error = InputError("manifest", {"uri": uri}, f"no such column in {uri}; it has ra")
    assert (
        str(error)
        == "manifest = {'uri': 'https://host/survey.csv'}: no such column in https://host/survey.csv it has ra"
    )
    assert "secret" not in repr(InputError("manifest.uri", uri, f"no such column in {uri}"))
    assert str(GateError(f"no {uri}, it is gone", {})) == "no https://host/survey.csv it is gone"
