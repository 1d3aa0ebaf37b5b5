"""Verified surgery: the classifier is cut off only after kept body + old classifier gave the old logits, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from sheer.errors import ModelError
from sheer.model.backbones import TorchvisionBody
from sheer.plan.plan import Surgery

Removed = (nn.Linear, nn.Conv2d, nn.Dropout)
Passing = (nn.Dropout, nn.AdaptiveAvgPool2d)  # these belong to the classifier, though they have no parameters


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a network is cut: what the body gives, its width and total stride, and the proof.

    `stride` is by how many pixels the picture's side grows for one more cell of the map; 1 for a vector.
    `node` is the torch.fx node whose value the body returns (torchvision), "" for timm.
    """

    kind: str
    node: str
    features: int
    stride: int
    surgery: Surgery


def _proof(whole: nn.Module, kept: set[str], method: str, difference: float) -> Surgery:
    sizes = {name: parameter.numel() for name, parameter in whole.named_parameters()}
    dropped = tuple(name for name in sizes if name not in kept)
    return Surgery(
        method=method,
        kept_parameters=sum(size for name, size in sizes.items() if name in kept),
        dropped_parameters=sum(sizes[name] for name in dropped),
        dropped=dropped,
        largest_difference=difference,
    )


def probe_images(size: int, channels: int = 3) -> torch.Tensor:
    """Two pictures (2, channels, size, size) of waves, the same on every machine, without any random draw."""
    grid = torch.arange(size, dtype=torch.float32) / size
    waves = [torch.sin(6.0 * (number + 1) * grid)[:, None] * torch.cos(4.0 * (number + 2) * grid) for number in range(2 * channels)]
    return torch.stack(waves).reshape(2, channels, size, size)


def sample_inputs(arrays: torch.Tensor | None, size: int, channels: int) -> torch.Tensor:
    """Two inputs like those to come: the first two items where they are numbers, else waves as pictures of the arrays' size, or `size`."""
    if arrays is None:
        return probe_images(max(size, 1), channels)
    return arrays[:2] if arrays.dtype != torch.uint8 else probe_images(arrays.shape[-1], arrays.shape[1])


def measured_stride(body: nn.Module, size: int, cells: int, channels: int = 3) -> int:
    """By how many pixels the picture's side grows for one more cell of the map, which has `cells` a side at `size`.

    Measured between two sizes, since borders take cells away: Inception gives 8 cells at 299 px, but one for each 32.
    Where the network takes one size only: side of the picture over side of the map.
    """
    step = 64 if size >= 128 else size // 2
    try:
        fewer = cells - body(probe_images(size - step, channels)).shape[2]
    except (RuntimeError, AssertionError, ValueError):
        fewer = 0
    return max(round(step / fewer if fewer > 0 else size / cells), 1)


@torch.no_grad()
def cut_timm(whole: Any, name: str, size: int) -> Cut:
    """Cut timm's model before its pooling where that drops nothing but the classifier, else after it.

    Raises:
        ModelError: neither cut reproduces the logits bit for bit.
    """
    whole = whole.eval()
    images = probe_images(size)
    logits = whole(images)
    seen: list[str] = []
    for kind in ("map", "vector"):
        body: Any = copy.deepcopy(whole)
        if kind == "map":
            body.reset_classifier(0, "")
        else:
            body.reset_classifier(0)
        features = body(images)
        if kind == "map" and (features.ndim != 4 or not features.shape[2] == features.shape[3] > 1):
            continue  # no map, or one with its channels last, which the heads do not take: after the pooling then
        classifier = whole.get_classifier()
        if not isinstance(classifier, nn.Module):
            seen.append(f"{kind}: it has {len(classifier)} classifiers, whose scores are averaged")
            continue
        try:
            again = whole.forward_head(features) if kind == "map" else classifier(features)
        except (RuntimeError, ValueError, IndexError) as error:
            seen.append(f"{kind}: {str(error).splitlines()[0]}")
            continue
        difference = float((again - logits).abs().max())
        if again.shape == logits.shape and torch.equal(again, logits):
            kept = {key for key, _ in body.named_parameters()}
            method = "forward_head(body(x)) == model(x)" if kind == "map" else "classifier(body(x)) == model(x)"
            stride = measured_stride(body, size, features.shape[2]) if kind == "map" else 1
            return Cut(
                kind=kind,
                node="",
                features=features.shape[1],
                stride=stride,
                surgery=_proof(whole, kept, method, difference),
            )
        seen.append(f"{kind}: the logits differ by up to {difference:g}")
    raise ModelError(
        f"timm:{name} cannot be cut: what would be kept does not reproduce its own logits ({'; '.join(seen)}). "
        "Nothing was changed. Choose another model, or pass your own module that ends in the scores of your classes."
    )


