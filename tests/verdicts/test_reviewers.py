import hashlib
import re
from pathlib import Path

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.reviewers import Reviewers, read_key


def test_pseudonyms_depend_on_the_key() -> None:
    first, second = Reviewers(b"1" * 32, names=False), Reviewers(b"2" * 32, names=False)
    assert first.called("Anna") == Reviewers(b"1" * 32, names=False).called("Anna")
    assert re.fullmatch(r"reviewer-[0-9a-f]{10}", first.called("Anna"))
    assert len({first.called("Anna"), second.called("Anna"), first.called("anna")}) == 3
    assert hashlib.blake2b(b"Anna", digest_size=5).hexdigest() not in first.called("Anna")
    assert Reviewers(b"1" * 32, names=True).called("Anna") == "Anna"


def test_the_key_is_written_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "pseudonyms.key"
    key = read_key(str(file))
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_key(str(file)) == key != read_key(str(tmp_path / "other.key"))


def test_another_file_is_not_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        read_key(str(tmp_path / "key"))
