"""Bundles: a trained model in one file that holds data only, each part under its SHA-256.

A bundle is a zip file whose members are stored as they are (not compressed):

    bundle.json           format, what goes in and comes out, the size and SHA-256 of every other member
    plan.json             the plan, complete
    record.json           versions, fingerprints, the names and source hashes of code of your own
    weights.safetensors   the model's tensors
    probe.safetensors     two pictures, what the network got of them, and what it said
    tokenizer.json        for a text encoder only: how texts become token ids

Nothing in it is code, and no name in it is imported. A SHA-256 tells damage from the bytes that were written; it
does not tell who wrote them: whoever can change a member can change its sum, but still cannot have anything run.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to

from sheer.errors import BundleError, PlanError, unwritable
from sheer.plan.document import decode, encode, parse
from sheer.plan.plan import Part, Plan
from sheer.record.run import Record

FORMAT = 1
MEMBERS = ("plan.json", "record.json", "weights.safetensors", "probe.safetensors")
JSON_BYTES = 64 << 20
OLDEST = (1980, 1, 1, 0, 0, 0)

# what zipfile raises for bytes that are no zip file, or a damaged one
NO_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError, OSError)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """One member: its name, its size in bytes, its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What goes in and comes out, for readers that know nothing of sheer; each value is the plan's own.

    Pictures are brought to `size` by `resize`, cut at the centre, divided by 255, then (value - mean) / std. `task`
    says what the scores mean, `classes` in which order they come.
    """

    model: str
    task: Part
    classes: tuple[str, ...]
    pictures: str
    channels: int
    size: int
    resize: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str


@dataclass(frozen=True, kw_only=True)
class Head:
    """bundle.json: written first, so that whatever reads a stream knows what follows."""

    format: int
    sheer: str
    interface: Interface
    members: tuple[Sum, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A bundle as read: every member has the bytes that it was written with."""

    interface: Interface
    plan: Plan
    record: Record
    weights: dict[str, torch.Tensor]
    probe: dict[str, torch.Tensor]
    tokenizer: str


def interface_of(plan: Plan) -> Interface:
    """What the model of a plan takes and gives, after its last phase."""
    if not plan.phases:
        raise BundleError("The plan has no phases: nothing was trained, so there is nothing to export.")
    phase = plan.phases[-1]
    return Interface(
        model=plan.model.name,
        task=plan.data.task,
        classes=plan.data.classes,
        pictures=plan.data.pictures,
        channels=plan.model.channels,
        size=phase.size,
        resize=phase.resize,
        mean=phase.mean,
        std=phase.std,
        precision=plan.numerics.precision,
    )


