"""Keras 3 on its torch backend, as its guide to transfer learning has it, around the same network (pip install keras).

Adam, batches of 64, mirrored pictures turned by up to a tenth of a turn, sides squeezed to a square; the body in inference mode
throughout. First a new Dense layer trains behind Dropout(0.2) at Keras's own rate, then the whole network at 1e-5. The guide reads files
by TensorFlow; here PyTorch's loaders do.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
from benchmarks.peers.plain import loaders, network, result_of
from benchmarks.peers.task import Curve, Result, Task
from torchvision.transforms import Resize


class Classifier(keras.Model):
    """The guide's model: augmentation, the body called with training=False, dropout, one dense layer."""

    def __init__(self, body: torch.nn.Module, classes: int) -> None:
        super().__init__()
        self.cut = keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)])
        self.body = keras.layers.TorchModuleWrapper(body)
        self.drop, self.dense = keras.layers.Dropout(0.2), keras.layers.Dense(classes)

    def call(self, images, training=False):
        images = self.cut(images, training=training) if training else images
        return self.dense(self.drop(self.body(images, training=False), training=training))


class Watch(keras.callbacks.Callback):
    """A point of the curve after each epoch."""

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self.curve = curve

    def on_epoch_end(self, epoch, logs=None):
        self.curve.point(logs["val_accuracy"])


def train(task: Task, curve: Curve) -> Result:
    keras.utils.set_random_seed(task.seed)
    keras.config.set_image_data_format("channels_first")
    square = [Resize((task.size, task.size))]
    train, valid = loaders(task, square, square, batch=64, drop_last=False)
    model = Classifier(network(task, 0), len(train.dataset.classes))
    for trainable, rate, epochs in ((False, 1e-3, 1), (True, 1e-5, task.epochs)):
        model.body.trainable = trainable
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        model.fit(train, validation_data=valid, epochs=epochs, callbacks=[Watch(curve)], verbose=0)
    scores = torch.cat([model(images, training=False).detach().cpu() for images, _ in valid])
    return result_of(train, valid, scores.argmax(1) == torch.tensor(valid.dataset.targets))