@torch.no_grad()
def cut_torchvision(whole: nn.Module, name: str, size: int) -> Cut:
    """Cut torchvision's model at the last map that only linear layers follow, else before its last layer.

    Raises:
        ModelError: the network cannot be traced, or no cut reproduces the logits bit for bit.
    """
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    whole = whole.eval()
    images = probe_images(size)
    logits = whole(images)
    try:
        train_nodes, eval_nodes = get_graph_node_names(whole)
        both = [node for node in eval_nodes if node in set(train_nodes)]
        tracer = create_feature_extractor(copy.deepcopy(whole), {node: node for node in both}).eval()
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"torchvision:{name} cannot be traced by torch.fx: {error}") from error
    values = {node: value for node, value in tracer(images).items() if isinstance(value, torch.Tensor)}
    owners = {
        f"{path}.{short}" if path else short: module
        for path, module in whole.named_modules()
        for short, _ in module.named_parameters(recurse=False)
    }
    last_layer = list(owners)[-1].rpartition(".")[0]
    modules = dict(whole.named_modules())
    values = {node: value for node, value in values.items() if not isinstance(modules.get(node), Passing)}
    maps = [node for node, value in values.items() if value.ndim == 4 and value.shape[2] == value.shape[3] > 1]
    vectors = [node for node, value in values.items() if value.ndim == 2]
    for kind, nodes in (("map", maps), ("vector", vectors)):
        for node in reversed(nodes):
            body = TorchvisionBody(copy.deepcopy(whole), node).eval()
            kept = {key.removeprefix("net.") for key, _ in body.named_parameters()}
            dropped = [key for key in owners if key not in kept]
            if not dropped:
                continue
            linear_only = all(isinstance(owners[key], Removed) for key in dropped)
            last_only = all(key.startswith(last_layer + ".") for key in dropped)
            if not (linear_only if kind == "map" else last_only):
                break
            features = body(images)
            if torch.equal(_tail(whole, node, features, images), logits) and torch.equal(_as_trained(body, images), features):
                stride = measured_stride(body, size, features.shape[2]) if kind == "map" else 1
                method = f"rest of the graph({node}) == model(x)"
                return Cut(
                    kind=kind,
                    node=node,
                    features=features.shape[1],
                    stride=stride,
                    surgery=_proof(whole, kept, method, 0.0),
                )
    raise ModelError(
        f"torchvision:{name} cannot be cut: no node of its graph is followed by its classifier alone and reproduces "
        "its logits. Nothing was changed. Choose another model, for instance the timm one of the same family."
    )


def _as_trained(body: TorchvisionBody, images: torch.Tensor) -> torch.Tensor:
    """What the graph for training gives with every layer in eval mode: torch.fx traces both, and a name might mean two nodes."""
    body.net.train()
    for module in body.net.modules():
        if module is not body.net:
            module.eval()
    features = body(images)
    body.eval()
    return features


def _tail(whole: nn.Module, node: str, features: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The logits that the rest of the graph gives for `features` at `node`, with blank pictures before it."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    last = get_graph_node_names(whole)[1][-1]
    graph_module = create_feature_extractor(copy.deepcopy(whole), {node: "features", last: "logits"}).eval()
    output = next(item for item in graph_module.graph.nodes if item.op == "output")
    wanted = output.args[0]["features"]
    interpreter = fx.Interpreter(graph_module)
    return interpreter.run(torch.zeros_like(images), initial_env={wanted: features})["logits"]
