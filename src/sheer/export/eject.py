"""A run as one plain PyTorch file: the leaves that its plan reaches, word for word, its constants, and the main template."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from sheer import streams
from sheer.data import (
    augment,
    boxes,
    cells,
    colour,
    folders,
    geometry,
    inputs,
    mix,
    own,
    photos,
    pixels,
    policies,
    sampling,
    splits,
    tokens,
)
from sheer.errors import EjectError, unwritable
from sheer.export import fusion_template, main_template, model_template, prefix_template, table_template
from sheer.export.constants import render_constants
from sheer.export.marks import needed_marks
from sheer.export.source import Definition, definitions, import_block, names_read, own_definitions, reached
from sheer.interpret import attribution
from sheer.loop import fitting, optimizers, precision, step, updates
from sheer.model import backbones, channels, encoders, fusion, hashing, heads, lora, prefix, stages, tabular
from sheer.model.rebuild import OWN
from sheer.plan import schedules
from sheer.plan.checks import check_objects, path_of
from sheer.plan.facts import adapter_of
from sheer.plan.plan import Plan
from sheer.record.again import check_items, data_place
from sheer.record.checkpoint import COMPLETED
from sheer.record.run import Record, read_run, version_of
from sheer.task import losses, metrics, tasks

LEAVES: tuple[ModuleType, ...] = (
    streams,
    folders,
    splits,
    sampling,
    pixels,
    augment,
    geometry,
    boxes,
    colour,
    policies,
    own,
    mix,
    photos,
    cells,
    inputs,
    tokens,
    backbones,
    channels,
    encoders,
    hashing,
    heads,
    prefix,
    tabular,
    fusion,
    lora,
    stages,
    schedules,
    losses,
    metrics,
    tasks,
    optimizers,
    precision,
    step,
    fitting,
    updates,
    attribution,
)


BESIDE = ("items.csv", "start.safetensors", "tokenizer.json")
"""Files of a run folder that a script has beside it."""


def eject(run: str | Path, script: str | Path, *, objects: Mapping[str, Callable[..., object]] | None = None) -> Path:
    """Write a finished run as one plain PyTorch script that gives the same weights bit for bit.

    Run it as `python SCRIPT FOLDER --out DIR`; for a table SCRIPT_items.csv takes the place of FOLDER.
    Where the run's items came from a table or a list, they are written
    beside it as SCRIPT_items.csv; where it started from another run's weights or an adapter, those as SCRIPT_start.safetensors, and a
    tokenizer as SCRIPT_tokenizer.json.
    It imports torch, timm, torchvision or transformers, numpy and pillow, never sheer.

    Args:
        run: The run folder.
        script: The file to write.
        objects: Your own module's function or class, metrics and augmentations, under their names; their source is copied.

    Raises:
        EjectError: the script exists, the run has no phases or no folder of photographs, or your own
            code imports what the script may not.
        RunError: the folder is no finished run, or is damaged: its items.csv too is proved by the plan's hashes.
    """
    kept, target = read_run(run), path_of(script, "script")
    check_objects(objects)
    if target.exists():
        raise EjectError(f"{target} exists. Nothing was overwritten: give another name, or remove it.")
    if not kept.record.stop_reason.startswith(COMPLETED):
        raise EjectError(f"{run} did not complete its plan ({kept.record.stop_reason}), so a script would do more than it did.")
    data_place(kept.folder)
    check_items(kept.folder, kept.plan)
    beside = {name: target.with_name(f"{target.stem}_{name}") for name in BESIDE if (kept.folder / name).is_file()}
    for path in beside.values():
        if path.exists():
            raise EjectError(f"{path} exists, where a file of the script would lie. Nothing was overwritten: give another name.")
    try:
        text = script_text(kept.plan, objects or {}, {name: path.name for name, path in beside.items()}, kept.record)
    except (KeyError, TypeError) as error:  # names and settings of a plan that something else has written
        raise EjectError(f"{run} holds a plan that this sheer cannot write as a script: {error!r}. Was it edited?") from error
    try:
        target.write_text(text)
        for name, path in beside.items():
            path.write_bytes((kept.folder / name).read_bytes())
    except OSError as error:
        raise EjectError(unwritable(target, error)) from error
    return target


def script_text(plan: Plan, objects: Mapping[str, Callable[..., object]], beside: Mapping[str, str], record: Record | None = None) -> str:
    """The whole script as text; `beside` has the names of the files beside it, by their names in the run folder.

    Without a record, that of a plan which was not carried out yet.

    Raises:
        EjectError: as in `eject`.
    """
    if not plan.phases:
        raise EjectError(f"Plan {plan.short_hash()} has no phases: there is nothing to train.")
    items, start = beside.get("items.csv", ""), beside.get("start.safetensors", "")
    whole = "" if adapter_of(plan.model.lora) else start
    rows = plan.data.columns or plan.data.inputs
    if not items and (rows or plan.data.weight or not plan.data.source.startswith("folder ")):
        remedy = (
            "Bring its items.csv back into the run folder, which lists them."
            if rows
            else "Save the pictures as files, in class folders or with a table, and train with sheer.images to eject; where they are "
            "files, bring the items.csv that lists them back into the run folder."
        )
        raise EjectError(f"Plan {plan.short_hash()} learns from {plan.data.source}, which a script cannot read. {remedy}")
    yours = own_definitions(plan, record, objects)
    after = inspect.getsource(main_template)
    after = after.replace("model = make_timm_model()", f"model = make_{_kind(plan)}()")
    after = after.replace("        start_timm_model(model)", f"        {'start_of_run' if whole else STARTS[_kind(plan)]}(model)")
    files = items and not plan.data.columns and not plan.data.inputs
    after = after.replace(" = find_photos(root)", " = find_listed(root)") if files else after
    needed = needed_marks(plan, record.events if record else ()) | ({"listed"} if items else set())
    after = only(after, needed)
    if plan.data.columns:
        after = for_table(after, "paths.to(device)" if any(phase.resident for phase in plan.phases) else "paths")
    after = for_inputs(after, needed) if plan.data.inputs else after
    constants = render_constants(plan, items, start, beside.get("tokenizer.json", ""), objects, record.events if record else ())
    own_template = table_template if plan.data.columns else fusion_template if plan.data.inputs else None
    own_parts = definitions(only(inspect.getsource(own_template), needed)) if own_template else []
    prefix_parts = definitions(only(inspect.getsource(prefix_template), needed)) if "cached" in needed else []
    parts = definitions(only(inspect.getsource(model_template), needed)) + own_parts + prefix_parts + definitions(after)
    wanted = names_read(ast.parse(constants)) | {"main"}
    leaves = [item for leaf in LEAVES for item in definitions(inspect.getsource(leaf))]
    used = reached([*leaves, *yours, *parts], wanted)
    used_constants = Definition(name="", text="", uses=wanted, imports=parts[-1].imports)
    in_template = {part.name for part in parts}
    theirs = {part.name for part in yours}
    clash = sorted(theirs & (in_template | {item.name for item in definitions(constants)}))
    if clash:
        raise EjectError(f"Your own {', '.join(clash)} would be replaced by what the script has under that name: rename yours.")
    body = [(d.text if d.name in theirs else _short_docstrings(d.text)).rstrip() for d in used if d.name not in in_template]
    main_part = [d.text.rstrip() for d in used if d.name in in_template]
    versions = (record.sheer, record.torch) if record else (version_of("sheer"), version_of("torch"))
    photos = plan.data.pictures != "none"
    things, given = ("items" if plan.data.inputs else "photographs", "FOLDER") if photos else ("rows", items)
    head = (
        f'"""Fine-tunes {plan.model.name} on {plan.data.train_items} {things}: plan {plan.short_hash()}.\n\n'
        f"Written by sheer {versions[0]} from a run with torch {versions[1]}, {plan.numerics.threads} threads, "
        f"on {plan.numerics.device};\n"
        "with the same it gives the same weights bit for bit. Needs neither sheer nor its run folder.\n\n"
        f'    python train.py {given} --out DIR [--predict FILE ...]\n"""\n'
    )
    imports = import_block([*used, used_constants])
    blocks = _joined(body)
    if blocks and not blocks[0].startswith(("def ", "class ", "@")):
        imports += "\n\n" + blocks.pop(0)
    sections = [
        head,
        "from __future__ import annotations\n\n" + imports,
        *blocks,
        "# What was decided.\n" + constants,
        *_joined(main_part),
    ]
    text = "\n\n\n".join(section.strip("\n") for section in sections).replace('"""\n\n\nfrom __future__', '"""\n\nfrom __future__', 1) + (
        '\n\n\nif __name__ == "__main__":\n    main()\n'
    )
    try:
        compile(text, "script", "exec")
    except SyntaxError as error:
        raise EjectError(f"The script would not be Python (line {error.lineno}: {error.msg}): your own code cannot be copied.") from error
    return text