def write_bundle(
    target: Path, plan: Plan, record: Record, weights: Mapping[str, torch.Tensor], probe: Mapping[str, torch.Tensor], tokenizer: str = ""
) -> None:
    """Write the file and flush it to the disk; the same parts give the same bytes.

    Raises:
        BundleError: it cannot be written.
    """
    contents = {
        "plan.json": plan.to_json().encode(),
        "record.json": json.dumps(encode(record), indent=2).encode(),
        "weights.safetensors": tensors_to({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}),
        "probe.safetensors": tensors_to(dict(probe)),
        **({"tokenizer.json": tokenizer.encode()} if tokenizer else {}),
    }
    sums = tuple(Sum(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    head = Head(format=FORMAT, sheer=record.sheer, interface=interface_of(plan), members=sums)
    try:
        with target.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
                for name, content in {"bundle.json": json.dumps(encode(head), indent=2).encode(), **contents}.items():
                    packed.writestr(zipfile.ZipInfo(name, OLDEST), content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BundleError(unwritable(target, error)) from error


def read_bundle(file: str | Path) -> Parts:
    """Read a bundle's members and compare each with its sum; nothing is unpacked, and nothing is executed.

    Raises:
        BundleError: the file is none, is damaged, is of another format, or its parts do not belong together.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise BundleError(f"There is no bundle {str(file)!r}. learn.export(file), or sheer export RUN FILE, writes one.")
    try:
        with zipfile.ZipFile(path) as packed:
            contents = _members(path, packed)
    except NO_ZIP as error:
        raise BundleError(f"{path} is no bundle, or a damaged one: {error}. {remedy(path)}") from error
    try:
        written = parse(contents["bundle.json"].decode())
        if isinstance(written, dict) and written.get("format") != FORMAT:
            raise BundleError(
                f"{path} is of format {written.get('format')!r}; this sheer reads {FORMAT}. "
                f"It was written by sheer {written.get('sheer')!r}: load it with that one, or export the run again with this one."
            )
        head = decode(Head, written, "bundle.json")
        _check_sums(path, head.members, contents)
        plan = Plan.from_json(contents["plan.json"].decode())
        record = decode(Record, parse(contents["record.json"].decode()), "record.json")
        weights, probe = tensors_from(contents["weights.safetensors"]), tensors_from(contents["probe.safetensors"])
    except (PlanError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if not record.is_of(plan):
        raise BundleError(f"{path}: its plan (hash {plan.short_hash()}) is not that of its record ({record.plan_hash}).")
    differing = differences(head.interface, interface_of(plan))
    if differing:
        raise BundleError(f"{path}: bundle.json and plan.json differ in {'; '.join(differing)}. Export the run again.")
    return Parts(
        interface=head.interface,
        plan=plan,
        record=record,
        weights=weights,
        probe=probe,
        tokenizer=contents.get("tokenizer.json", b"").decode(),
    )


def remedy(path: Path) -> str:
    """What to do with a file that is no bundle, by what it seems to be."""
    if path.suffix.lower() in (".pth", ".pt", ".pkl", ".ckpt", ".bin"):
        return (
            "Such files may be pickles, which run code when they are read; sheer reads none as a bundle. If it holds weights only, "
            "give it to sheer.learner(data, model, weights=FILE)."
        )
    return "Fetch it again, or export the run again."


def differences(one: Interface, other: Interface) -> list[str]:
    """The fields in which two interfaces differ, with both values."""
    pairs = [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in fields(Interface)]
    return [f"{name} ({mine} against {theirs})" for name, mine, theirs in pairs if mine != theirs]


def _members(path: Path, packed: zipfile.ZipFile) -> dict[str, bytes]:
    """The members' bytes; they must be those of a bundle, each once and stored as it is."""
    infos = packed.infolist()
    names = sorted(info.filename for info in infos)
    if names not in (sorted(("bundle.json", *MEMBERS)), sorted(("bundle.json", *MEMBERS, "tokenizer.json"))):
        raise BundleError(f"{path} is no bundle: it has the members {', '.join(map(repr, names[:8]))}. {remedy(path)}")
    total = path.stat().st_size
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1 or info.file_size > total:
            raise BundleError(f"{path}: {info.filename} is compressed or encrypted, which sheer never does.")
        if info.filename.endswith(".json") and info.file_size > JSON_BYTES:
            raise BundleError(f"{path}: {info.filename} has {info.file_size:,} bytes; at most {JSON_BYTES:,} are read.")
    return {info.filename: packed.read(info) for info in infos}


def _check_sums(path: Path, sums: Sequence[Sum], contents: Mapping[str, bytes]) -> None:
    if {one.name for one in sums} != {*contents} - {"bundle.json"}:
        raise BundleError(f"{path}: bundle.json has sums of {[one.name for one in sums]}; its members are {sorted(contents)}.")
    for one in sums:
        content = contents[one.name]
        if len(content) != one.size or hashlib.sha256(content).hexdigest() != one.sha256:
            raise BundleError(
                f"{path} is damaged: {one.name} has {len(content):,} bytes whose SHA-256 is not the one in bundle.json. Fetch it again."
            )
