"""Every tool on every kind of run: a kind is one entry of KINDS, a tool one function of TOOLS, and every pair of them is run.

What cannot be asked of a kind is in REFUSED: sheer's own error, before any work, with the words that say what to do instead.
"""

import copy
import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import sheer
from conftest import Leave
from scripts import run_script
from sheer.cli.main import main
from sheer.errors import DataError, ModelError, PlanError, RunError, SheerError
from sheer.model.hashing import weights_sha256
from sheer.study.compare.given import side_of

pytest.importorskip("transformers", reason="the extra text is not installed")
from test_text import save_encoder

ITEMS, BATCH = 40, 8
SMALL, LAYERS = ("tabm", {"members": 3, "hidden": (8,)}), ("tabular", {"hidden": (8,)})
NONE = ("--weights", "none", "--size", "32")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of run as a person writes it: data, model and options in Python, and the same on the command line.

    `names` are words by which a plan calls its inputs, `new` holds further items, and `target` their classes where evaluating asks.
    """

    data: Callable[[], sheer.Data]
    command: tuple[str, ...]
    names: tuple[str, ...]
    model: object = None
    options: dict = field(default_factory=dict)
    recipe: str = "one_cycle"
    new: str = "items.csv"
    target: str | None = "kind"

    @property
    def pictures(self) -> bool:
        return "photo" in self.names or self.new == "photos"

    def learner(self, **more) -> sheer.Learner:
        return sheer.learner(self.data(), self.model, **{"batch_size": BATCH, "quiet": True} | self.options | more)

    def steps(self):
        return getattr(sheer.recipes, self.recipe)({"one_cycle": 2}.get(self.recipe, 1))

    def arguments(self) -> list[str]:
        return [*self.command, "--epochs", str({"one_cycle": 2}.get(self.recipe, 1)), "--batch-size", str(BATCH)]


def table(target="kind", apart=("photo", "words", "kind", "price", "size")):
    wanted = [target] if isinstance(target, str) else target
    return sheer.table("items.csv", target=target, ignore=[one for one in apart if one not in wanted])


def of_table(target, model):
    """The command's arguments for `table` with these targets and this network."""
    ignored = [one for one in ("photo", "words", "kind", "price", "size") if one not in target]
    return ("items.csv", "--set", f"ignore={ignored}", "--model", repr(model), *(part for one in target for part in ("--target", one)))


def words():
    return sheer.text("items.csv", text="words", target="kind")


def several(**inputs):
    return sheer.DataBlock(inputs=inputs, label="kind").build("items.csv")


IMAGE, TEXT, COLUMNS = sheer.ImageInput(column="photo"), sheer.TextInput(column="words"), sheer.TableInput(columns=["width", "colour"])
OF_TEXT = ("items.csv", "--text", "words", "--target", "kind", "--model", "encoder")
TO_COLUMNS = ("--columns", "width,colour", "--target", "kind")
CELLS = ("width", "colour")

