"""Test-time augmentation, features, duplicates and Grad-CAM of a learner: right, in item order, and without a trace."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sheer
from conftest import Small, make_photos
from sheer.errors import DataError, ModelError, PlanError
from sheer.interpret.attribution import as_map, class_activation, overlay
from sheer.model.hashing import weights_sha256
from sheer.streams import permutation


@pytest.fixture(scope="module")
def resnet(random_resnet_run, photos):
    return sheer.load(random_resnet_run, data=sheer.images(photos))


def state_of(learn):
    model = learn.model
    return (
        weights_sha256(model),
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [len(module._forward_hooks) for module in model.modules()],
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


LOOKS = {
    "interpret": lambda learn, photos: learn.interpret().report(),
    "tta": lambda learn, photos: learn.tta(n=2),
    "tta of files": lambda learn, photos: learn.predict(photos / "red" / "000.jpg", tta=2),
    "features": lambda learn, photos: learn.features("train"),
    "duplicates": lambda learn, photos: learn.duplicates(),
    "grad_cam": lambda learn, photos: learn.grad_cam(photos / "red" / "000.jpg", "red"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_leaves_no_trace(resnet, photos, look):
    resnet.model.train()
    resnet.model.body.eval()
    torch.manual_seed(11)
    before = state_of(resnet)
    LOOKS[look](resnet, photos)
    assert state_of(resnet) == before


@pytest.mark.parametrize("look", ["interpret", "tta", "grad_cam"])
def test_looking_changes_no_training(small_learner, photos, look):
    wanted = small_learner().fit(1).fit(1).history[-1].weights_sha256
    learn = small_learner().fit(1)
    LOOKS[look](learn, photos)
    assert learn.fit(1).history[-1].weights_sha256 == wanted


@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_tables_are_in_item_order_for_shuffled_data_and_any_batch_size(batch_size):
    inputs = torch.randn(60, 6)
    data = sheer.arrays(inputs, [0, 1, 2] * 20, valid=0.4, seed=3)
    order = permutation(9, len(data.valid))
    shuffled = sheer.Data(**{**vars(data), "valid": data.valid[order]})
    learn = sheer.learner(shuffled, lambda: nn.Linear(6, 3), batch_size=batch_size, quiet=True, device="cpu")
    with torch.no_grad():
        wanted = torch.softmax(learn.model(inputs[shuffled.valid]).double(), 1).numpy()
    for predictions in (learn.predictions(), learn.tta(n=2), learn.interpret().table):
        assert predictions.items == tuple(f"item {item}" for item in shuffled.valid)
        assert np.allclose(predictions.probabilities, wanted, atol=1e-6)
        assert np.array_equal(predictions.target, shuffled.targets[shuffled.valid])
        assert np.allclose(predictions.losses, -np.log(wanted[np.arange(len(order)), predictions.target]), atol=1e-5)


def test_losses_are_the_plans_own(small_learner):
    learn = small_learner(label_smoothing=0.2).fit(1)
    predictions = learn.validate()
    assert predictions.losses.mean() == learn.history[-1].valid_loss
    logs = np.log(predictions.probabilities)
    nll = -logs[np.arange(len(predictions)), predictions.target]
    assert np.allclose(predictions.losses, 0.8 * nll - 0.2 * logs.mean(1), atol=1e-5)


def test_tta_is_a_weighted_mean_of_its_passes(small_learner):
    learn = small_learner(augmentation=("flip",)).fit(1)
    plain, whole, augmented = learn.predictions(), learn.tta(n=3), learn.tta(n=3, beta=0.0)
    assert np.allclose(whole.probabilities, 0.75 * augmented.probabilities + 0.25 * plain.probabilities, atol=1e-15)
    assert np.array_equal(learn.tta(n=3, beta=1.0).probabilities, plain.probabilities)
    assert not np.allclose(augmented.probabilities, plain.probabilities, atol=1e-4)
    assert np.array_equal(learn.tta(n=3).probabilities, whole.probabilities), "the same draws each time"
    two = learn.tta(n=2, beta=0.0).probabilities
    assert np.array_equal(learn.tta(n=1, beta=0.0).probabilities * 1, learn.tta(n=1, beta=0.0).probabilities)
    assert not np.array_equal(two, learn.tta(n=1, beta=0.0).probabilities), "each pass draws anew"
    assert np.allclose(whole.probabilities.sum(1), 1) and whole.items == plain.items
    assert np.allclose(whole.losses, -np.log(whole.probabilities[np.arange(len(whole)), whole.target]))


def test_tta_of_a_file_does_not_depend_on_other_files(small_learner, photos):
    learn = small_learner(augmentation=("flip",))
    files = [photos / "red" / "000.jpg", photos / "blue" / "000.jpg", photos / "red" / "001.jpg"]
    together = learn.predict(files, tta=3)
    for number, file in enumerate(files):
        assert np.allclose(learn.predict(file, tta=3).probabilities[0], together.probabilities[number], atol=1e-6)
    assert not np.allclose(together.probabilities, learn.predict(files).probabilities, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 1.5}, {"n": True}, {"beta": 1.5}, {"beta": -0.1}])
def test_tta_refuses_by_name(small_learner, wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        small_learner().tta(**wrong)


def test_features_are_what_enters_the_head(resnet):
    features = resnet.features("train")
    assert features.dtype == np.float32 and features.shape == (len(resnet.data.train), resnet.model.body.num_features)
    assert np.array_equal(features, resnet.features("train"))
    feed = resnet._view().feed(resnet.data)
    with torch.no_grad():
        maps = resnet.model.eval().body(next(iter(feed.plain(resnet.data.train[:3]))).inputs)
    assert np.allclose(features[:3], maps.mean((2, 3)).numpy(), atol=1e-6)


def test_a_module_of_your_own_has_no_features(small_learner):
    with pytest.raises(ModelError, match="taken whole"):
        small_learner().features()


def test_duplicates_are_found_by_bytes_and_by_features_across_the_split(tmp_path):
    root = make_photos(tmp_path / "train", {"blue": 12, "red": 12})
    make_photos(tmp_path / "valid", {"blue": 3, "red": 3})
    shutil.copy(root / "red" / "004.jpg", tmp_path / "valid" / "blue" / "same.jpg")
    Image.open(root / "blue" / "007.jpg").save(root / "blue" / "again.jpg", quality=95)
    generator = np.random.default_rng(4)
    for place in (root / "red" / "odd.jpg", tmp_path / "valid" / "red" / "odd.jpg"):
        blocks = generator.integers(0, 255, (5, 6, 3)).astype(np.uint8)
        Image.fromarray(blocks).resize((48, 40), Image.Resampling.NEAREST).save(place)
    learn = sheer.learner(sheer.images(tmp_path), "resnet18", weights="none", size=64, batch_size=8, quiet=True)
    pairs = learn.duplicates(0.999)
    exact = {(pair.first, pair.second): pair for pair in pairs if pair.exact}
    # make_photos repeats its noise for the first three of each class in train and valid: equal bytes there
    assert ("train/red/004.jpg", "valid/blue/same.jpg") in exact
    found = exact["train/red/004.jpg", "valid/blue/same.jpg"]
    assert found.across and not found.same_target and found.similarity == 1.0
    near = {(pair.first, pair.second): pair for pair in pairs if not pair.exact}
    assert ("train/blue/007.jpg", "train/blue/again.jpg") in near and not near["train/blue/007.jpg", "train/blue/again.jpg"].across
    assert ("train/red/odd.jpg", "valid/red/odd.jpg") not in near
    values = [pair.similarity for pair in pairs if not pair.exact]
    assert values == sorted(values, reverse=True) and not [pair for pair in learn.duplicates(1.0) if not pair.exact and pair.similarity < 1]
    for wrong in (0, 1.2):
        with pytest.raises(PlanError, match="threshold"):
            learn.duplicates(wrong)


def test_equal_arrays_are_duplicates():
    inputs = torch.randint(0, 255, (20, 3, 32, 32), dtype=torch.uint8)
    inputs[13] = inputs[2]
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), "resnet18", weights="none", batch_size=8, quiet=True)
    exact = [(pair.first, pair.second) for pair in learn.duplicates(1.0) if pair.exact]
    assert exact == [("item 2", "item 13")]


class Corner(nn.Module):
    """Class 1 is bright where a picture is bright; class 0 is a constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        nn.init.constant_(self.conv.weight, 1.0)
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(2, 2)
        with torch.no_grad():
            self.out.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))

    def forward(self, images):
        return self.out(self.relu(self.conv(images)).mean((2, 3)))


