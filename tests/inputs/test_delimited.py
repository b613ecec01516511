import bz2
import codecs
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.table import Table

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.tables import read_table
from tests.support.manifests import manifest_config, manifest_rows

BIG = 1237648720693755918  # beyond 2**53
ROWS = [(BIG, 233.34214169, -0.41568961), (BIG + 1, 23.77442919, 14.00331763), (BIG + 2, 0.5, 61.9)]
HEAD, BODY = "objid,ra,dec\n", "".join(f"{i},{ra},{dec}\n" for i, ra, dec in ROWS)
VIZIER = (
    "#\n#   VizieR Astronomical Server\n#Coosys\tJ2000:\teq_FK5 J2000\n#Column\tobjid\t(I19)\n\nobjid\tra\tdec\n"
    " \tdeg\tdeg\n-------------------\t----------\t----------\n"
    + "".join(f"{i}\t{ra:012.8f}\t{dec:+011.8f}\n" for i, ra, dec in ROWS)
    + "#END#\n"
)


def typed(folder: Path, values: list[str], name: str = "t.csv") -> pa.ChunkedArray:
    """A kept column of a CSV file."""
    (folder / name).write_text("objid,ra,dec,z\n" + "".join(f"{n},1,2,{v}\n" for n, v in enumerate(values)))
    return manifest_rows(manifest_config(folder / name, keep_columns=("z",)))["z"]