KINDS = {
    "image": Kind(
        data=lambda: sheer.images("photos"),
        model="test_resnet",
        options={"weights": "none", "size": 32},
        recipe="fine_tune",
        command=("photos", "--model", "test_resnet", *NONE),
        names=("photographs",),
        new="photos",
        target=None,
    ),
    "table": Kind(data=table, model=SMALL, command=of_table(["kind"], SMALL), names=CELLS),
    "layers": Kind(data=table, model=LAYERS, command=of_table(["kind"], LAYERS), names=CELLS),
    "number": Kind(data=lambda: table("price"), model=SMALL, command=of_table(["price"], SMALL), names=CELLS, target=None),
    "numbers": Kind(
        data=lambda: table(["price", "size"]), model=LAYERS, command=of_table(["price", "size"], LAYERS), names=CELLS, target=None
    ),
    "text": Kind(data=words, model="encoder", recipe="fine_tune", command=OF_TEXT, names=("words", "tokens")),
    "lora": Kind(
        data=words,
        model="encoder",
        options={"lora": {"rank": 2}},
        recipe="fine_tune",
        command=(*OF_TEXT, "--set", "lora={'rank': 2}"),
        names=("words", "tokens"),
    ),
    "image and table": Kind(
        data=lambda: several(image=IMAGE, table=COLUMNS),
        model={"image": "test_resnet"},
        options={"weights": "none", "size": 32},
        recipe="fine_tune",
        command=("items.csv", "--image", "photo", *TO_COLUMNS, "--model", "{'image': 'test_resnet'}", *NONE),
        names=("photo", *CELLS, "image", "table"),
    ),
    "text and table": Kind(
        data=lambda: several(text=TEXT, table=COLUMNS),
        model={"text": "encoder"},
        recipe="fine_tune",
        command=("items.csv", "--text", "words", *TO_COLUMNS, "--model", "{'text': 'encoder'}"),
        names=("words", *CELLS, "text", "table"),
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs, a table of 40 rows with everything in it, and a small encoder, as a person works in."""
    root = tmp_path_factory.mktemp("every")
    draw, rows = np.random.default_rng(0), []
    for number in range(ITEMS):
        kind, row = ("good", "bad")[number % 2], number // 2
        (root / "photos" / kind).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 120, (40, 36, 3))
        pixels[..., number % 2] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / kind / f"{row:02d}.jpg")
        text = " ".join(draw.choice(["the", "cat", "dog", "plays", "all", "day"], 5)) + f" {kind}"
        width, size = draw.normal(8 if number % 2 else 2), draw.normal(30)
        cells = {"width": width if number % 7 else None, "colour": draw.choice(["red", "blue"]), "price": 100 * width + draw.normal()}
        rows.append({"photo": f"photos/{kind}/{row:02d}.jpg" if number % 9 else None, "words": text, "kind": kind, "size": size} | cells)
    pd.DataFrame(rows).to_csv(root / "items.csv", index=False)
    save_encoder(root / "encoder", layers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield root


@dataclass
class Made:
    """A kind with its finished run, which no tool may change."""

    kind: Kind
    name: str
    learn: sheer.Learner

    @property
    def run(self) -> str:
        return f"run-{self.name}"

    @property
    def task(self) -> str:
        return self.learn.plan().data.task.name

    @property
    def hashes(self) -> list[str]:
        return [row.weights_sha256 for row in self.learn.history]


@pytest.fixture(scope="module")
def runs(place):
    made: dict[str, Made] = {}

    def run_of(name: str) -> Made:
        if name not in made:
            kind, short = KINDS[name], name.replace(" ", "-")
            made[name] = Made(kind, short, kind.learner(out=f"run-{short}").run(kind.steps()))
        return made[name]

    return run_of


def hashes(folder) -> list[str]:
    with open(f"{folder}/history.csv", newline="") as file:
        return [row["weights_sha256"] for row in csv.DictReader(file)]


IMAGE_WORDS = re.compile(r"photograph|(?<!no )(?<![.(])pictures?\b(?![,)])|\bpixel|\bpx\b|decoded", re.I)


def speaks_of(made: Made, text: str, *, names: bool = True) -> None:
    """Fail where the text does not name the inputs, or talks of photographs where there are none."""
    assert not names or not [name for name in made.kind.names if name not in text], text
    found = [line for line in text.splitlines() if IMAGE_WORDS.search(line)]
    assert made.kind.pictures or not found, found


def plan_to_json_and_back(made, folder):
    plan = made.learn.plan()
    again = sheer.Plan.from_json(plan.to_json())
    assert again == plan and again.short_hash() == plan.short_hash() and str(again) == str(plan)
    assert made.kind.learner().plan(made.kind.steps()) == plan
    speaks_of(made, str(plan))
    assert plan._repr_html_()


def explain(made, folder):
    learn = made.learn
    whole = sheer.explain(learn)
    assert str(whole) == str(sheer.explain(made.run)) and not whole.no_script
    speaks_of(made, str(whole))
    values = {value for one in whole.sentences for value in one.values}
    for value in values:
        assert all(one.text and "<" not in one.text for one in whole.about(value))
    for value, line in (("phases[0].loss", "loss"), ("model.head", "HEAD"), ("data.listing_sha256", "LISTING_SHA256"), ("seed", "SEED")):
        assert any(line in one.code for one in whole.about(value)), value
    assert whole.markdown().startswith("# Plan") and whole._repr_html_().startswith("<h3>")
    assert "Against" not in str(sheer.explain(learn, against=None))
    before = sheer.explain(made.kind.learner().plan(made.kind.steps()), against="keras-guide")
    assert any(one.topic == "Against keras-guide" and "has no plan" not in one.text for one in before.sentences)
    with pytest.raises(PlanError, match=r"No sentence is about 'model.hed'"):
        whole.about("model.hed")


def diff(made, folder):
    other = made.kind.learner(clip=0.5, weight_decay=0.3)
    found = sheer.diff(made.learn, other.plan(made.kind.steps()))
    assert {one.change.decision for one in found.differences} == {"clip", "weight_decay"}
    assert not sheer.diff(made.learn, made.run).differences and not sheer.diff(made.run, made.learn.plan()).differences
    towards = sheer.diff(made.run, "fastai-2.8")
    changed = {one.change.decision.partition(".")[0] for one in towards.differences}
    assert changed and not changed & {"name", "weights", "weights_sha256", "body", "branches", "columns", "inputs", "lora", "classes"}
    for one in (found, towards):
        speaks_of(made, f"{one}\n{one.markdown()}", names=False)


def other_inputs(made):
    """A learner of other inputs: fewer columns, shorter texts, grey photographs."""
    name, kind = made.name, made.kind
    if name == "image":
        return kind.learner(channels=1), {"channels", "channel_init", "mean", "std"}
    if kind.names == CELLS:
        ignored = [one for one in ("photo", "words", "kind", "price", "size", "colour") if one not in made.learn.classes]
        target = list(made.learn.classes) if kind.target is None else "kind"
        data = sheer.table("items.csv", target=target, ignore=[one for one in ignored if one != target])
        return sheer.learner(data, kind.model, batch_size=BATCH, quiet=True), {"columns.colour"}
    if "table" not in kind.names:
        data = sheer.text("items.csv", text="words", target="kind", length=4)
        return sheer.learner(data, kind.model, batch_size=BATCH, quiet=True, **kind.options), {"columns.words"}
    first = {"image": IMAGE} if kind.pictures else {"text": TEXT}
    data = several(**first, table=sheer.TableInput(columns=["width"]))
    return sheer.learner(data, kind.model, fusion="gated_sum", batch_size=BATCH, quiet=True, **kind.options), {"fusion", "inputs.table"}


def diff_of_inputs(made, folder):
    other, wanted = other_inputs(made)
    found = sheer.diff(made.learn, other.plan(made.kind.steps()))
    decisions = {one.change.decision for one in found.differences}
    assert wanted <= decisions, decisions
    text = str(found)
    assert "Part(" not in text and "InputPlan(" not in text and "Branch(" not in text and "ModelPlan(" not in text
    assert "'colour'" not in text and max(map(len, text.splitlines())) < 200
    speaks_of(made, text, names=False)


def compare(made, folder):
    kind = made.kind
    script = sheer.eject(made.run, f"compared_{made.name}.py")
    begun = kind.learner()
    same = sheer.compare(begun, script, recipe=kind.steps(), exact=True)
    assert same.equal, str(same)
    sides = [side_of(one, begun, kind.steps(), None, start=False) for one in (begun, script)]
    assert sides[0].parts == sides[1].parts and bool(sides[0].parts) == (made.name != "image")
    stages = {stage.name for stage in same.stages}
    assert {"items", "inputs", "target", "logits", "loss"} <= stages or "lbfgs" in str(made.learn.plan().phases[0].optimizer)
    speaks_of(made, str(same), names=False)
    recipe = sheer.recipes.one_cycle(1)
    changed = sheer.compare(begun, kind.learner(weight_decay=0.3), recipe=recipe)
    assert changed.first.stage == "parameter" and "weight_decay" in " ".join(changed.settings)
    order = sheer.compare(begun, kind.learner(seed=1), recipe=recipe)
    assert order.first.stage == "items" and order.first.cause == "order"
    with pytest.raises(DataError, match="loaded without its data"):
        sheer.compare(sheer.load(made.run), begun)
    again = sheer.compare(made.run, f"{script}", exact=True)
    assert {one.stage for one in again.findings} <= {"weights"} or again.steps


def first_batches(learn, count=2):
    """The first batches of a learner, as a loop of one's own would have them."""
    plan = learn.plan(sheer.recipes.one_cycle(1))
    feed = learn._feed_of(plan.phases[0])
    return [(batch.inputs, batch.target) for _, batch in zip(range(count), feed.training(0), strict=False)]


def a_loop(learn, batches, **more):
    model = copy.deepcopy(learn.model)
    loss = torch.nn.MSELoss() if learn.plan().data.task.name == "regress" else torch.nn.CrossEntropyLoss()
    if learn.plan().model.kind == "ensemble":
        plain = loss
        loss = lambda scores, target: plain(scores.mean(1), target)  # noqa: E731
    return sheer.Loop(model=model, loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), batches=batches, **more)


def compare_cells(made, folder):
    learn = made.kind.learner()
    batches = first_batches(learn)
    planted = copy.deepcopy(batches)
    for inputs, _ in planted:
        part = inputs.parts[next(iter(inputs.parts))] if made.learn.plan().data.inputs else inputs
        part[:, -1 if part.ndim == 2 else 0] += 1
    found = sheer.compare(a_loop(learn, batches), a_loop(learn, planted), steps=1)
    assert found.first.stage == "inputs", str(found)
    named = sheer.compare(learn, a_loop(learn, planted), steps=1, recipe=sheer.recipes.one_cycle(1))
    assert named.first.stage == "inputs", str(named)
    said = named.first.evidence
    wanted = {"image": "pixels", "text and table": "words", "image and table": "image"}.get(
        made.name.replace("-", " "), made.learn.plan().data
    )
    if not isinstance(wanted, str):
        wanted = str(wanted.columns[-1].options()["column"])
    assert wanted in said, said


def ablate(made, folder):
    other = made.kind.learner(weight_decay=0.3).plan(made.kind.steps())
    found = sheer.ablate(made.run, other, data=made.kind.data(), out=folder / "ablation", seeds=1, waterfall=False, quiet=True)
    assert not [one.failed for ones in found.outcomes.values() for one in ones if one.failed]
    first = found.outcomes[found.a][0]
    assert hashes(first.folder) == made.hashes and [one.name for one in found.effects] == ["weight_decay"]
    speaks_of(made, str(found), names=False)


def resume(made, folder):
    out = folder / "half"
    begun = made.kind.learner(out=out)
    steps = sum(phase.epochs * phase.steps_per_epoch for phase in made.learn.plan().phases)
    begun.run(made.kind.steps(), callbacks=[Leave(steps - 2)])
    assert not (out / "record.json").exists()
    if not made.kind.pictures:
        with pytest.raises(RunError, match=r"items.csv.*Leave data away"):
            sheer.resume(out, data="photos", quiet=True)
    again = sheer.resume(out, quiet=True)
    assert [row.weights_sha256 for row in again.history] == made.hashes


def load_and_train_on(made, folder):
    loaded = sheer.load(made.run, data=made.kind.data())
    here = made.kind.learner().run(made.kind.steps()).fit_one_cycle(1)
    assert loaded.fit_one_cycle(1).history[-1].weights_sha256 == here.history[-1].weights_sha256
    bare = sheer.load(made.run)
    for verb in (lambda: bare.fit(1), bare.validate, bare.lr_find, bare.show_batch):
        with pytest.raises(DataError, match="loaded without its data") as error:
            verb()
        speaks_of(made, str(error.value), names=False)


def bundle(made, folder):
    for number, learn in enumerate((made.learn, sheer.load(made.run))):
        file = learn.export(folder / f"{number}.sheer")
        found, wanted = sheer.load_bundle(file).predict(made.kind.new), made.learn.predict(made.kind.new)
        np.testing.assert_allclose(found.outputs, wanted.outputs, rtol=1e-4, atol=1e-5)
        assert found.labels == wanted.labels and found.items == wanted.items


def eject(made, folder):
    script = sheer.eject(made.run, f"train_{made.name}.py")
    source = "photos" if made.kind.new == "photos" else "." if made.kind.pictures else f"train_{made.name}_items.csv"
    done = run_script(script.absolute(), source, "--out", folder / "again", "--predict", made.kind.new)
    assert done.returncode == 0, done.stderr
    assert hashes(folder / "again") == hashes(made.run) == made.hashes
    found = made.learn.predict(made.kind.new)
    said = [line.partition("  ")[2] for line in done.stdout.splitlines()[-len(found) :]]
    task = made.learn.plan().data.task.name
    if task == "classify":
        wanted = [f"{label} {max(row):.4f}" for label, row in zip(found.labels, found.outputs.tolist(), strict=True)]
        assert [line.split() for line in said] == [line.split() for line in wanted]
    else:
        numbers = [[float(value) for value in re.findall(r"-?[0-9.]+(?:e-?[0-9]+)?", line)] for line in said]
        np.testing.assert_allclose(numbers, found.outputs, rtol=1e-3)


def lr_find(made, folder):
    learn = sheer.load(made.run, data=made.kind.data())
    before, state, plan = weights_sha256(learn.model), torch.get_rng_state(), learn.plan()
    sweep = learn.lr_find(steps=20)
    assert len(sweep.rates) > 1 and np.isfinite(sweep.losses).any() and "suggest" in str(sweep).lower()
    assert weights_sha256(learn.model) == before and torch.equal(torch.get_rng_state(), state) and learn.plan() == plan
    after = learn.fit_one_cycle(1).history[-1].weights_sha256
    assert after == sheer.load(made.run, data=made.kind.data()).fit_one_cycle(1).history[-1].weights_sha256


def predict(made, folder):
    learn, kind = made.learn, made.kind
    valid, found = learn.validate(), learn.predict(kind.new)
    assert len(found) == ITEMS and found.target is None and len(valid) == len(learn.data.valid)
    if kind.new != "photos":
        np.testing.assert_allclose(found.outputs[learn.data.valid], valid.outputs, rtol=1e-6)
        np.testing.assert_array_equal(learn.predict(pd.read_csv(kind.new)).outputs, found.outputs)
        assert set(found.records()[0]) >= {"item"} and "file" not in found.table()
    judged = learn.evaluate(kind.new, target=kind.target)
    assert learn.evaluate(kind.new).metrics() == judged.metrics()  # the target learned from is known
    np.testing.assert_array_equal(judged.outputs, found.outputs)
    assert judged.metrics()["items"] == ITEMS and judged.losses is not None and np.isfinite(judged.losses).all()
    speaks_of(made, found.table() + judged.report(), names=False)


def interpret(made, folder):
    seen = made.learn.interpret()
    worst = seen.top_losses(3)
    assert [one.loss for one in worst] == sorted((one.loss for one in worst), reverse=True)
    speaks_of(made, seen.report(), names=False)
    assert len(worst) == 3 and np.isfinite([one.loss for one in worst]).all()
    if made.task == "classify":
        assert seen.confusion().sum() == len(seen.table) == sum(one.items for one in seen.reliability())
        assert 0 <= seen.expected_calibration_error() <= 1 and len(seen.class_scores()) == 2
        assert (
            seen.temperature().items == len(seen.table)
            and isinstance(seen.label_candidates(), list)
            and isinstance(seen.most_confused(), list)
        )


def doctor(made, folder):
    learn = made.kind.learner()
    batches = first_batches(learn, 3)
    loop = a_loop(learn, batches)
    before = weights_sha256(loop.model)
    found = sheer.doctor(loop.model, loop.optimizer, batches, loop.loss)
    assert weights_sha256(loop.model) == before
    planted = torch.optim.SGD([*loop.model.parameters()][:-1], lr=0.1)
    seen = sheer.doctor(loop.model, planted, batches, loop.loss)
    codes = {one.code for one in seen.findings} - {one.code for one in found.findings}
    assert codes, seen


def inspect(made, folder):
    report = sheer.inspect(made.learn)
    text = str(report)
    speaks_of(made, text)
    assert json.dumps(report.record()) and report._repr_html_()
    assert report.items and not any("not normalised" in one.what for one in report.alarms)


def learn_of(made):
    return sheer.load(made.run, data=made.kind.data())


def showing(made, folder):
    learn = learn_of(made)
    if made.kind.pictures:
        assert learn.batch_data(2).images.shape == (2, 32, 32, 3) and len(learn.top_losses_data(2).items) == 2
        assert learn.results_data(2).items and learn.show_batch(2)


@dataclass(frozen=True)
class Refusal:
    """What is asked, of which kinds it cannot be, the error, and what that says instead."""

    of: Callable[[Made], bool]
    ask: Callable[[Made], object]
    error: type[SheerError]
    words: str


def without_pictures(made: Made) -> bool:
    return not made.kind.pictures


def of_rows(made: Made) -> bool:
    return made.kind.new != "photos"


def of_numbers(made: Made) -> bool:
    return made.task == "regress"


def of_several(made: Made) -> bool:
    return bool(made.learn.data.inputs)


def given(**options):
    """A learner with these options, and its plan."""
    return lambda made: made.kind.learner(**options).plan(made.kind.steps())


def asked(question: str):
    """A question of the interpretation."""
    return lambda made: getattr(made.learn.interpret(), question)()


JUDGED = ("confusion", "most_confused", "class_scores", "label_candidates", "reliability", "expected_calibration_error", "temperature")
SHOWN = ("show_batch", "show_results", "plot_top_losses")
REFUSED = (
    *(Refusal(of_numbers, asked(name), DataError, "'regress'.*top_losses") for name in JUDGED),
    *(Refusal(without_pictures, lambda made, name=name: getattr(made.learn, name)(), DataError, "no picture") for name in SHOWN),
    Refusal(of_numbers, lambda made: made.learn.plot_confusion(), DataError, "'regress'.*top_losses"),
    Refusal(of_rows, lambda made: made.learn.grad_cam(0), DataError, "no picture|one picture"),
    Refusal(of_rows, lambda made: made.learn.predict(made.kind.new, tta=2), PlanError, "for pictures.*Leave it away"),
    Refusal(of_rows, lambda made: made.learn.predict("photos/good/00.jpg"), DataError, "is no CSV file"),
    Refusal(lambda made: not of_rows(made), lambda made: made.learn.predict("items.csv"), DataError, "no photograph|cannot be read"),
    Refusal(of_rows, lambda made: made.learn.evaluate(made.kind.new, target=["a", "b"]), DataError, "Leave target away"),
    Refusal(lambda made: not of_rows(made), lambda made: made.learn.evaluate("photos", target="kind"), DataError, "target='kind'"),
    Refusal(without_pictures, lambda made: made.learn.predict(made.kind.new, root="photos"), DataError, "no such column"),
    Refusal(without_pictures, lambda made: sheer.measure_resolution(made.learn), PlanError, "for photographs"),
    Refusal(lambda made: not of_several(made), lambda made: sheer.branches(made.learn), ModelError, "one input.*makes several"),
    Refusal(lambda made: not made.learn.data.plan.columns, lambda made: made.learn.baselines(), DataError, "Give a learner of such data"),
    Refusal(lambda made: made.name != "lora", lambda made: made.learn.save_adapter("adapter.safetensors"), ModelError, "no LoRA"),
    Refusal(without_pictures, given(size=64), PlanError, "size=64 is for pictures"),
    Refusal(without_pictures, given(augmentation="strong"), PlanError, "is for pictures"),
    Refusal(without_pictures, given(resize="squish"), PlanError, "is for pictures"),
    Refusal(without_pictures, given(memory_format="channels_last"), PlanError, "for pictures only"),
    Refusal(of_rows, given(mix="mixup"), PlanError, "is for pictures.*Leave mix away"),
    Refusal(of_rows, given(channels=1), PlanError, "channels"),
    Refusal(of_rows, given(channel_init="tile"), PlanError, "channel_init"),
    Refusal(lambda made: not of_several(made), given(fusion="concat"), PlanError, "several inputs.*Leave it away"),
    Refusal(lambda made: made.kind.names == CELLS or of_several(made), given(lora=True), ModelError, "pretrained networks by name"),
    Refusal(of_numbers, given(class_weights="balanced"), PlanError, "one class an item"),
    Refusal(of_numbers, given(sampling="balanced"), PlanError, "one class an item"),
    Refusal(of_numbers, given(label_smoothing=0.1), PlanError, "one class an item"),
    Refusal(of_numbers, given(metrics=["accuracy"]), PlanError, "not known for the task 'regress'"),
)


def refusals(made, folder):
    asked = [one for one in REFUSED if one.of(made)]
    assert asked
    before = torch.get_rng_state()
    for one in asked:
        with pytest.raises(one.error, match=f"(?s){one.words}") as error:
            one.ask(made)
        assert type(error.value) is one.error
    assert torch.equal(torch.get_rng_state(), before)


def looking(made, folder):
    learn = learn_of(made)
    before = weights_sha256(learn.model)
    assert learn.features().shape == (len(learn.data.valid), learn.plan().model.features)
    assert "loss" in str(learn.preview()) and isinstance(learn.duplicates(), list)
    assert len(learn.schedule_data().rates) and learn.plot_loss() and learn.plot_schedule()
    if of_several(made):
        assert {one.branch for one in sheer.branches(learn, repeats=1).rows} == {one.name for one in learn.data.plan.inputs}
    elif of_rows(made):
        assert made.learn.plan().model.name in str(learn.baselines())
    assert weights_sha256(learn.model) == before


def command(*arguments, status=0, capsys=None):
    assert main([str(one) for one in arguments]) == status, capsys.readouterr().err
    return capsys.readouterr()


def cli_plan(made, folder, capsys):
    said = command("plan", *made.kind.arguments(), "--json", capsys=capsys).out
    assert sheer.Plan.from_json(said) == made.learn.plan()
    text = command("plan", *made.kind.arguments(), capsys=capsys).out
    assert "Estimate" in text
    speaks_of(made, text)


def cli_train(made, folder, capsys):
    text = command("train", *made.kind.arguments(), "--out", folder / "run", capsys=capsys).out
    assert hashes(folder / "run") == made.hashes and "Run folder" in text
    assert "already done" in command("train", *made.kind.arguments(), "--out", folder / "run", capsys=capsys).out
    speaks_of(made, text)


def cli_resume(made, folder, capsys):
    begun = made.kind.learner(out=folder / "half")
    begun.run(made.kind.steps(), callbacks=[Leave(3)])
    text = command("resume", folder / "half", capsys=capsys).out
    assert hashes(folder / "half") == made.hashes
    speaks_of(made, text, names=False)


def cli_predict(made, folder, capsys):
    wanted = made.learn.predict(made.kind.new)
    records = [json.loads(line) for line in command("predict", made.run, made.kind.new, "--json", capsys=capsys).out.splitlines()]
    assert [(one["item" if made.kind.new != "photos" else "file"], one.get("class")) for one in records] == [
        (item, label if wanted.task == "classify" else None) for item, label in zip(wanted.items, wanted.labels, strict=True)
    ]
    said = [list(one["values" if wanted.task == "regress" else "probabilities"].values()) for one in records]
    np.testing.assert_allclose(said, wanted.outputs, rtol=1e-6)
    command("export", made.run, folder / "one.sheer", capsys=capsys)
    command("predict", folder / "one.sheer", made.kind.new, "--csv", folder / "said.csv", capsys=capsys)
    assert len(pd.read_csv(folder / "said.csv")) == ITEMS
    assert "two" not in command("predict", made.run, made.kind.new, capsys=capsys).out
    if made.kind.new != "photos":
        assert "one CSV file" in command("predict", made.run, made.kind.new, made.kind.new, status=2, capsys=capsys).err


def cli_evaluate(made, folder, capsys):
    target = ("--target", made.kind.target) if made.kind.target else ()
    found = json.loads(command("evaluate", made.run, made.kind.new, *target, "--json", capsys=capsys).out)
    assert found == made.learn.evaluate(made.kind.new, target=made.kind.target).metrics()


def cli_report(made, folder, capsys):
    text = command("report", made.run, capsys=capsys).out
    assert f"{len(made.learn.history)} epochs" in text
    given = ("--data", "photos") if made.kind.new == "photos" else ("--data", ".") if made.kind.pictures else ()
    whole = command("report", made.run, *given, capsys=capsys).out
    assert made.learn.interpret().report() in whole
    speaks_of(made, text + whole, names=False)
    if made.kind.new != "photos":
        target = ("--target", made.kind.target) if made.kind.target else ()
        judged = command("report", made.run, "--data", "items.csv", *target, capsys=capsys).out
        assert f"({ITEMS} items)" in judged


def cli_explain(made, folder, capsys):
    text = command("explain", made.run, "--markdown", capsys=capsys).out
    assert text.startswith(f"# Plan {made.learn.plan().short_hash()} in words")
    speaks_of(made, text)


def cli_diff(made, folder, capsys):
    assert "decisions" in command("diff", made.run, "fastai-2.8", capsys=capsys).out


def cli_compare(made, folder, capsys):
    script = f"cli_{made.name}.py"
    text = command("eject", made.run, script, capsys=capsys).out
    source = re.search(r"python \S+ (\S+) --out", text).group(1)
    assert (source == "FOLDER") == made.kind.pictures and (made.kind.pictures or Path(source).is_file())
    given = ("--data", "photos") if made.kind.new == "photos" else ()
    out = command("compare", made.run, made.run, *given, "--exact", "--steps", "1", capsys=capsys).out
    assert "No tensor differs" in out
    command("compare", made.run, script, *given, "--exact", "--steps", "1", capsys=capsys)


def cli_ablate(made, folder, capsys):
    other = made.kind.learner(weight_decay=0.3, out=folder / "other").run(made.kind.steps())
    assert other
    given = ("--data", "photos") if made.kind.new == "photos" else ()
    text = command("ablate", made.run, "--to", folder / "other", *given, "--seeds", "1", "--out", folder / "a", capsys=capsys).out
    assert "weight_decay" in text and "failed" not in text


def cli_look(made, folder, capsys):
    sweep = json.loads(command("lr-find", *made.kind.arguments(), "--steps", "20", "--json", capsys=capsys).out)
    assert sweep["rates"]
    report = json.loads(command("inspect", *made.kind.arguments(), "--json", capsys=capsys).out)
    assert report["items"]


TOOLS = (
    plan_to_json_and_back,
    explain,
    diff,
    diff_of_inputs,
    compare,
    compare_cells,
    ablate,
    resume,
    load_and_train_on,
    bundle,
    eject,
    lr_find,
    predict,
    interpret,
    doctor,
    inspect,
    showing,
    refusals,
    looking,
    cli_plan,
    cli_train,
    cli_resume,
    cli_predict,
    cli_evaluate,
    cli_report,
    cli_explain,
    cli_diff,
    cli_compare,
    cli_ablate,
    cli_look,
)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tool_serves_every_kind(kind, tool, runs, tmp_path, capsys):
    made = runs(kind)
    capsys.readouterr()
    tool(made, tmp_path, **({"capsys": capsys} if "capsys" in tool.__code__.co_varnames[: tool.__code__.co_argcount] else {}))
    assert weights_sha256(made.learn.model) == made.hashes[-1]


PREDICTS = """
import json, sys
from sheer.export.predictor import load_bundle
found = {file: load_bundle(file).predict(new).outputs.tolist() for file, new in json.load(sys.stdin)}
print(json.dumps([found, sorted(name for name in sys.modules if name.startswith("sheer."))]))
"""


def test_bundles_of_every_kind_predict_without_what_trains(runs, tmp_path):
    made = {str(runs(name).learn.export(tmp_path / f"{number}.sheer")): runs(name) for number, name in enumerate(KINDS)}
    given = json.dumps([(file, one.kind.new) for file, one in made.items()])
    done = subprocess.run([sys.executable, "-c", PREDICTS], input=given, capture_output=True, text=True, check=True)
    found, modules = json.loads(done.stdout.splitlines()[-1])
    for file, one in made.items():
        np.testing.assert_allclose(found[file], one.learn.predict(one.kind.new).outputs, rtol=1e-4, atol=1e-5)
    trains = (
        "learner",
        "api",
        "loading",
        "study",
        "cli",
        "loop.train",
        "loop.optimizers",
        "loop.updates",
        "loop.fitting",
        "record.keeping",
    )
    assert not [name for name in modules if name.removeprefix("sheer.").startswith(trains)]
