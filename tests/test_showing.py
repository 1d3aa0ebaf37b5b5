"""Plots, the plain data behind them, and what a notebook shows."""

import dataclasses
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib import _pylab_helpers, rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import nn

import sheer
from conftest import Small
from sheer.errors import DataError, PlanError
from sheer.interpret import plots
from sheer.interpret.shown import result_pictures
from sheer.plan.markup import ROWS, html_table


def drawn(figure):
    """The figure as an array of pixels, so that every artist was drawn."""
    assert isinstance(figure, Figure)
    content = BytesIO()
    figure.savefig(content, format="png")
    pixels = np.asarray(Image.open(content))
    assert pixels.std() > 0
    return pixels


@pytest.fixture
def spiky(tmp_path):
    """Photographs of a class named like a piece of HTML and of mathematics."""
    generator = np.random.default_rng(1)
    for label in ("<script>alert(1)<", "a_$b^$"):
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = generator.integers(0, 255, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"<b>{number}.png")
    return sheer.images(tmp_path)


def test_pictures_of_the_next_epoch_are_what_the_network_gets(photos):
    seen = []

    class Watched(Small):
        def forward(self, images):
            if self.training:
                seen.append(images.detach().clone())
            return super().forward(images)

    learn = sheer.learner(sheer.images(photos), Watched, size=32, batch_size=8, quiet=True)
    learn.fit(1)
    shown = learn.batch_data(12)
    seen.clear()
    learn.fit(1)
    phase = learn.plan().phases[-1]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (phase.mean, phase.std))
    wanted = (torch.cat(seen)[:12] * std + mean).permute(0, 2, 3, 1).numpy()
    assert shown.images.shape == (12, 32, 32, 3) and shown.images.dtype == np.float32
    assert np.allclose(shown.images, wanted, atol=1e-6) and shown.images.min() >= 0 and shown.images.max() <= 1
    assert all(item.startswith(title + "/") for item, title in zip(shown.items, shown.titles, strict=True))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_pictures_are_shown_with_both_labels(photos, mix):
    seen = []

    class Watched(Small):
        def forward(self, images):
            if self.training:
                seen.append(images.detach().clone())
            return super().forward(images)

    learn = sheer.learner(sheer.images(photos), Watched, size=32, batch_size=8, quiet=True, mix=mix).fit(1)
    shown = learn.batch_data(12)
    seen.clear()
    learn.fit(1)
    phase = learn.plan().phases[-1]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (phase.mean, phase.std))
    wanted = (torch.cat(seen)[:12] * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.allclose(shown.images, wanted, atol=1e-6)
    parts = [re.fullmatch(r"(blue|red) ([01]\.\d\d) \+ (blue|red)", title) for title in shown.titles]
    assert all(parts) and {part[1] for part in parts} == {part[3] for part in parts} == {"blue", "red"}
    assert all(item.startswith(part[1] + "/") for item, part in zip(shown.items, parts, strict=True))


def test_pictures_are_those_of_the_recipe(small_learner):
    learn = small_learner()
    assert np.array_equal(learn.batch_data(4, sheer.recipes.fine_tune(1)).images, learn.batch_data(4).images)
    before = learn.batch_data(4)
    learn.fit(1)
    assert learn.batch_data(4).items != before.items


def test_more_pictures_than_there_are(small_learner):
    learn = small_learner()
    assert len(learn.batch_data(1000).items) == 40, "the last, short batch is dropped"
    assert len(learn.results_data(1000).items) == len(learn.data.valid)
    with pytest.raises(PlanError, match="at least 1"):
        learn.show_batch(0)


def test_results_name_mistakes(small_learner):
    learn = small_learner().fit(1)
    shown, table = learn.results_data(6), learn.validate()
    by_item = dict(zip(table.items, zip(table.labels, table.target, strict=True), strict=True))
    for item, title, wrong in zip(shown.items, shown.titles, shown.wrong, strict=True):
        label, true = by_item[item]
        assert title.startswith(label) and wrong == (label != learn.classes[true]) == ("\nis " in title)


def test_top_losses_are_those_of_the_interpretation(small_learner):
    learn = small_learner().fit(1)
    shown, worst = learn.top_losses_data(4), learn.interpret().top_losses(4)
    assert shown.items == tuple(one.item for one in worst) and shown.images.shape == (4, 32, 32, 3)
    assert all(f"loss {one.loss:.2f}" in title for one, title in zip(worst, shown.titles, strict=True))
    assert shown.wrong == tuple(one.true != one.predicted for one in worst)


@pytest.mark.parametrize(
    ("task", "target", "titles", "wrong"),
    [
        ("classify", np.array([0, 0, 1]), ("a 0.90", "b 0.80\nis a", "b 0.60"), (False, True, False)),
        ("tag", np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), ("a", "b\nis a;b", "b\nis -"), (False, True, True)),
        ("regress", np.array([[0.9, 0.1], [3.0, 0.8], [0.4, 0.6]]), ("0.9;0.1", "0.2;0.8\nis 3;0.8", "0.4;0.6"), (False,) * 3),
    ],
)
def test_results_of_every_task(task, target, titles, wrong):
    outputs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    predictions = sheer.Predictions(
        items=("<x>", "y", "z"), classes=("a", "b"), task=task, metric_functions={}, outputs=outputs, target=target, prior=outputs[0]
    )
    shown = result_pictures(predictions, np.zeros((3, 2, 2, 3), dtype=np.float32))
    assert shown.titles == titles and shown.wrong == wrong
    drawn(plots.pictures(shown))
    html = predictions._repr_html_()
    assert "<x>" not in html and html.count("<tr>") == 4 and len(predictions.table().splitlines()) == 4
    unknown = dataclasses.replace(predictions, target=None)
    assert result_pictures(unknown, shown.images).wrong == (False,) * 3