ARCHIVES = {
    "plain": HEAD + BODY,
    "SkyServer": "#Table1\n" + HEAD + BODY,
    "comments": "# r < 17\n# 2024-05-01\n\n" + HEAD + BODY,
    "comments within": "# r < 17\n" + HEAD + BODY.replace("\n", "\n# checked\n", 1),
    "commented row": "# r < 17\n" + HEAD + BODY + "#5,1.0,2.0\n",
    "names in a comment": "#" + HEAD + BODY,
    "names in the last comment": "# from TOPCAT\n# objid, ra, dec\n" + BODY,
    "blanks after commas": (HEAD + BODY).replace(",", ", "),
    "semicolons": (HEAD + BODY).replace(",", ";"),
    "tabs": (HEAD + BODY).replace(",", "\t"),
    "bars": (HEAD + BODY).replace(",", " | "),
    "Excel": "sep=;\n" + (HEAD + BODY).replace(",", ";"),
    "Windows": (HEAD + BODY).replace("\n", "\r\n"),
    "quoted": '"objid","ra","dec"\n' + BODY.replace(",", '","').replace("\n", '"\n').replace(str(BIG)[:3], '"123'),
    "another column twice": "n,objid,n,ra,dec\n" + "".join(f"1,{i},2,{ra},{dec}\n" for i, ra, dec in ROWS),
    "VizieR": VIZIER,
    "blank last lines": HEAD + BODY + "\n  \n",
}


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("text", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_tables_as_archives_write_them(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    path.write_text(text)
    rows = manifest_rows(manifest_config(path))
    assert rows["object_id"].to_pylist() == [row[0] for row in ROWS]
    assert list(zip(rows["ra"].to_pylist(), rows["dec"].to_pylist(), strict=True)) == [row[1:] for row in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        (HEAD + BODY).encode("utf-16"),
        codecs.BOM_UTF16_BE + ("#Table1\n" + HEAD + BODY).encode("utf-16-be"),
        (HEAD + BODY).encode("utf-16-le"),
        (HEAD + BODY).encode("utf-8-sig"),
        ("#Table1\n" + HEAD + BODY).encode("utf-8-sig"),
        ("objid,ra,dec,observer\n" + BODY.replace("\n", ",Lund\u00e9n\n")).encode("latin-1"),
    ],
    ids=["UTF-16", "UTF-16 BE", "UTF-16 without mark", "UTF-8 with mark", "mark and comment", "Latin-1 elsewhere"],
)
def test_encodings(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "t.csv.bz2").write_bytes(bz2.compress(content))
    for name in ("t.csv", "t.csv.gz", "t.csv.bz2"):
        rows = manifest_rows(manifest_config(tmp_path / name))
        assert rows["object_id"].to_pylist() == [row[0] for row in ROWS]
        assert rows["ra"].to_pylist() == [row[1] for row in ROWS]


def test_latin_1_in_a_wanted_column_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(("objid,ra,dec,who\n" + BODY.replace("\n", ",Lund\u00e9n\n")).encode("latin-1"))
    with pytest.raises(InputError, match=r"column 'who'.*invalid UTF8"):
        manifest_rows(manifest_config(tmp_path / "t.csv", keep_columns=("who",)))


def test_ecsv_may_be_named_csv(tmp_path: Path) -> None:
    ids, ra, dec = zip(*ROWS, strict=True)
    for delimiter in (" ", ","):
        Table({"objid": ids, "ra": ra, "dec": dec}).write(
            tmp_path / "t.csv", format="ascii.ecsv", delimiter=delimiter, overwrite=True
        )
        assert manifest_rows(manifest_config(tmp_path / "t.csv"))["ra"].to_pylist() == list(ra)


@pytest.mark.parametrize("rows", [3, 3000])
def test_line_breaks_in_quotes_are_read_whatever_the_size(tmp_path: Path, rows: int) -> None:
    note = '"a ring?\n\nor ""two"" arms\n# no comment\n' + "x " * 500 + '"'
    text = "objid,ra,dec,note\n" + "".join(f"{n},{n / 10},1,{note}\n" for n in range(rows))
    (tmp_path / "t.csv").write_text(text)
    read = manifest_rows(manifest_config(tmp_path / "t.csv", keep_columns=("note",)), 10**6)
    assert read["object_id"].to_pylist() == list(range(rows))
    assert set(read["note"].to_pylist()) == {note[1:-1].replace('""', '"')}


def test_the_type_of_a_column_depends_on_all_its_values_whatever_the_size(tmp_path: Path) -> None:
    values = ["17"] * 400_000  # far beyond the first block
    assert typed(tmp_path, [*values, "x"]).type == pa.string()
    assert typed(tmp_path, [*values, "0.5"]).type == pa.float64()
    assert typed(tmp_path, [*["0.5"] * 400_000, "x"]).type == pa.string()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "", "-3"], [1, None, -3]),
        (["10213120910681975808", "5"], ["10213120910681975808", "5"]),
        (["10213120910681975808", ""], ["10213120910681975808", None]),
        (["0000003", "7"], ["0000003", "7"]),
        (["007", ""], ["007", None]),
        (["0x1F", "0x20"], ["0x1F", "0x20"]),
        (["0", "10"], [0, 10]),
        (["0.5", "1237648720693755918"], ["0.5", "1237648720693755918"]),
        (["0.5", "00.25"], [0.5, 0.25]),
        (["+0.5", "NaN"], [0.5, None]),
        (["true", "False"], [True, False]),
        (["E", "SB0"], ["E", "SB0"]),
        (["", ""], [None, None]),
    ],
)
def test_kept_values_stay_exact(tmp_path: Path, values: list[str], expected: list[Any]) -> None:
    column = typed(tmp_path, values)
    assert column.to_pylist() == expected
    assert [type(value) for value in column.to_pylist()] == [type(value) for value in expected]


