"""How alike the features of changed copies and of different photographs are: the experiment behind the threshold of duplicates.

    python benchmarks/duplicates.py PHOTOS WORK

PHOTOS are class folders; WORK gets them again with five changed copies of every fourth one.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import sheer

THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.97)


def changed_copies(picture):
    width, height = picture.size
    yield "small", picture.resize((int(width * 0.6), int(height * 0.6)))
    yield "crop", picture.crop((width // 20, height // 20, width - width // 20, height - height // 20))
    yield "flip", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "bright", ImageEnhance.Brightness(picture).enhance(1.25)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("work")
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    data = sheer.images(args.photos)
    for number, path in enumerate(data.paths):
        picture = Image.open(Path(data.root, path)).convert("RGB")
        folder = Path(args.work, Path(path).parent.name)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{number:05d}"
        picture.save(folder / f"{name}.png")
        if number % 4 == 0:
            picture.save(folder / f"{name}~jpeg.jpg", quality=40)
            for kind, copy in changed_copies(picture):
                copy.save(folder / f"{name}~{kind}.png")
    data = sheer.images(args.work)
    learn = sheer.learner(data, "tf_efficientnet_lite0", weights="package", size=args.size, quiet=True)
    for when, epochs in (("before training", 0), ("after fine_tune(2)", 2)):
        if epochs:
            learn.fine_tune(epochs)
        features = np.concatenate([learn.features("train"), learn.features("valid")])
        names = [Path(data.paths[item]).stem for item in np.concatenate([data.train, data.valid])]
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        alike, photo = unit @ unit.T, np.array([name.partition("~")[0] for name in names])
        above = np.triu(photo[:, None] != photo[None], 1)
        print(f"{when}: {int(above.sum())} pairs of different photographs, the most alike {alike[above].max():.4f};", end=" ")
        print("pairs above", {t: int((alike[above] >= t).sum()) for t in THRESHOLDS})
        place = {name: number for number, name in enumerate(names)}
        for kind in ("jpeg", "small", "crop", "flip", "bright"):
            values = np.array([alike[place[name], place[name.partition("~")[0]]] for name in names if name.endswith("~" + kind)])
            shares = {t: round(float((values >= t).mean()), 2) for t in THRESHOLDS}
            print(f"  {kind:<6} median {np.median(values):.4f}, share above", shares)


if __name__ == "__main__":
    main()