def _joined(texts: list[str]) -> list[str]:
    """Assignments that follow each other share a block, as people write them."""
    blocks: list[str] = []
    for text in texts:
        is_assignment = not text.startswith(("def ", "class ", "@"))
        if blocks and is_assignment and not blocks[-1].startswith(("def ", "class ", "@")):
            blocks[-1] += "\n" + text
        else:
            blocks.append(text)
    return blocks


def only(text: str, needed: frozenset[str]) -> str:
    """The template's source without the lines marked `# only NAME` whose name is not needed; the marks of the rest go.

    >>> only("a = 1  # only tea", frozenset()), only("a = 1", frozenset())
    ('', 'a = 1')
    """
    kept = []
    for line in text.splitlines(keepends=True):
        code, mark, name = line.partition("  # only ")
        if not mark or name.strip() in needed:
            kept.append(code + "\n" if mark else line)
    return "".join(kept)


OF_ROWS = (
    ("the folder of photographs that the run was trained on", "the CSV file that was written beside this script"),
    ("train.py FOLDER --out", "train.py ITEMS.csv --out"),
)
"""What the script of a run without photographs says of its arguments."""


def for_table(text: str, rows: str) -> str:
    """The template's source for a table in the place of photographs; `rows` is where its rows lie."""
    for before, after in (
        (" = find_photos(root)", " = find_rows(root)"),
        ("    photos: Any = None\n", f"    table = {rows}\n"),
        ("photos: Photos,", "table: torch.Tensor,"),
        ("network_batches(photos,", "table_batches(table,"),
        ("features(frozen, network_batches, photos,", "features(frozen, table_batches, table,"),
        ("        predict(model, args.predict)", "        predict_rows(model, args.predict)"),
        *OF_ROWS,
        ("photographs or folders to classify", "CSV files with the columns of the table"),
    ):
        text = text.replace(before, after)
    return re.sub(r"\bphotos\b", "table", text)