@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01"], ["2020-01-01T00:00:00"], ["2020-01-01 00:00:00.5"], ["2020-01-01T00:00:00Z"], ["12:30:00"],
        ["1e5"], ["inf"], [" 5"], ["1.5", ""], ["true"], ["1", "2.5"], ["x"], ['"a, b"'], [" x "], ["NA", "x"],
    ],
)  # fmt: skip
def test_other_values_have_the_types_that_pyarrow_infers(tmp_path: Path, values: list[str]) -> None:
    column = typed(tmp_path, values)
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    inferred = pyarrow.csv.read_csv(tmp_path / "t.csv", convert_options=options)["z"]
    assert column.equals(inferred)
    assert column.type == inferred.type


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([str(BIG), str(BIG + 1)], [BIG, BIG + 1]),
        (["-5", "7"], [-5, 7]),
        (["007", "8"], ["007", "8"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1e5", "2"], ["1e5", "2"]),
        (["J1237+02", "x"], ["J1237+02", "x"]),
    ],
)
def test_ids_are_exact(tmp_path: Path, ids: list[str], expected: list[object]) -> None:
    (tmp_path / "t.csv").write_text("objid,ra,dec\n" + "\n".join(f"{i},0.1,0.2" for i in ids) + "\n")
    config = manifest_config(tmp_path / "t.csv")
    assert read_table(config.uri, config)["objid"].to_pylist() == expected


def test_units_of_vizier_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(VIZIER.replace(" \tdeg\tdeg", " \tarcsec\tarcsec"))
    rows = manifest_rows(manifest_config(tmp_path / "t.tsv"))
    assert rows["ra"].to_pylist() == pytest.approx([row[1] / 3600 for row in ROWS], rel=1e-8)
    (tmp_path / "t.tsv").write_text(VIZIER.replace("eq_FK5 J2000", "galactic"))
    with pytest.raises(InputError, match="declares the frame 'galactic'"):
        manifest_rows(manifest_config(tmp_path / "t.tsv"))


def test_files_that_agree_only_as_text_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("objid,ra,dec,z\n1,1,2,1234567\n")
    (tmp_path / "1.csv").write_text("objid,ra,dec,z\n2,1,2,0000003\n")
    assert manifest_rows(manifest_config(tmp_path / "*.csv", keep_columns=("z",)))["z"].to_pylist() == [
        "1234567",
        "0000003",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + BODY + "5,1.0,2.0,3.0\n", "line 5 has 4 values, not 3: '5,1.0,2.0,3.0'"),
        ("#Table1\n" + HEAD + BODY + "5,1.0\n", "line 6 has 2 values, not 3: '5,1.0'"),
        ("id,ra,dec\n" + BODY, r"manifest\.id_column = 'objid': no such column in .*t\.csv; it has id, ra, dec"),
        ("# made up\nid;ra;dec\n" + BODY.replace(",", ";"), "no such column in .*; it has id, ra, dec"),
        ("objid,ra,dec,ra\n", r"manifest\.ra_column = 'ra': several columns of this name"),
        (HEAD + "5,deg,deg\n", "'deg' is not a number: decimal degrees are needed"),
        ((HEAD + BODY).replace(",", ";").replace(".", ","), "'233,34214169' is not a number"),
        ("<!DOCTYPE html><html>", "begins with b'<!DOCTYPE html><html>': not a CSV table"),
        ("SIMPLE  =                    T", "begins with b'SIMPLE  = .*: not a CSV table"),
        ("", "has no line of column names"),
        ("# only\n# comments\n", "has no line of column names"),
        (HEAD + BODY + "#5,1.0,2.0\n", "1 rows begin with '#', the first with '#5'"),
        (HEAD, "the manifest has no rows"),
    ],
    ids=[
        "long row",
        "short row",
        "names",
        "names below comments",
        "names twice",
        "units",
        "decimal commas",
        "HTML",
        "FITS",
        "empty",
        "comments",
        "a commented row",
        "no rows",
    ],
)
def test_tables_that_cannot_be_read_are_refused_naming_line_and_cause(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        manifest_rows(manifest_config(tmp_path / "t.csv"))


def test_names_of_old_configs_are_still_found(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("#" + HEAD.replace(",dec", ", dec") + BODY)
    config = manifest_config(tmp_path / "t.csv", id_column="#objid", dec_column=" dec", uri_template="{#objid}.jpg")
    assert manifest_rows(config)["object_id"].to_pylist() == [row[0] for row in ROWS]
