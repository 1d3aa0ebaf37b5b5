"""Confusions, shares with intervals, losses and label candidates, from tables made by hand, against scikit-learn and cleanlab."""

from dataclasses import replace

import numpy as np
import pytest
from interpret_tables import CLASSES, small, table

from sheer.interpret.calibration import scaled
from sheer.interpret.interpretation import Interpretation
from sheer.interpret.mistakes import class_scores, f1_of, label_candidates, most_confused, top_losses
from sheer.task.metrics import wilson_interval


def test_most_confused_counts_every_wrong_pair_once():
    predictions = table()
    pairs = most_confused(predictions)
    counts = predictions.confusion()
    assert sum(count for _, _, count in pairs) == counts.sum() - np.trace(counts)
    assert [count for _, _, count in pairs] == sorted((count for _, _, count in pairs), reverse=True)
    assert all(counts[CLASSES.index(true), CLASSES.index(said)] == count for true, said, count in pairs)
    assert most_confused(predictions, 5) == [pair for pair in pairs if pair[2] >= 5]
    assert np.array_equal(predictions.confusion(), counts), "asking changes no counts"


def test_shares_equal_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: pip install '.[demo]'")
    predictions = table()
    precision, recall, f1, items = metrics.precision_recall_fscore_support(predictions.target, predictions.predicted, labels=range(4))
    for number, row in enumerate(class_scores(predictions)):
        assert (row.name, row.items) == (CLASSES[number], items[number])
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision[number], recall[number], f1[number]), abs=1e-15)
        assert row.precision_interval == wilson_interval(round(row.precision * row.predicted), row.predicted)
        assert row.f1_interval[0] < row.f1 < row.f1_interval[1]


def test_a_class_without_items_has_no_shares():
    predictions = table(items=1)
    absent = [row for row in class_scores(predictions) if row.items == 0 and row.predicted == 0]
    assert absent and all(np.isnan([row.recall, row.precision, row.f1, *row.f1_interval, *row.recall_interval]).all() for row in absent)


@pytest.mark.parametrize(("found", "wrong"), [(0.08, 0.04), (0.3, 0.1)])
def test_the_f1_interval_holds_the_true_f1_in_95_of_100_draws(found, wrong):
    """Items are (hit, missed or false alarm, neither) with fixed shares; the true F1 is 2 found / (2 found + wrong)."""
    generator = np.random.default_rng(1)
    hits, wrongs, _ = generator.multinomial(150, [found, wrong, 1 - found - wrong], size=4000).T
    truth = 2 * found / (2 * found + wrong)
    bounds = [map(f1_of, wilson_interval(int(h), int(h + w))) for h, w in zip(hits, wrongs, strict=True)]
    inside = [low <= truth <= high for low, high in bounds]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_the_f1_interval_is_near_a_bootstraps_where_items_are_many():
    predictions, generator = table(items=2000), np.random.default_rng(2)
    shares = []
    for _ in range(400):
        drawn = generator.integers(0, 2000, 2000)
        true, said = predictions.target[drawn] == 1, predictions.predicted[drawn] == 1
        shares.append(2 * (true & said).sum() / (true.sum() + said.sum()))
    assert class_scores(predictions)[1].f1_interval == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=0.01)


def test_top_losses_are_the_largest_with_their_own_rows():
    predictions = table()
    worst = top_losses(predictions, 7)
    assert [one.loss for one in worst] == sorted(predictions.losses.tolist(), reverse=True)[:7]
    for one in worst:
        row = predictions.outputs[predictions.items.index(one.item)]
        assert one.outputs == tuple(row) and one.predicted == CLASSES[row.argmax()]
        assert row[CLASSES.index(one.true)] == pytest.approx(np.exp(-one.loss))
    assert len(top_losses(predictions, 1000)) == 200 and top_losses(predictions, 0) == []


def test_label_candidates_find_labels_that_were_turned():
    predictions = table(items=600, sharpness=12.0)
    turned = np.arange(0, 600, 20)
    target = predictions.target.copy()
    target[turned] = (target[turned] + 1) % 4
    spoilt = replace(predictions, target=target)
    found = label_candidates(spoilt)
    names = {predictions.items[item] for item in turned}
    hit = [one for one in found if one.item in names]
    assert len(hit) >= 0.7 * len(turned) and len(hit) >= 0.6 * len(found)
    assert [one.self_confidence for one in found] == sorted(one.self_confidence for one in found)
    right = sum(one.suggested == CLASSES[predictions.target[predictions.items.index(one.item)]] for one in hit)
    assert right >= 0.9 * len(hit)


def test_label_candidates_are_the_off_diagonal_of_cleanlabs_confident_joint():
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    predictions = table(items=500, sharpness=2.0)
    joint = count.compute_confident_joint(predictions.target, predictions.probabilities, calibrate=False)
    ours = np.zeros_like(joint)
    for one in label_candidates(predictions):
        ours[CLASSES.index(one.given), CLASSES.index(one.suggested)] += 1
    np.fill_diagonal(joint, 0)
    assert np.array_equal(ours, joint)


@pytest.mark.parametrize("ask", [top_losses, label_candidates, most_confused, class_scores])
def test_unknown_classes_are_named(ask):
    with pytest.raises(ValueError, match="not known"):
        ask(table(known=False))


def test_the_report_says_it_all():
    text = Interpretation(table=table()).report(3)
    for part in ("accuracy", "precision", "Most confused", "Largest losses", "may be wrong", "temperature", "ECE"):
        assert part in text
    assert "none" in Interpretation(table=small(np.eye(2), [0, 1])).report()


def test_labels_have_shares_and_losses_too():
    tagged = small([[0.9, 0.2], [0.8, 0.7], [0.1, 0.1]], [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], "tag")
    first, second = class_scores(tagged)
    assert (first.items, first.predicted, first.precision, first.recall) == (1, 2, 0.5, 1.0)
    assert (second.items, second.predicted, second.precision, second.recall) == (2, 1, 1.0, 0.5)
    words = [("c", "", ""), ("b", "bee", "ant;bee"), ("a", "ant;bee", "ant")]
    assert [(one.item, one.true, one.predicted) for one in top_losses(tagged)] == words
    text = Interpretation(table=tagged).report()
    assert "Largest losses" in text and "temperature" not in text


def test_numbers_have_losses_only():
    numbers = small([[1.0], [2.0]], np.array([[1.5], [2.0]], np.float32), "regress")
    assert top_losses(numbers, 1)[0].true == "2" and "Shares" not in Interpretation(table=numbers).report()
    for ask, name in ((class_scores, "regress"), (label_candidates, "regress")):
        with pytest.raises(ValueError, match=name):
            ask(numbers)


def test_a_changed_table_has_no_losses():
    with pytest.raises(ValueError, match="changed"):
        top_losses(scaled(table(), 2.0))