def test_grad_cam_lights_what_the_score_rests_on():
    images = torch.zeros(1, 3, 16, 16)
    images[..., 2:6, 9:13] = 1
    heat, scores = class_activation(Corner(), images, torch.tensor([1]))
    assert heat.shape == (1, 16, 16) and scores.shape == (1, 2)
    assert torch.equal(heat[0] == 1, images[0, 0] == 1) and float(heat[0].min()) == 0
    nothing, _ = class_activation(Corner(), torch.zeros(1, 3, 16, 16), torch.tensor([1]))
    assert float(nothing.abs().max()) == 0


def test_grad_cam_is_the_formula_by_hand(resnet):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    heat, scores = class_activation(resnet.model, images, torch.tensor([0, 1]))
    model = resnet.model.eval()
    maps = model.body(images).detach().requires_grad_()
    assert torch.allclose(model.head(maps * 1), scores, atol=1e-6)
    slopes = torch.autograd.grad(model.head(maps * 1)[[0, 1], [0, 1]].sum(), maps)[0]
    raw = (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu().detach()
    large = nn.functional.interpolate(raw, size=(64, 64), mode="bilinear")[:, 0]
    assert torch.allclose(heat, large / large.amax((1, 2), keepdim=True).clamp_min(1e-12), atol=1e-5)


def test_grad_cam_is_captums(photos):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=64, quiet=True).model.eval()
    heat, _ = class_activation(model, images, torch.tensor([1]))
    theirs = attr.LayerGradCam(model, model.body.layer4).attribute(images, target=1, relu_attributions=True)
    theirs = attr.LayerAttribution.interpolate(theirs, (64, 64), "bilinear")[0, 0].detach()
    assert theirs.max() > 0 and torch.allclose(heat[0], theirs / theirs.max(), atol=1e-5)


