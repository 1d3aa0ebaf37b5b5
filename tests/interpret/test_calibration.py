"""The reliability table, ECE and temperature scaling, against sums by hand, a dense grid and scipy."""

import numpy as np
import pytest
from interpret_tables import small, table

from sheer.interpret.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood, reliability, scaled


def test_the_reliability_table_by_hand():
    predictions = small([[0.9, 0.1], [0.7, 0.3], [0.65, 0.35], [1.0, 0.0], [0.5, 0.5]], [0, 0, 1, 0, 0])
    rows = reliability(predictions, 4)
    assert [row.items for row in rows] == [0, 1, 2, 2]
    assert rows[2].confidence == pytest.approx(0.675) and rows[2].accuracy == 0.5 and np.isnan(rows[0].accuracy)
    assert expected_calibration_error(predictions, 4) == pytest.approx((1 * 0.5 + 2 * 0.175 + 2 * 0.05) / 5)
    with pytest.raises(ValueError, match="bins"):
        reliability(predictions, 0)


def test_every_item_is_in_one_bin():
    predictions = table()
    rows = reliability(predictions)
    assert sum(row.items for row in rows) == len(predictions)
    assert all(row.low < row.confidence <= row.high for row in rows if row.items)


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5])
def test_the_temperature_is_the_minimum_of_a_dense_grid(heat):
    """Scores divided by `heat` need a temperature smaller by that factor."""
    predictions = scaled(table(items=400), heat)
    fitted = fit_temperature(predictions)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2001))
    values = [negative_log_likelihood(scaled(predictions, float(value))) for value in grid]
    assert fitted.temperature == pytest.approx(grid[int(np.argmin(values))], rel=4e-3)
    assert fitted.nll_after <= min(values) + 1e-12 and fitted.nll_after <= fitted.nll_before == negative_log_likelihood(predictions)
    assert fitted.temperature * heat == pytest.approx(fit_temperature(table(items=400)).temperature, rel=1e-9)
    assert fitted.ece_before == expected_calibration_error(predictions) and fitted.items == 400


def test_the_temperature_is_scipys():
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed: pip install '.[demo]'")
    predictions = table(items=300, seed=4)
    best = optimize.minimize_scalar(
        lambda value: negative_log_likelihood(scaled(predictions, value)), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}
    )
    assert fit_temperature(predictions).temperature == pytest.approx(best.x, rel=1e-6)


def test_scaling_keeps_the_most_likely_classes_and_sums_to_one():
    predictions = table()
    hot = scaled(predictions, 3.0)
    assert np.array_equal(hot.predicted, predictions.predicted) and np.allclose(hot.probabilities.sum(1), 1) and hot.losses is None
    assert np.allclose(scaled(predictions, 1.0).probabilities, predictions.probabilities, atol=1e-12)
    with pytest.raises(ValueError, match="above 0"):
        scaled(predictions, 0.0)


def test_perfect_and_hopeless_tables_stay_finite():
    certain = small(np.eye(2), [0, 1])
    assert fit_temperature(certain).nll_after == 0 and fit_temperature(certain).temperature <= 1
    wrong = small(np.eye(2), [1, 0])
    assert fit_temperature(wrong).temperature == pytest.approx(100) and np.isfinite(fit_temperature(wrong).nll_before)


def test_unknown_classes_are_named():
    with pytest.raises(ValueError, match="not known"):
        fit_temperature(table(known=False))
    with pytest.raises(ValueError, match="'tag'"):
        fit_temperature(small([[0.2, 0.3]], [[1.0, 0.0]], "tag"))