def test_every_plot_is_a_figure_and_pyplot_knows_nothing(small_learner):
    backend = rcParams["backend"] if "backend" in dict.keys(rcParams) else None
    learn = small_learner().fit_one_cycle(2)
    sweep = learn.lr_find(steps=40)
    figures = [
        learn.show_batch(),
        learn.show_results(4),
        learn.plot_schedule(),
        learn.plot_schedule(sheer.recipes.fine_tune(3)),
        learn.plot_loss(),
        learn.plot_lr_find(sweep),
        learn.plot_confusion(),
        learn.plot_top_losses(5),
        learn.plot_confusion(learn.predictions("train")),
    ]
    for figure in figures:
        drawn(figure)
    assert figures[0]._repr_png_().startswith(b"\x89PNG")
    assert not _pylab_helpers.Gcf.figs
    assert backend == (rcParams["backend"] if "backend" in dict.keys(rcParams) else None)


def test_grey_and_float_arrays():
    inputs = torch.rand(30, 1, 8, 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 15), net, batch_size=8, quiet=True)
    drawn(learn.show_batch(5))
    flat = sheer.learner(sheer.arrays(inputs.flatten(1), [0, 1] * 15), nn.Linear(64, 2), batch_size=8, quiet=True)
    with pytest.raises(DataError, match="no pictures"):
        flat.show_batch()
    with pytest.raises(DataError, match="no pictures"):
        flat.show_results()


def test_the_schedule_before_training(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    with pytest.raises(PlanError, match="give the recipe"):
        learn.plot_schedule()
    with pytest.raises(PlanError, match="Nothing was trained"):
        learn.plot_loss()
    steps = learn.schedule_data(sheer.recipes.fine_tune(2))
    plan = learn.plan(sheer.recipes.fine_tune(2))
    counts = [phase.epochs * phase.steps_per_epoch for phase in plan.phases]
    assert steps.phases == (("frozen", 0), ("unfrozen", counts[0])) and steps.groups == ("head", "early", "late")
    assert steps.rates.shape == (sum(counts), 3) and steps.momentum.shape == (sum(counts),)
    assert np.isnan(steps.rates[: counts[0], 1:]).all() and not np.isnan(steps.rates[counts[0] :]).any()
    for phase, start in zip(plan.phases, (0, counts[0]), strict=True):
        for group in phase.groups:
            if group.trains:
                column = steps.rates[start:, steps.groups.index(group.stage)]
                assert column[0] == pytest.approx(group.rate_start)
                assert column[: phase.epochs * phase.steps_per_epoch].max() == pytest.approx(group.rate_peak)
    assert not learn.plan().phases
    learn.fine_tune(2)
    assert np.array_equal(learn.schedule_data().rates, steps.rates, equal_nan=True)


def test_html_escapes_what_comes_from_outside(spiky):
    learn = sheer.learner(spiky, Small, size=16, batch_size=4, quiet=True).fit(1)
    shown = {
        "data": spiky._repr_html_(),
        "plan": learn.plan()._repr_html_(),
        "predictions": learn.validate()._repr_html_(),
        "history": learn.history._repr_html_(),
        "sweep": learn.lr_find(steps=20, end=1e-3)._repr_html_(),
    }
    for name, html in shown.items():
        assert "<script" not in html and "<b>" not in html and "http" not in html, name
        assert len(html) < 20_000, name
        opened = re.findall(r"<(\w+)", html)
        assert sorted(opened) == sorted(re.findall(r"</(\w+)", html)), name
    assert "&lt;script&gt;" in shown["data"] and "&lt;script&gt;" in shown["plan"] and "&lt;b&gt;" in shown["predictions"]


def test_class_names_that_look_like_mathematics_are_plain_text(spiky):
    learn = sheer.learner(spiky, Small, size=16, batch_size=4, quiet=True).fit(1)
    for figure in (learn.show_batch(16), learn.show_results(), learn.plot_confusion()):
        named = [text for text in figure.findobj(Text) if "a_$b^$" in text.get_text()]
        assert named and not any(text.get_parse_math() for text in named)
        drawn(figure)


def test_html_tables_are_short():
    html = html_table("t", ["a"], [[str(number)] for number in range(ROWS + 5)])
    assert html.count("<tr>") == ROWS + 1 and "5 more rows" in html


def test_many_predictions_say_how_many_more(small_learner):
    learn = small_learner()
    html = learn.predictions("train")._repr_html_()
    assert html.count("<tr>") == ROWS + 1 and f"{len(learn.data.train) - ROWS} more" in html


def test_history_is_a_list_with_a_table(small_learner):
    learn = small_learner().fit(1).fit(1)
    assert learn.history == list(learn.history) and isinstance(learn.history, list) and len(learn.history) == 2
    text = learn.history.text()
    assert len(text.splitlines()) == 3 and "valid_loss" in text and f"{learn.history[1].valid_loss:.4f}" in text
    assert learn.history._repr_html_().count("<tr>") == 3


def test_output_that_is_no_terminal_has_each_line_once(photos, capsys):
    learn = sheer.learner(sheer.images(photos), Small, size=32, batch_size=8).fit(2)
    learn.lr_find(steps=20)
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.strip()]
    assert len(lines) == len(set(lines)) == 4 and err == "" and "\r" not in out
