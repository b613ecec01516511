import numpy as np
import pytest

from galaxy_batch.decision_tree import known_questions
from train.evaluate.question_scores import interval_coverage, question_scores

QUESTIONS = known_questions(["smooth_or_featured", "disk_edge_on"])


def simulated(galaxies: int, volunteers: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Concentrations and votes that follow them, of one question with three answers."""
    rng = np.random.default_rng(seed)
    alphas = rng.lognormal(0.5, 1, (galaxies, 3))
    votes = [rng.multinomial(volunteers, rng.dirichlet(alpha)) for alpha in alphas]
    return alphas, np.array(votes, float)


@pytest.mark.parametrize("volunteers", [12, 40])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_true_predictions_cover_as_often_as_their_level(volunteers: int, level: float) -> None:
    alphas, votes = simulated(4000, volunteers)
    covered = interval_coverage(alphas, votes, level)
    assert covered.shape == (4000, 3)
    assert covered.min() >= 0
    assert covered.max() <= 1 + 1e-9
    assert covered.mean() == pytest.approx(level, abs=0.012)


def test_overconfident_and_vague_predictions_do_not() -> None:
    alphas, votes = simulated(2000, 40)
    assert interval_coverage(20 * alphas, votes, 0.68).mean() < 0.5
    assert interval_coverage(alphas / 20, votes, 0.68).mean() != pytest.approx(0.68, abs=0.05)


def test_votes_between_the_quantiles_are_covered() -> None:
    """A certain prediction of one half: the central interval is about the middle."""
    votes = np.array([[50.0, 50.0], [90.0, 10.0], [54.8, 45.2]])
    covered = interval_coverage(np.full((3, 2), 1e6), votes, 0.68)
    assert covered[0].tolist() == pytest.approx([1, 1])
    assert covered[1].tolist() == [0, 0]
    assert 0 < covered[2, 0] < 1  # within one standard deviation of 5 at the rounded count of 55


def test_scores_by_hand() -> None:
    concentrations = np.array([[2.0, 6.0, 2.0, 1.0, 3.0], [5.0, 5.0, 10.0, 1.0, 1.0]])
    counts = np.array([[10.0, 30.0, 0.0, 15.0, 15.0], [20.0, 5.0, 15.0, 5.0, 0.0]])
    scores = question_scores(QUESTIONS, concentrations, counts)
    assert scores is not None
    first, second = scores.questions
    deviations = np.array([[0.2 - 0.25, 0.6 - 0.75, 0.2], [0.25 - 0.5, 0.25 - 0.125, 0.5 - 0.375]])
    assert (first.name, first.galaxies) == ("smooth_or_featured", 2)
    assert first.rmse == pytest.approx(np.sqrt((deviations**2).mean()))
    assert first.mean_deviation == pytest.approx(np.abs(deviations).mean())
    assert (second.name, second.galaxies) == ("disk_edge_on", 1)  # of the other galaxy 5 volunteers were asked
    assert second.rmse == pytest.approx(0.25)
    shares = np.array([[0.6 * 0.25 - 15 / 40, 0.6 * 0.75 - 15 / 40], [0.25 * 0.5 - 5 / 40, 0.25 * 0.5]])
    assert scores.galaxies == 2
    assert scores.rmse == pytest.approx(np.sqrt((np.concatenate([deviations, shares], axis=1) ** 2).mean()))


def test_perfect_predictions_have_no_error() -> None:
    alphas, votes = simulated(30, 40)
    alphas = votes + 1e-9
    scores = question_scores(known_questions(["smooth_or_featured"]), alphas, votes)
    assert scores is not None
    assert scores.rmse == pytest.approx(0, abs=1e-6)
    assert scores.coverage_68 == scores.questions[0].coverage_68


def test_no_questions_no_galaxies_and_no_votes() -> None:
    assert question_scores((), np.empty((3, 0)), np.empty((3, 0))) is None
    assert question_scores(QUESTIONS, np.empty((0, 5)), np.empty((0, 5))) is None
    scores = question_scores(QUESTIONS, np.ones((2, 5)), np.zeros((2, 5)))
    assert scores is not None
    assert [question.galaxies for question in scores.questions] == [0, 0]
    assert np.isnan([scores.questions[0].rmse, scores.questions[0].coverage_68, scores.coverage_95]).all()
