"""The peers by name, and where each lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`place` is module:function in this package; `about` says whose recipe it is."""

    place: str
    about: str


PEERS = {
    "sheer": Peer(place="with_sheer:default", about="sheer's default recipe, `fine_tune(epochs)`"),
    "sheer-fastai": Peer(place="with_sheer:as_fastai", about="the same with the profile `fastai-2.8`"),
    "fastai": Peer(
        place="with_fastai:train",
        about="fastai: `ImageDataLoaders.from_folder`, `Resize`, `vision_learner`, `fine_tune(epochs)`, all else default",
    ),
    "plain": Peer(
        place="plain:train",
        about="a careful PyTorch loop: workers, channels_last, fused AdamW, one-cycle, norm layers frozen, head first, then everything",
    ),
    "tricks-4": Peer(
        place="tricks:row_4",
        about="an article's loop, the best of its seven rows: Adam, norm layers training, head first, then everything at two rates",
    ),
    "tricks-5": Peer(place="tricks:row_5", about="the same with norm layers left as they are, its fifth row"),
    "keras": Peer(
        place="with_keras:train",
        about="Keras 3 on torch, as its transfer-learning guide: norm layers in inference mode, Adam, head first, then all at 1e-5",
    ),
    "timm": Peer(place="with_timm:train", about="timm's train.py (a copy's path as TIMM_TRAIN), AdamW at 5e-4 with one epoch of warm-up"),
}
REFERENCE = "fastai"
"""Whose final accuracy and seconds the others are measured against."""
