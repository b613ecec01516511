import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.records import UnusableRecord
from galaxy_batch.verdicts.words import Words
from tests.support.verdict_files import FEATURES, VERDICTS


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("smooth", "smooth"),
        (" SMOOTH ", "smooth"),
        ("**Smooth**", "smooth"),
        ("<b>Smooth</b>", "smooth"),
        ("![](https://x.example/a_(1).png) Smooth", None),
        ("![a.png](https://x.example/a.png) Smooth", "smooth"),
        ("![smooth.png](https://x.example/a.png)", "smooth"),
        ("[Smooth](https://x.example/help)", "smooth"),
        ("Unsure", "unsure"),
        (FEATURES, "featured"),
        ("features, or disk!", "featured"),
        ("Étoile", "artifact"),
        ("smooth galaxy", None),
        ("", None),
    ],
)
def test_words_and_their_verdicts(word: str, verdict: str | None) -> None:
    words = Words(VERDICTS, {"Features or disk": "featured", "étoile": "artifact"})
    if verdict is None:
        with pytest.raises(UnusableRecord, match="is not a verdict"):
            words.verdict_of(word)
    else:
        assert words.verdict_of(word) == verdict


def test_an_answer_may_have_the_name_of_another_verdict() -> None:
    assert Words(["yes", "no"], {"no": "yes", "yes": "no"}).verdict_of("No") == "yes"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"Round": "elliptical"}, "answers.Round = 'elliptical': is not a verdict; they are smooth, featured"),
        ({"Round": "smooth", "*round*": "featured"}, "differs from it only in case or markup"),
    ],
)
def test_answers_that_cannot_be_meant(answers: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as raised:
        Words(VERDICTS, answers)
    assert message in str(raised.value)