RESIDENT_PHOTOS = "photos.photos = Resident(photos.photos, device) if phase.resident else photos.photos\n"


def for_inputs(text: str, needed: frozenset[str]) -> str:
    """The template's source for several inputs in the place of photographs alone."""
    for before, after in (
        (" = find_photos(root)", " = find_inputs(root)"),
        (
            'photos = Photos(paths, decode, phase.resize, phase.size, readers=2, pinned=device.type == "cuda")',
            "photos = with_photos(paths, phase)",
        ),
        ("photos = Resident(photos, device) if phase.resident else photos\n", RESIDENT_PHOTOS),
        ("    photos: Any = None\n", "    photos: Any = None\n" if "photos" in needed else "    photos = paths\n"),
        ("photos: Photos,", "photos: Any,"),
        ("            frozen = Prefix(model, phase.cached.modules[-1])\n", ""),
        ("features(frozen, network_batches, photos,", "cached_views(model, photos,"),
        ("(kept[0, row].to(DEVICE) for row in rows)", "input_batches(kept[0], phase, rows, centres, ())"),
        (
            "(kept[epoch % len(kept), row].to(DEVICE) for row in rows)",
            "input_batches(kept[epoch % len(kept)], phase, rows, cuts, phase.augmentations)",
        ),
        ("batches = network_batches(photos,", "batches = input_batches(photos,"),
        ("        predict(model, args.predict)", "        predict_inputs(model, args.predict, args.folder)"),
        ("photographs or folders to classify", "CSV files with the columns of the inputs"),
    ):
        text = text.replace(before, after)
    return text if "photos" in needed else text.replace(*OF_ROWS[0]).replace(*OF_ROWS[1])


STARTS = {
    "fused_model": "start_fused_model",
    "encoder_model": "start_encoder_model",
    "tabular_model": "start_tabular_model",
    "timm_model": "start_timm_model",
    "torchvision_model": "start_torchvision_model",
    "own_model": "start_own_model",
    "own_body": "start_head",
}


def _kind(plan: Plan) -> str:
    """What the script makes: one of STARTS."""
    library, _, _name = plan.model.name.partition(":")
    if library in OWN:
        return "own_model" if plan.model.head is None else "own_body"
    if plan.model.branches:
        return "fused_model"
    if plan.model.body is not None:
        return "encoder_model" if plan.model.body.name == "encoder" else "tabular_model"
    return f"{library}_model"


def _short_docstrings(text: str) -> str:
    """The source with each docstring cut to its first sentence; what runs is untouched, word for word."""
    lines = text.splitlines(keepends=True)
    for node in reversed(list(ast.walk(ast.parse(text)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            quoted = node.body[0]
            sentence = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            indent = " " * quoted.col_offset
            wrapped = textwrap.fill(f'"""{sentence}', 118, initial_indent=indent, subsequent_indent=indent) + '"""\n'
            lines[quoted.lineno - 1 : quoted.end_lineno] = [wrapped, *[""] * ((quoted.end_lineno or 0) - quoted.lineno)]
    return "".join(lines)
