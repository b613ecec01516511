import logging
from pathlib import Path

import pytest

from galaxy_batch.errors import InputError
from tests.support.manifests import manifest_config, manifest_rows

BIG = 1237648720693755918  # beyond 2**53
COOSYS = '<COOSYS ID="sys" system="{system}" equinox="{equinox}"/>'
FIELDS = """
<FIELD ID="col1" name="objid" datatype="long"/>
<FIELD ID="col2" name="ra" datatype="double" unit="{unit}" {about}/>
<FIELD ID="col3" name="dec" datatype="double" unit="{unit}"/>
"""
DATA = "<DATA><TABLEDATA><TR><TD>{first}</TD><TD>1.5</TD><TD>-0.5</TD>{more}</TR></TABLEDATA></DATA>"


def table(
    name: str = "objects", unit: str = "deg", about: str = "", first: int = BIG, ra: float = 1.5, **extra: str
) -> str:
    fields = FIELDS.format(unit=unit, about=about) + extra.get("fields", "")
    return f'<TABLE name="{name}">{fields}{DATA.format(first=first, ra=ra, more=extra.get("more", ""))}</TABLE>'


def write(folder: Path, *parts: str) -> Path:
    path = folder / "t.vot"
    content = "\n".join(parts)
    path.write_text(
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE type='results'>{content}</RESOURCE></VOTABLE>"
    )
    return path


@pytest.mark.parametrize("names", [("objid", "ra", "dec"), ("col1", "col2", "col3"), ("objid", "col2", "dec")])
def test_columns_are_called_by_name_or_id(tmp_path: Path, names: tuple[str, str, str]) -> None:
    config = manifest_config(
        write(tmp_path, table()), id_column=names[0], ra_column=names[1], dec_column=names[2],
        uri_template=f"{{{names[0]}}}.jpg",
    )  # fmt: skip
    (row,) = manifest_rows(config).to_pylist()
    assert (row["object_id"], row["ra"], row["dec"]) == (BIG, 1.5, -0.5)


def test_a_name_of_two_columns_is_refused(tmp_path: Path) -> None:
    twice = table(fields='<FIELD ID="col4" name="ra" datatype="double"/>', more="<TD>7</TD>")
    with pytest.raises(InputError, match=r"manifest\.ra_column = 'ra': several columns of this name"):
        manifest_rows(manifest_config(write(tmp_path, twice)))
    config = manifest_config(write(tmp_path, twice), ra_column="col4")
    assert manifest_rows(config)["ra"].to_pylist() == [7]


def test_one_of_several_tables_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, table("first", first=1), table("second", first=2))
    with pytest.raises(InputError, match=r'several tables: 1 first, 2 second; name one, e\.g\. manifest\.table = "1"'):
        manifest_rows(manifest_config(path))
    for chosen in ("second", "2"):
        assert manifest_rows(manifest_config(path, table=chosen))["object_id"].to_pylist() == [2]
    with pytest.raises(InputError, match=r"manifest\.table = 'third': not the number, name or ID of one table"):
        manifest_rows(manifest_config(path, table="third"))


def test_the_error_of_a_server_is_shown(tmp_path: Path) -> None:
    said = "Column objidd unknown in line 3"
    path = write(tmp_path, f'<INFO name="QUERY_STATUS" value="ERROR">{said}</INFO>')
    with pytest.raises(InputError, match=f"the server answered the query with an error: {said}"):
        manifest_rows(manifest_config(path))


def test_a_table_that_a_server_cut_off_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        tmp_path, '<INFO name="QUERY_STATUS" value="OK"/>', table(), '<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
    )
    with caplog.at_level(logging.WARNING):
        assert manifest_rows(manifest_config(path)).num_rows == 1
    assert "is not complete: the server cut it off at its row limit" in caplog.text


def test_units_are_converted(tmp_path: Path) -> None:
    (row,) = manifest_rows(manifest_config(write(tmp_path, table(unit="arcsec")))).to_pylist()
    assert (row["ra"], row["dec"]) == pytest.approx((1.5 / 3600, -0.5 / 3600))


@pytest.mark.parametrize(
    ("system", "equinox", "usable"),
    [
        ("ICRS", "", True),
        ("eq_FK5", "J2000", True),
        ("eq_FK5", "J1975", False),
        ("eq_FK4", "B1950", False),
        ("galactic", "", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["ref of the FIELD", "GROUP"])
def test_frames_other_than_icrs_are_refused(
    tmp_path: Path, system: str, equinox: str, usable: bool, where: str
) -> None:
    frame = COOSYS.format(system=system, equinox=equinox).replace(' equinox=""', "")
    group = '<GROUP ref="sys"><FIELDref ref="col2"/><FIELDref ref="col3"/></GROUP>'
    objects = table(about='ref="sys"') if where != "GROUP" else table(fields=group)
    config = manifest_config(write(tmp_path, frame, objects))
    if usable:
        assert manifest_rows(config)["ra"].to_pylist() == [1.5]
    else:
        with pytest.raises(InputError, match=r"manifest\.ra_column = 'ra': the table declares the frame"):
            manifest_rows(config)


def test_the_ucd_of_another_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="declares the frame 'galactic'"):
        manifest_rows(manifest_config(write(tmp_path, table(about='ucd="pos.galactic.lon"'))))


def test_other_columns_may_be_of_any_type(tmp_path: Path) -> None:
    fields = (
        '<FIELD ID="z" name="z" datatype="floatComplex"/>'
        '<FIELD ID="who" name="who" datatype="unicodeChar" arraysize="*"/>'
    )
    path = write(tmp_path, table(fields=fields, more="<TD>1 2</TD><TD>Lund</TD>"))
    assert manifest_rows(manifest_config(path, keep_columns=("who",)))["who"].to_pylist() == ["Lund"]
    with pytest.raises(InputError, match=r"manifest\.keep_columns = 'z': a column of type complex64 cannot be used"):
        manifest_rows(manifest_config(path, keep_columns=("z",)))


def test_a_file_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a VOTable file without a table"):
        manifest_rows(manifest_config(write(tmp_path, "")))