ARCHITECTURES = ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_grad_cam_of_other_architectures(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3)
    images = torch.rand(2, 3, 224, 224)
    heat, scores = class_activation(model, images, torch.tensor([0, 2]))
    assert heat.shape == (2, 224, 224) and scores.shape == (2, 3) and bool(torch.isfinite(heat).all())
    assert float(heat.amax()) == 1 and float(heat.amin()) >= 0 and float(heat.std()) > 0


def test_grad_cam_reads_the_last_blocks_first_norm_of_a_class_token_transformer():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3).eval()
    kept = []
    hook = model.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: kept.append(output))
    images = torch.rand(1, 3, 224, 224)
    scores = model(images)
    hook.remove()
    slope = torch.autograd.grad(scores[0, 1], kept[0])[0][0, 1:]
    raw = (slope.mean(0) * kept[0][0, 1:]).sum(1).relu().view(1, 1, 14, 14).detach()
    large = nn.functional.interpolate(raw, size=(224, 224), mode="bilinear")[0, 0]
    heat, _ = class_activation(model, images, torch.tensor([1]))
    assert torch.allclose(heat[0], large / large.max(), atol=1e-5)


def test_what_counts_as_a_map():
    assert as_map(torch.zeros(2, 8, 7, 7)).shape == (2, 8, 7, 7)
    assert as_map(torch.zeros(2, 7, 7, 8)).shape == (2, 8, 7, 7)
    assert as_map(torch.zeros(2, 50, 8)).shape == (2, 8, 7, 7)
    for shape in [(2, 8), (2, 8, 1, 1), (2, 3, 5, 7), (2, 1, 8), (2,), (2, 63, 8)]:
        assert as_map(torch.zeros(shape)) is None, shape


def test_grad_cam_of_items_and_files(resnet, photos):
    item = int(resnet.data.valid[0])
    by_item = resnet.grad_cam(item)
    by_file = resnet.grad_cam(photos / resnet.data.paths[item])
    assert np.array_equal(by_item.heat, by_file.heat) and by_item.pixels.shape == (32, 32, 3) and by_item.heat.shape == (32, 32)
    assert by_item.name == resnet.predictions().labels[0]
    assert by_item.output == pytest.approx(resnet.predictions().probabilities[0].max(), abs=1e-6)
    other = resnet.grad_cam(item, next(name for name in resnet.classes if name != by_item.name))
    assert other.name != by_item.name and other.output == pytest.approx(1 - by_item.output)
    picture = by_item.overlay()
    assert picture.dtype == np.uint8 and picture.shape == (32, 32, 3)
    cold = by_item.heat == 0
    assert np.array_equal(picture[cold], by_item.pixels[cold])
    assert np.array_equal(by_item.overlay(0.0), by_item.pixels)


def test_the_pixels_of_grad_cam_are_the_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32)).astype(np.uint8)
    learn = sheer.learner(sheer.arrays(torch.from_numpy(pixels), [0, 1] * 12), Small, batch_size=8, quiet=True)
    assert np.array_equal(learn.grad_cam(5).pixels, pixels[5].transpose(1, 2, 0))


def test_grad_cam_refuses_by_name(resnet, small_learner, photos):
    with pytest.raises(DataError, match="green"):
        resnet.grad_cam(0, "green")
    with pytest.raises(DataError, match="item 999"):
        resnet.grad_cam(999)
    with pytest.raises(DataError, match=r"nothing\.jpg"):
        resnet.grad_cam(photos / "nothing.jpg")

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3 * 32 * 32, 2)

        def forward(self, images):
            return self.out(images.flatten(1))

    with pytest.raises(ModelError, match="no layer"):
        small_learner(model=Flat).grad_cam(0)
    vectors = sheer.learner(sheer.arrays(torch.randn(20, 6), [0, 1] * 10), lambda: nn.Linear(6, 2), batch_size=4, quiet=True)
    with pytest.raises(DataError, match="no picture"):
        vectors.grad_cam(0)


def test_overlay_mixes_by_heat():
    pixels = np.full((2, 2, 3), 100, np.uint8)
    mixed = overlay(pixels, np.array([[0.0, 1 / 3], [2 / 3, 1.0]]), 1.0)
    assert mixed[0, 0].tolist() == [100, 100, 100] and mixed[1, 1].tolist() == [255, 255, 255]
    assert mixed[0, 1].tolist() == [152, 67, 67] and mixed[1, 0].tolist() == [203, 203, 33]
