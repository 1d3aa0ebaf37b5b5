"""What an error says is the user's own word for it and a remedy that is one; what cannot be made is refused before it is made."""

import math
import shutil

import numpy as np
import pandas
import pytest
from torch import nn

import sheer
from sheer.cli.main import main
from sheer.data.tabular import further_weights
from sheer.errors import DataError, EjectError, ModelError, PlanError, RunError
from sheer.plan.parts import LORA_SETTINGS, chosen
from sheer.plan.plan import Part
from sheer.plan.profiles import profile_named
from sheer.record.run import read_run

ROWS = 48


def columns(**more):
    found = {
        "kind": [("good", "bad")[n % 2] for n in range(ROWS)],
        "width": [n * 1.25 for n in range(ROWS)],
        "colour": [("red", "green", "blue")[n % 3] for n in range(ROWS)],
    }
    return found | {name: [value(n) for n in range(ROWS)] for name, value in more.items()}


def table(**more):
    return sheer.table(columns(**more), target="kind")


def several():
    inputs = {"one": sheer.TableInput(columns=["width"]), "two": sheer.TableInput(columns=["colour"])}
    return sheer.DataBlock(inputs=inputs, label="kind").build(pandas.DataFrame(columns()))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run on a table, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    learn = sheer.learner(table(), ("tabm", {"members": 2, "hidden": (4,)}), quiet=True, batch_size=16, out=folder).fit(1)
    return learn, folder


TOO_LARGE = {
    "members": ("tabm", {"members": 10**7}),
    "embedding": ("tabm", {"embedding": 10**9}),
    "width of tabm": ("tabm", {"hidden": (10**9,)}),
    "width": ("tabular", {"hidden": (10**9,)}),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_network_that_cannot_fit_is_refused_before_it_is_made(case):
    with pytest.raises(ModelError, match=r"^model=tab[a-z]+\(.*its weights alone would take [0-9]+ GiB; at most 8 are made. Give smaller"):
        sheer.learner(table(), TOO_LARGE[case])


def test_a_head_or_a_fusion_that_cannot_fit_is_refused_too():
    with pytest.raises(ModelError, match=r"^head=plain.* GiB"):
        head = Part(name="plain", settings=(("pool", "avg"), ("hidden", (10**9,)), ("dropout", 0.0), ("init", "torch")))
        sheer.learner(table(), "tabular", head=head)
    with pytest.raises(ModelError, match=r"^fusion=gated_sum.* GiB"):
        sheer.learner(several(), fusion=("gated_sum", {"width": 10**9}))


def test_a_rank_above_the_smallest_layer_is_refused(photos):
    with pytest.raises(PlanError, match=r"lora: rank=1000000: a change of low rank has at most 64 here"):
        sheer.learner(sheer.images(photos), "test_vit", weights="none", size=160, lora={"rank": 10**6})


def test_an_adapter_goes_neither_into_a_missing_folder_nor_onto_a_table(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), "test_vit", weights="none", size=160, lora=True, quiet=True)
    with pytest.raises(RunError, match=r"none/a.safetensors cannot be written: there is no folder .*none. Make it first"):
        learn.save_adapter(tmp_path / "none" / "a.safetensors")
    file = learn.save_adapter(tmp_path / "a.safetensors")
    with pytest.raises(RunError, match="Give another name"):
        learn.save_adapter(file)
    with pytest.raises(ModelError, match=r"^adapter='.*a.safetensors' is for pretrained networks.*the data is a table"):
        sheer.learner(table(), adapter=file)


def learned(*model, **options):
    return sheer.learner(table(), *model, **options)


def fused(*model, **options):
    return sheer.learner(several(), *model, **options)


def told(**options):
    return sheer.table(columns(), target="kind", **options)


def lora(settings):
    return chosen(("lora", settings), LORA_SETTINGS, profile_named("default"), "lora")


