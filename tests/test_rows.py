"""Names and types of the columns of a catalog, and the bits of its flags, are fixed."""

import pyarrow as pa

from galaxy_batch.decision_tree import GALAXY_ZOO_2, known_questions
from galaxy_batch.rows import (
    CATALOG_COLUMNS,
    ReviewFlag,
    catalog_schema,
    flag_names,
    prediction_columns,
    question_columns,
)

CONTRACT = [
    ("object_id", "int64"),
    ("ra", "double"),
    ("dec", "double"),
    ("predicted_class", "string"),
    ("confidence", "float"),
    ("p_smooth", "float"),
    ("p_featured", "float"),
    ("unfamiliarity", "float"),
    ("instability", "float"),
    ("review_flags", "int32"),
    ("needs_review", "bool"),
    ("status", "string"),
    ("error", "string"),
    ("image_hash", "int64"),
    ("release", "string"),
    ("model_id", "string"),
    ("_healpix_29", "int64"),
    ("z", "float"),
]


def test_the_columns_are_those_that_scripts_rely_on() -> None:
    schema = catalog_schema(pa.int64(), ["smooth", "featured"], [pa.field("z", pa.float32())])
    assert [(field.name, str(field.type)) for field in schema] == CONTRACT


def test_kept_columns_are_plain_types_with_their_metadata() -> None:
    kept = pa.field("band", pa.dictionary(pa.int8(), pa.string()), metadata={"ucd": "instr.bandpass"})
    band = catalog_schema(pa.int64(), ["a", "b"], [kept]).field("band")
    assert band.type == pa.string()
    assert band.metadata == {b"ucd": b"instr.bandpass"}


def test_text_ids_stay_text() -> None:
    assert catalog_schema(pa.string(), ["a", "b"]).field("object_id").type == pa.string()


def test_every_column_has_a_description_and_a_ucd() -> None:
    for column in CATALOG_COLUMNS:
        assert column.description
        assert column.ucd
    assert catalog_schema(pa.int64(), ["a", "b"]).field("ra").metadata[b"unit"] == b"deg"


def test_flag_bits_are_fixed() -> None:
    assert {flag.name: flag.value for flag in ReviewFlag} == {
        "LOW_CONFIDENCE": 1,
        "UNREADABLE": 2,
        "BLANK": 4,
        "UNFAMILIAR": 8,
        "UNSTABLE": 16,
        "REPEATED_IMAGE": 32,
        "NO_POSITION": 64,
        "AUDIT": 128,
        "INCOMPLETE": 256,
    }


def test_the_column_of_flags_describes_each_bit() -> None:
    description = next(column.description for column in CATALOG_COLUMNS if column.name == "review_flags")
    for flag in ReviewFlag:
        assert f"{flag.value} {flag.name}, {flag.meaning}" in description


def test_bits_have_names() -> None:
    assert flag_names(0) == []
    assert flag_names(1 | 32 | 128) == ["LOW_CONFIDENCE", "REPEATED_IMAGE", "AUDIT"]
    assert flag_names(511) == [flag.name for flag in ReviewFlag]


def test_each_question_has_its_columns_after_those_of_the_model() -> None:
    questions = known_questions(["smooth_or_featured", "disk_edge_on"])
    votes = [
        "smooth_or_featured_asked_fraction", "smooth_or_featured_smooth_fraction",
        "smooth_or_featured_featured_or_disk_fraction", "smooth_or_featured_artifact_fraction",
        "disk_edge_on_asked_fraction", "disk_edge_on_yes_fraction", "disk_edge_on_no_fraction",
    ]  # fmt: skip
    schema = catalog_schema(pa.int64(), ["smooth", "featured"], [pa.field("z", pa.float32())], questions)
    names = [name for name, _ in CONTRACT]
    place = names.index("instability") + 1
    assert schema.names == [*names[:place], *votes, *names[place:]]
    assert {str(schema.field(name).type) for name in votes} == {"float"}
    assert prediction_columns(["a"], questions) == ["p_a", "unfamiliarity", "instability", *votes]
    with_concentrations = catalog_schema(pa.int64(), ["a", "b"], (), questions, concentrations=True).names
    place = with_concentrations.index("disk_edge_on_no_fraction") + 1
    assert with_concentrations[place : place + 2] == ["disk_edge_on_yes_dirichlet", "disk_edge_on_no_dirichlet"]


def test_columns_of_questions_are_described() -> None:
    columns = {column.name: column for column in question_columns(GALAXY_ZOO_2, concentrations=True)}
    assert len(columns) == 11 + 2 * 37
    assert all(column.description and column.ucd and not column.unit for column in columns.values())
    assert len({column.description for column in columns.values()}) == len(columns)
    asked, answer = columns["bulge_size_asked_fraction"], columns["bulge_size_just_noticeable_fraction"]
    assert asked.description == "Expected share of the volunteers who are asked: bulge size"
    assert answer.description == "Expected share of the volunteers asked (bulge size) who answer: just noticeable"
