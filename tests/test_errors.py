import pickle

import pytest

from galaxy_batch.errors import GateError, InputError, without_credentials, without_secrets


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


_AZURE = (
    "sv=2022-11-02&ss=b&srt=co&sp=rl&se=2026-12-31T23:59:59Z&st=2026-01-01T00:00:00Z&spr=https&sip=168.1.5.60-168.1.5.70"
    "&skoid=0a1b&sktid=2c3d&skt=2026-01-01&ske=2026-01-02&sks=b&skv=2022-11-02&sr=b&si=policy&sig=kPq%2Bx%3D"
)


@pytest.mark.parametrize(
    ("uri", "published"),
    [
        # signed links, as the stores document them
        ("https://b.s3.amazonaws.com/7.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026"
         "&X-Amz-Date=20261126T000000Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=IQoJ"
         "&x-amz-signature=aeee", "https://b.s3.amazonaws.com/7.jpg"),
        ("https://b.s3.amazonaws.com/7.jpg?versionId=3L4k&AWSAccessKeyId=AKIAI44&Signature=vjby%2Bg%3D&Expires=1175139620",
         "https://b.s3.amazonaws.com/7.jpg?versionId=3L4k"),
        ("https://storage.googleapis.com/b/7.jpg?x-goog-algorithm=GOOG4-RSA-SHA256&x-goog-credential=a%40b.com"
         "&X-Goog-Date=2026&X-Goog-Expires=9&X-Goog-SignedHeaders=host&X-Goog-Signature=24", "https://storage.googleapis.com/b/7.jpg"),
        ("https://storage.googleapis.com/b/7.jpg?GoogleAccessId=a%40b.iam&Expires=1458238630&Signature=VVUg",
         "https://storage.googleapis.com/b/7.jpg"),
        ("https://firebasestorage.googleapis.com/v0/b/x/o/7.jpg?alt=media&token=5a1f", "https://firebasestorage.googleapis.com/v0/b/x/o/7.jpg?alt=media"),
        (f"https://a.blob.core.windows.net/c/7.jpg?{_AZURE}", "https://a.blob.core.windows.net/c/7.jpg"),
        ("https://d1.cloudfront.net/7.jpg?size=5&Policy=eyJTdGF0&Signature=nitf&Key-Pair-Id=K2JC", "https://d1.cloudfront.net/7.jpg?size=5"),
        ("https://b.oss-cn.aliyuncs.com/7.jpg?OSSAccessKeyId=nz&Expires=11&Signature=Vh", "https://b.oss-cn.aliyuncs.com/7.jpg"),
        ("https://b.cos.myqcloud.com/7.jpg?q-sign-algorithm=sha1&q-ak=AK&q-sign-time=1;2&q-key-time=1;2&q-header-list="
         "&q-url-param-list=&q-signature=bf", "https://b.cos.myqcloud.com/7.jpg"),
        ("https://cdn.example/7.jpg?hdnts=exp=1~hmac=ab", "https://cdn.example/7.jpg"),
        # cutout services
        ("https://skyserver.sdss.org/dr18/SkyServerWS/ImgCutout/getjpeg?ra=1.5&dec=-2&scale=0.4&width=64&height=64&opt=",
         "https://skyserver.sdss.org/dr18/SkyServerWS/ImgCutout/getjpeg?ra=1.5&dec=-2&scale=0.4&width=64&height=64&opt="),
        ("https://www.legacysurvey.org/viewer/cutout.jpg?ra=1&dec=2&layer=ls-dr10&pixscale=0.262&bands=grz",
         "https://www.legacysurvey.org/viewer/cutout.jpg?ra=1&dec=2&layer=ls-dr10&pixscale=0.262&bands=grz"),
        ("https://alasky.cds.unistra.fr/hips-image-services/hips2fits?hips=CDS%2FP%2FDSS2&ra=1&dec=2&fov=0.1&stretch=linear",
         "https://alasky.cds.unistra.fr/hips-image-services/hips2fits?hips=CDS%2FP%2FDSS2&ra=1&dec=2&fov=0.1&stretch=linear"),
        ("https://sia.example/query?POS=CIRCLE+1+2+0.1&SR=0.1&ST=i&monkey=1&filters=g;r", "https://sia.example/query?POS=CIRCLE+1+2+0.1&SR=0.1&ST=i&monkey=1&filters=g;r"),
        # keys and passwords
        ("https://x.example/c?ra=1&api_key=s&APIKEY=s&access_token=s&password=s&key=s&user=me&sessionid=s&dec=2", "https://x.example/c?ra=1&dec=2"),
        ("https://me:secret@x.example/c?ra=1#access_token=s", "https://x.example/c?ra=1"),
        ("https://x.example/c?ra=1&%74oken=s&amp;sig=s&x=1;token=s", "https://x.example/c?ra=1"),
        ("https://x.example/c?ra=1&id_hint=eyJhbGci.eyJzdWIi.c2ln&from=https%3A%2F%2Fme%3As%40y.example%2F", "https://x.example/c?ra=1"),
        ("https://x.example/c?kPq5xZ", "https://x.example/c"),
        ("https://x.example/c?", "https://x.example/c"),
        ("s3://key:secret@bucket/7.jpg", "s3://bucket/7.jpg"),
        ("zip://a?b.jpg::https://me:s@x.example/i.zip?v=2&sig=s", "zip://a?b.jpg::https://x.example/i.zip?v=2"),
        ("/data/what?token=a.jpg", "/data/what?token=a.jpg"),
    ],
)  # fmt: skip
def test_a_published_uri_keeps_what_a_cutout_service_needs_and_no_credentials(uri: str, published: str) -> None:
    assert without_credentials(uri) == published
    assert without_credentials(published) == published