WORDS = {
    "empty example": (
        lambda: lora({"layers": "query"}),
        PlanError,
        r"such as \('query', 'value'\)",
    ),
    "fusion": (lambda: fused(fusion=3), PlanError, r"fusion=3: .*such as \('gated_sum', \{'width': [0-9]+\}\)"),
    "branch": (lambda: fused({"one": 3}), PlanError, r"model=3: .*such as \('tabular', \{'hidden': \([0-9, ]+\)\}\)"),
    "no settings": (lambda: fused(fusion=("concat", {"width": 3})), PlanError, "concat has no setting 'width'. None is"),
    "width 0": (
        lambda: fused(fusion=("gated_sum", {"width": 0})),
        PlanError,
        "'gated_sum': width=0: give a whole number",
    ),
    "hidden 0": (lambda: learned(("tabular", {"hidden": (0,)})), ModelError, r"hidden=\(0,\); give a width of at least 1"),
    "lora of a table": (
        lambda: learned(lora=True),
        ModelError,
        "^lora=True is for pretrained networks.*the data is a table",
    ),
    "float32": (
        lambda: table(far=lambda n: 1e300 if n == 1 else n / 2),
        DataError,
        "row 2 holds '1e[+]300', which is too large for float32.*3.4e38",
    ),
    "infinite": (lambda: table(far=lambda n: math.inf if n == 1 else n / 2), DataError, "row 2 holds 'inf', which is no finite number"),
    "precision": (
        lambda: sheer.table(columns(far=lambda n: 2**60 + n), target="far"),
        DataError,
        "the same for all items to train on, to the 7 digits that float32 keeps.*subtract their mean",
    ),
    "long array": (
        lambda: told(weight=np.ones(600)),
        DataError,
        r"^weight=array\(.{,70}\.\.\.: give the name",
    ),
    "target twice": (lambda: sheer.table(columns(), target=["width", "width"]), DataError, "column 'width' is named twice"),
    "target ignored": (lambda: told(ignore=["kind"]), DataError, "'kind' was given as two things at once"),
    "function of a row": (
        lambda: further_weights(columns(), lambda path: 1.0, np.arange(2)),
        DataError,
        "functions are of a photograph's path; name the",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_an_error_names_what_was_given_and_a_remedy_that_is_one(case):
    act, kind, words = WORDS[case]
    with pytest.raises(kind, match=words):
        act()


def test_a_frame_without_rows_says_nothing_of_learning_alone(small):
    with pytest.raises(DataError, match="has no rows: there is nothing to learn from, or to predict"):
        small[0].predict(pandas.DataFrame(columns()).iloc[:0])


def test_columns_that_are_not_looked_at_are_noted(small):
    learn, _ = small
    frame = pandas.DataFrame(columns(other=lambda n: n))
    assert learn.predict(frame).notes == ("2 of 4 columns are not looked at: 'kind', 'other'",)
    assert learn.predict(frame[["width", "colour"]]).notes == ()
    assert learn.evaluate(frame, target="kind").notes == ("1 of 4 columns is not looked at: 'other'",)


def test_a_run_folder_with_files_edited_or_missing_says_which(small, tmp_path):
    edited, lacking = (shutil.copytree(small[1], tmp_path / name) for name in ("edited", "lacking"))
    text = (edited / "plan.json").read_text()
    (edited / "plan.json").write_text(text.replace('"kinds seen', '"Kinds seen'))
    assert (edited / "plan.json").read_text() != text
    with pytest.raises(RunError, match=r"plan\.json was edited after the run: it is not the text"):
        read_run(edited)
    (lacking / "items.csv").unlink()
    with pytest.raises(EjectError, match=r"Bring its items\.csv back into the run folder"):
        sheer.eject(lacking, tmp_path / "train.py")


def test_estimators_speak_of_their_own_arguments():
    x, y = np.arange(40.0).reshape(20, 2), [0, 1] * 10
    for estimator in (sheer.SheerClassifier(), sheer.SheerRegressor()):
        with pytest.raises(DataError, match="sample_weight holds -1: weights are numbers of at least 0"):
            estimator.fit(x, y, sample_weight=-np.ones(20))
    with pytest.raises(PlanError, match=r"weighted_metrics=True .*fit\(X, y, sample_weight="):
        sheer.SheerClassifier(settings={"weighted_metrics": True}).fit(x, y)


def test_a_command_names_the_function_whose_keywords_it_takes(tmp_path, capsys):
    pandas.DataFrame(columns()).to_csv(tmp_path / "rows.csv", index=False)
    assert main(["plan", str(tmp_path / "rows.csv"), "--target", "kind", "--set", "foo=1"]) == 2
    assert "a keyword of sheer.table, sheer.learner" in capsys.readouterr().err


class NotANumber(nn.Module):
    """Scores that are no numbers in training."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x.flatten(2).mean(2)) * (math.nan if self.training else 1.0)


def test_a_run_too_short_for_the_limit_whose_every_step_was_skipped_did_not_complete(photos, tmp_path, capsys):
    learn = sheer.learner(sheer.images(photos), NotANumber, size=32, batch_size=8, out=tmp_path / "run").fit(1)
    steps = learn.plan().phases[0].steps_per_epoch
    assert steps < learn.plan().phases[0].skip_limit and math.isnan(learn.history[0].train_loss)
    reason = f"the last {steps} steps before step {steps} (epoch 1) were skipped"
    assert read_run(tmp_path / "run").record.stop_reason.startswith(reason) and f"Stopped: {reason}" in capsys.readouterr().out
    with pytest.raises(EjectError, match="did not complete"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")


def test_a_table_has_no_licence_of_weights(small):
    learn, folder = small
    said = str(sheer.explain(folder))
    assert learn.plan().model.licence == "no pretrained weights" and "so no licence of weights has to be kept" in said
    assert "Apache" not in said and "[weights: nothing pretrained goes in]" in str(learn.plan())


def test_a_bundle_of_a_table_says_what_its_run_says_to_the_last_bit(small, tmp_path):
    learn, _ = small
    rows = pandas.DataFrame(columns())[["width", "colour"]]
    bundle = sheer.load_bundle(learn.export(tmp_path / "a.sheer"))
    for count in (1, 5, 16, 17, ROWS):
        assert np.array_equal(bundle.predict(rows[:count]).outputs, learn.predict(rows[:count]).outputs)
