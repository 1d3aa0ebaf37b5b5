"""The small file of LoRA and head: what it belongs to, training on from it to the same bits everywhere, and what is refused."""

import json
import struct
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sheer
from conftest import Leave
from scripts import run_script
from sheer.errors import ModelError, OwnershipError, PlanError, WeightsError
from sheer.loading import begun
from sheer.model.adapter import adapter_sha256, read_adapter
from sheer.model.heads import HEADS
from sheer.plan.plan import Part, Plan, origin_of
from test_eject import rows

pytest.importorskip("transformers", reason="the extra text is not installed")

from test_text import made_rows, save_encoder

LORA = {"rank": 2, "layers": ("query", "value")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an encoder, another one with a tokenizer of its own, a table of texts, and an adapter that was trained on them."""
    root = tmp_path_factory.mktemp("place")
    for name in ("encoder", "other"):
        save_encoder(root / name, layers=2 if name == "encoder" else 1)
    words = json.loads((root / "other" / "tokenizer.json").read_text())
    known = words["model"]["vocab"]
    known["good"], known["cat"] = known["cat"], known["good"]
    (root / "other" / "tokenizer.json").write_text(json.dumps(words))
    pd.DataFrame(made_rows(48)).to_csv(root / "texts.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        learn = learner(lora=LORA).run(sheer.recipes.one_cycle(1, rate=1e-2))
        learn.save_adapter("moods.safetensors")
        np.save("outputs.npy", learn.validate().outputs)
    return root


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def texts(**more):
    return sheer.text("texts.csv", text="words", **{"target": "mood", **more})


def learner(data=None, model="encoder", **options):
    return sheer.learner(data or texts(), model, **{"batch_size": 8, "quiet": True, **options})


def hashes(learn):
    return [row.weights_sha256 for row in learn.history]


def rewritten(file, target, tensors=None, **belongs):
    """The file with some of its tensors, and of what it says of itself, changed; None takes a tensor away."""
    with safe_open(file, framework="pt") as opened:
        said = json.loads(opened.metadata()["sheer"])
    kept = {name: value for name, value in (load_file(file) | (tensors or {})).items() if value is not None}
    said |= {"sha256": adapter_sha256(kept), **belongs}
    save_file(kept, target, {"sheer": json.dumps(said)})
    return target


def test_a_learner_starts_from_it_with_its_settings_and_says_so(here):
    learn = learner(adapter="moods.safetensors")
    np.testing.assert_array_equal(learn.validate().outputs, np.load("outputs.npy"))
    model = learn.plan().model
    sha256 = adapter_sha256(load_file("moods.safetensors"))
    assert model.lora.options() == {"rank": 2, "alpha": 16.0, "layers": ("query", "value"), "adapter": sha256}
    assert origin_of(model, "lora").reason.startswith("from the adapter moods.safetensors of plan ")
    phase = learn.plan(sheer.recipes.one_cycle(1)).phases[0]
    sources = {group.stage: group.weights_from for group in phase.groups}
    assert sources == {"base": "folder"} | dict.fromkeys(("lora lower", "lora upper", "head"), f"adapter {sha256[:8]}")
    afresh = learner(lora=LORA).plan(sheer.recipes.one_cycle(1))
    assert "adapter" not in str(afresh.model.lora) and afresh.phases[0].groups[-1].weights_from == "initialised"
    assert afresh.phases[0].groups[-1].sha256 != phase.groups[-1].sha256 and afresh.short_hash() != learn.plan().short_hash()
    assert Plan.from_json(learn.plan().to_json()) == learn.plan()
    assert learner(adapter="moods.safetensors", lora=LORA, head=model.head).plan().model.lora == model.lora
    again = learn.save_adapter(here / "again.safetensors")
    assert adapter_sha256(load_file(again)) == sha256


def test_training_on_gives_the_same_bits_everywhere(here, tmp_path):
    recipe = sheer.recipes.one_cycle(2, rate=1e-2)
    learn = learner(adapter="moods.safetensors", out=tmp_path / "run").run(recipe)
    assert hashes(learn) != hashes(learner(lora=LORA).run(recipe))
    learner(adapter="moods.safetensors", out=tmp_path / "cut").run(recipe, callbacks=[Leave(7)])
    assert hashes(sheer.resume(tmp_path / "cut", quiet=True)) == hashes(learn)
    start = load_file(tmp_path / "run" / "start.safetensors")
    assert adapter_sha256(start) == learn.plan().model.lora.options()["adapter"]


def test_the_script_and_a_loaded_run(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("encoder", "texts.csv", "moods.safetensors"):
        (tmp_path / name).symlink_to(here / name)
    learn = learner(adapter="moods.safetensors", out="run").run(sheer.recipes.fine_tune(1))
    script = sheer.eject("run", "train.py")
    assert "import sheer" not in script.read_text() and "def start_adapter" in script.read_text()
    done = run_script(script.absolute(), tmp_path / "train_items.csv", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    loaded = sheer.load("run", data=texts())
    np.testing.assert_array_equal(loaded.validate().outputs, learn.validate().outputs)
    assert adapter_sha256(load_file(loaded.save("copied") / "start.safetensors")) == learn.plan().model.lora.options()["adapter"]
    learn.export("moods.sheer")
    np.testing.assert_allclose(sheer.load_bundle("moods.sheer").predict("texts.csv").outputs, learn.predict("texts.csv").outputs, rtol=1e-5)
    assert "adapter" in str(sheer.explain("run")) and "lora" in str(sheer.diff("run", learner(lora=LORA)))
    begun(learn.plan(), learn.data, start=learn._start, quiet=True)
    for start in (None, load_file("run/start.safetensors") | {"head.fc.bias": torch.zeros(2)}):
        with pytest.raises(ModelError, match="The plan starts from the adapter"):
            begun(learn.plan(), learn.data, start=start)
    kept = load_file("train_start.safetensors")
    save_file({name: value + 1 for name, value in kept.items()}, "train_start.safetensors")
    done = run_script(script.absolute(), tmp_path / "train_items.csv", "--out", tmp_path / "other")
    assert done.returncode == 1 and "does not hold the adapter that the run started from" in done.stderr
    frame = pd.DataFrame(made_rows(24)).assign(mood=["glad", "sad", "calm"] * 8)
    further = sheer.load("run", data=sheer.text(frame, text="words", target="mood"))
    assert "adapter" not in further.plan().model.lora.options() and further.plan().model.weights.name == "run"
    file = further.run(sheer.recipes.one_cycle(1, rate=1e-2)).save_adapter("further.safetensors")
    np.testing.assert_array_equal(learner(further.data, adapter=file).validate().outputs, further.validate().outputs)


def test_an_image_transformer(photos, tmp_path):
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True, "seed": 3}

    def vit(**more):
        return sheer.learner(sheer.images(photos), "test_vit", **options | more)

    learn = vit(lora={"rank": 2}).unfreeze().run(sheer.recipes.one_cycle(1, rate=1e-2))
    file = learn.save_adapter(tmp_path / "photos.safetensors")
    assert file.stat().st_size < 200_000
    other = vit(adapter=file, out=tmp_path / "run")
    np.testing.assert_array_equal(other.validate().outputs, learn.validate().outputs)
    other.unfreeze().run(sheer.recipes.one_cycle(1, rate=1e-3))
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    with pytest.raises(WeightsError, match=r"base weights: '\w{8} \(none\(\)\)' there, '\w{8} \(none\(\)\)' here"):
        vit(adapter=file, seed=4)
    swapped = sheer.learner(sheer.images(photos), "test_resnet", **options).with_model("test_vit", weights="none", adapter=file)
    np.testing.assert_array_equal(swapped.validate().outputs, learn.validate().outputs)


def test_numbers_keep_the_scale_they_were_learnt_in(here, tmp_path):
    learn = learner(texts(target="stars"), lora=LORA).run(sheer.recipes.one_cycle(1, rate=1e-2))
    file = learn.save_adapter(tmp_path / "stars.safetensors")
    frame = pd.read_csv("texts.csv").assign(stars=lambda f: f["stars"] * 100)
    other = learner(sheer.text(frame, text="words", target="stars"), adapter=file)
    np.testing.assert_array_equal(other.validate().outputs, learn.validate().outputs)
    assert other.plan().data.task == learn.plan().data.task and origin_of(other.plan().data, "task").by == "weights"
    data, recipe = sheer.text(frame, text="words", target="stars"), sheer.recipes.one_cycle(2)
    swapped = other.with_model("encoder", lora=LORA)
    assert swapped.plan().data == learner(data).plan().data != other.plan().data
    whole = other.run(recipe)
    learner(data, adapter=file, out=tmp_path / "run").run(recipe, callbacks=[Leave(7)])
    assert hashes(sheer.resume(tmp_path / "run", data=data, quiet=True)) == hashes(whole)
    assert sheer.load(tmp_path / "run", data=data).plan() == whole.plan()
    further = sheer.load(whole.save(tmp_path / "whole"), data=texts(target="stars")).write_to(tmp_path / "further").run(recipe)
    assert sheer.load(tmp_path / "further", data=texts(target="stars")).plan().short_hash() == further.plan().short_hash()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "other"}, r"network: 'transformers:encoder' there, 'transformers:other' here; base weights"),
        ({"weights": "none"}, r"base weights: .\w{8} \(folder\(path='encoder'\)\). there, '\w{8} \(none\(\)\)' here"),
        ({"model": ("encoder", {"pool": "max"})}, "pooling: 'mean' there, 'max' here"),
        ({"lora": {"rank": 4, "layers": ("query", "value")}}, "lora rank: 2 there, 4 here"),
        ({"lora": {"rank": 2, "layers": ("query",)}}, r"lora layers: \('query', 'value'\) there, \('query',\) here"),
        ({"lora": {**LORA, "alpha": 4.0}}, "lora alpha: 16.0 there, 4.0 here"),
        ({"head": "linear"}, r"head: .Plain\(.*\). there, 'Linear\(dropout=.*\)' here"),
        (
            {"head": Part(name="plain", settings=(("dropout", 0.3),))},
            r"head: .Plain\(.*dropout=0.1, .*\). there, .Plain\(.*dropout=0.3, .*\). here",
        ),
        ({"data": "renamed"}, r"classes\[1\]: 'sad' there, 'unhappy' here"),
        ({"data": "reversed"}, r"classes\[0\]: 'glad' there, 'sad' here; classes\[1\]"),
        ({"data": "three"}, r"classes: \('glad', 'sad'\) there, \('calm', 'glad', 'sad'\) here"),
        ({"data": "stars"}, "task: 'classify' there, 'regress' here; classes"),
    ],
    ids=str,
)
def test_another_model_is_refused_with_all_that_differs(here, options, message):
    frame = pd.read_csv("texts.csv")
    kind = options.get("data")
    if kind == "renamed":
        frame["mood"] = frame["mood"].replace("sad", "unhappy")
    if kind == "three":
        frame.loc[:5, "mood"] = "calm"
    given = {key: value for key, value in options.items() if key != "data"}
    data = sheer.text(frame, text="words", target="stars" if kind == "stars" else "mood")
    if kind == "reversed":
        turned = data.classes[::-1]
        data = replace(data, classes=turned, targets=1 - data.targets, plan=replace(data.plan, classes=turned))
    with pytest.raises(WeightsError, match=message) as error:
        learner(data, adapter="moods.safetensors", **given)
    assert "Nothing was loaded" in str(error.value)


def test_the_same_head_and_layers_in_other_words_are_the_same(here):
    adapter = read_adapter(here / "moods.safetensors")
    whole = adapter.belongs.head.made(HEADS)
    every = Part(name="plain", settings=tuple((one.name, getattr(whole, one.name)) for one in reversed(fields(whole))))
    assert every != adapter.belongs.head
    other = learner(adapter="moods.safetensors", head=every, lora={"rank": 2, "layers": ("value", "query")})
    np.testing.assert_array_equal(other.validate().outputs, np.load("outputs.npy"))
    assert other.plan().model.lora.options()["layers"] == ("query", "value")


def test_networks_without_lora_of_that_kind_are_refused(here):
    data = sheer.arrays(torch.rand(8, 4), [0, 1] * 4)
    with pytest.raises(WeightsError, match=r"network: 'transformers:encoder' there, 'module:Linear' here"):
        sheer.learner(data, torch.nn.Linear(4, 2), adapter="moods.safetensors")
    with pytest.raises(PlanError, match="adapter"):
        learner(adapter=3)


def test_files_that_are_none_are_refused_before_anything_is_made(here, tmp_path):
    whole = (here / "moods.safetensors").read_bytes()
    bad = {
        "text": (b"PK not tensors", "is no .safetensors file that can be read"),
        "cut": (whole[:-100], "is no .safetensors file that can be read"),
        "header": (struct.pack("<Q", 10**12) + whole[8:], "is no .safetensors file that can be read"),
        "empty": (b"", "is no .safetensors file that can be read"),
        "damaged": (whole[:-4] + b"\0\0\0\1", "is damaged: its tensors do not have the hash"),
    }
    for name, (content, message) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            learner(adapter=tmp_path / name)
    with pytest.raises(WeightsError, match="is no file"):
        learner(adapter=tmp_path)
    with pytest.raises(WeightsError, match="is no file"):
        learner(adapter="nowhere.safetensors")
    save_file({"base_model.model.query.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "peft")
    with pytest.raises(WeightsError, match=r"learn\.save_adapter did not write it"):
        learner(adapter=tmp_path / "peft")


def test_what_the_file_says_and_holds_must_agree(here, tmp_path):
    file, tensors = "moods.safetensors", load_file("moods.safetensors")
    name = next(key for key in tensors if key.endswith(".lora.b"))
    first = next(key for key in tensors if key.endswith(".lora.a"))
    for number, (given, message) in enumerate(
        [
            ({"tensors": {name: None}}, f"does not have this model's tensors: {name} is missing"),
            ({"tensors": {"body.more": torch.zeros(1)}}, "body.more is unknown"),
            ({"tensors": {name: tensors[name].double()}}, r"torch.float32' here"),
            ({"tensors": {name: tensors[name][:-1].clone()}}, r"torch.float32' there"),
            ({"tensors": {name: tensors[name] / 0}}, "numbers that are not finite"),
            ({"tensors": {first: torch.zeros(3, 32)}}, r"lora rank: \[\(2,\), \(3,\)\] in its tensors, 2 in its metadata"),
            ({"format": 2}, "is of format 2; this sheer reads 1"),
            ({"classes": "glad"}, "what it says of itself cannot be read"),
            ({"more": 1}, "what it says of itself cannot be read.*unknown"),
            ({"base_sha256": ""}, "base weights"),
            (
                {"head": {"name": "plain", "settings": {"hidden": [10**9]}}},
                "a head that cannot be made.*layers of .1000000000,., which its tensors",
            ),
            ({"head": {"name": "plain", "settings": {"hidden": 5}}}, "layers of 5, which"),
            (
                {"lora": {"name": "lora", "settings": {"rank": 10**9, "alpha": 1.0, "layers": []}}},
                "lora rank: .*its tensors, 1000000000",
            ),
        ]
    ):
        with pytest.raises(WeightsError, match=message):
            learner(adapter=rewritten(file, tmp_path / f"{number}", **given))
    assert rewritten(file, tmp_path / "same") and learner(adapter=tmp_path / "same").plan() != learner(lora=LORA).plan()


def test_weights_beside_lora_that_moved_are_no_small_file(here, tmp_path):
    learn = learner(lora=LORA, norm="train").run(sheer.recipes.one_cycle(1, rate=1e-2))
    with pytest.raises(ModelError, match="Norm layers of the weights that LoRA lies beside have moved"):
        learn.save_adapter(tmp_path / "moved.safetensors")
    assert not (tmp_path / "moved.safetensors").exists()


def test_a_text_learner_s_model_is_swapped_or_the_next_fit_stops(here):
    learn = learner(adapter="moods.safetensors").run(sheer.recipes.one_cycle(1))
    before = learn.plan()
    swapped = learn.with_model("other", lora=True)
    assert not torch.equal(swapped.data.arrays, learn.data.arrays), "the texts are read by the other tokenizer"
    assert swapped.plan() == learner(model="other", lora=True).plan() == learner(learn.data, "other", lora=True).plan()
    assert swapped.run(sheer.recipes.one_cycle(1)).history and learn.with_model("other").with_model("encoder").plan() == learner().plan()
    assert hashes(learn.with_model("encoder").fit(1)) == hashes(learner().fit(1))
    assert learn.plan() == before
    learn.model = learner(adapter="moods.safetensors").model
    for look in (lambda: learn.fit(1), lambda: learn.lr_find(steps=20)):
        with pytest.raises(OwnershipError, match=r"learn\.with_model\(your_module\)"):
            look()


def test_a_text_branch_is_swapped_and_its_texts_are_read_anew(here):
    inputs = {"text": sheer.TextInput(column="words"), "table": sheer.TableInput(columns=["stars"])}
    data = sheer.DataBlock(inputs=inputs, label="mood").build("texts.csv")
    first = learner(data, {"text": ("encoder", {"pool": "max"}), "table": ("tabular", {"hidden": (4,)})}).fit(1)
    kept = first.with_model({"table": ("tabular", {"hidden": (6,)})})
    assert kept.plan() == learner(data, {"text": ("encoder", {"pool": "max"}), "table": ("tabular", {"hidden": (6,)})}).plan()
    other = first.with_model({"text": "other"})
    assert other.plan() == learner(data, {"text": "other", "table": ("tabular", {"hidden": (4,)})}).plan()
    assert not torch.equal(other.data.inputs[0].array, first.data.inputs[0].array) and other.fit(1).history
    first.model = other.model
    with pytest.raises(OwnershipError, match=r"learn\.with_model\(your_module\)"):
        first.fit(1)
