"""Which line of the ejected script carries out a plan value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from sheer.errors import EjectError
from sheer.export.eject import script_text
from sheer.learner import Learner
from sheer.plan.facts import adapter_of
from sheer.plan.plan import Plan
from sheer.record.again import text_columns

LINES: dict[str, tuple[str, ...]] = {
    "profile": (),
    "seed": ("SEED = ",),
    "metrics": ("metric(outputs, true) for metric in MEASURES", "metric(outputs, true, counts) for metric in MEASURES"),
    "weighted_metrics": ("metric(outputs, true) for metric in MEASURES", "outputs, true, counts = counting("),
    "model.name": ("NAME = ", "MAKE = "),
    "model.weights": ("start_of_run(model)", "model.body.load_state_dict(", "load_body(model.body", "start_branch(branch)", "MAKE = "),
    "model.weights_sha256": ("if weights_sha256(model.body) != BODY_SHA256", "if weights_sha256(model) != INITIAL_SHA256"),
    "model.licence": (),
    "model.kind": ("KIND = ",),
    "model.node": ("NODE = ",),
    "model.features": ("FEATURES = ",),
    "model.stride": (),
    "model.channels": (),
    "model.channel_init": (),
    "model.surgery": ("body=body, head=HEAD.build",),
    "model.head": ("HEAD = ",),
    "model.stages": ("STAGES = ",),
    "model.body": ("BODY = ",),
    "model.lora": ("add_lora(body, **LORA)",),
    "model.fusion": ("FUSION = ",),
    "model.branches": ("BRANCHES = ",),
    "model.undecayed": ("UNDECAYED = ",),
    "data.source": ('parser.add_argument("folder"',),
    "data.pictures": ("photos = Photos(paths, decode, ", "photos = with_photos("),
    "data.task": ("TASK = ",),
    "data.classes": ("CLASSES = ",),
    "data.train_items": ("train_items, valid_items = ",),
    "data.valid_items": ("predicted = scores(run, photos, phase, valid_items",),
    "data.train_counts": (),
    "data.valid_counts": (),
    "data.split": ("held_out = SPLIT(", "held_out = np.arange(", "held_out = np.array("),
    "data.weight": ("weight = listed_weights()",),
    "data.bad_files": (),
    "data.unknown": (),
    "data.skipped": ("row[0] not in SKIPPED",),
    "data.columns": ("COLUMNS = ",),
    "data.inputs": ("INPUTS = ",),
    "data.weighted_prior": (),
    "data.target": (),
    "data.separator": (),
    "data.listing_sha256": ("!= LISTING_SHA256",),
    "data.targets_sha256": ("[TARGETS_SHA256, HELD_OUT_SHA256]",),
    "data.held_out_sha256": ("[TARGETS_SHA256, HELD_OUT_SHA256]",),
    "data.notes": (),
    "numerics.device": ("model.to(DEVICE",),
    "numerics.threads": ("torch.set_num_threads(THREADS)",),
    "numerics.memory_format": ("yield augment(to_network(",),
    "numerics.precision": ("autocast(model, torch.device(DEVICE)",),
    "numerics.compile": ("model.compile()",),
    "numerics.deterministic": ("torch.use_deterministic_algorithms(DETERMINISTIC",),
    "phase.name": ("row = [phase.name",),
    "phase.epochs": ("for epoch in range(phase.epochs)",),
    "phase.steps_per_epoch": ("progress = (epoch * len(rows) + step)",),
    "phase.trains_from": ("set_trainable(model, STAGES, phase.trains_from",),
    "phase.rates": ("groups = parameter_groups(model, STAGES, phase.rates",),
    "phase.norm": ("set_modes(model, STAGES, phase.trains_from",),
    "phase.schedule": ("set_rates(optimizer, phase.schedule.rate(progress)",),
    "phase.optimizer": ("optimizer = phase.optimizer.build(groups)",),
    "phase.weight_decay": ('"weight_decay": 0.0 if exempt else weight_decay',),
    "phase.no_decay": ("exempt = exempt_from_decay(",),
    "phase.loss": ("loss, wanted = phase.loss",),
    "phase.loss_mean": ("loss = per_weight(loss, wanted)",),
    "phase.class_weights": ("PHASE loss=Weighted(",),
    "phase.sampling": ('if phase.sampling == "balanced"', "items = train_items[permutation("),
    "phase.clip": ("PHASE step=Update(",),
    "phase.aside": (),
    "phase.prefix": ("kept = features(", "kept = cached_views(", "run, kept = model, None"),
    "phase.skip_limit": ("limit = min(phase.skip_limit, ",),
    "phase.accumulate": ("PHASE step=Update(",),
    "phase.ema": ("phase.average.follow(model)",),
    "phase.stop": ("if phase.stop and phase.stop.over(",),
    "phase.keep": ("phase.keep.restore(model)",),
    "phase.batch_size": ("chunks(values, phase.batch_size, phase.last_batch",),
    "phase.last_batch": ("chunks(values, phase.batch_size, phase.last_batch",),
    "phase.size": ("photos = Photos(paths, decode, ", "photos = Photos(found.paths"),
    "phase.resize": ("photos = Photos(paths, decode, ", "photos = Photos(found.paths"),
    "phase.resident": ("photos = Resident(photos, device)", "table = paths.to(device)", "photos.batches(rows, draws)"),
    "phase.augmentation": ("images = augment(images.to(DEVICE",),
    "phase.mix": ("inputs, loss = phase.mix(",),
    "phase.mean": ("mean, std = (",),
    "phase.std": ("mean, std = (",),
    "phase.groups.trains": ("parameter.requires_grad_(",),
    "phase.groups": ("groups.setdefault((stage, exempt)",),
}
"""For each value what its line contains, the first that is there; () for facts that no line needs.

`PHASE ` before it means a setting of the phase's own constants. What is off has no line either.
"""


def script_of(plan: Plan, objects: Mapping[str, Callable[..., object]]) -> tuple[list[str], str]:
    """The lines of the script that `eject` would write, or none and why there is none."""
    files = plan.data.pictures == "files" and (plan.data.weight or not plan.data.source.startswith("folder "))
    listed = plan.data.columns or plan.data.inputs or files
    beside = {"items.csv": "train_items.csv"} if listed else {}
    beside |= {"tokenizer.json": "train_tokenizer.json"} if any(part.name == "text" for part in text_columns(plan.data)) else {}
    starts = plan.model.weights.name == "run" or adapter_of(plan.model.lora)
    beside |= {"start.safetensors": "train_start.safetensors"} if starts else {}
    try:
        return script_text(plan, objects, beside).splitlines(), ""
    except EjectError as error:
        return [], str(error)


def line_of(value: str, script: list[str]) -> tuple[int, str]:
    """Number and text of the line that carries out the value with this dotted path; (0, "") where there is none."""
    head, _, rest = value.partition("].")
    index = int(head.removeprefix("phases[")) if rest else 0
    key = f"phase.{rest.partition('[')[0]}" if rest else value
    key = "phase.groups.trains" if rest.startswith("groups[") and rest.endswith(".trains") else key
    key = "model.surgery" if key.startswith("model.surgery") else key
    for wanted in LINES.get(key, ()):
        start = _phase_start(script, index) if wanted.startswith("PHASE ") else 0
        for place in range(start, len(script)):
            text, constant = script[place], wanted[0].isupper() and wanted.endswith(" = ")
            if text.startswith(wanted) if constant else wanted.removeprefix("PHASE ") in text:
                return place + 1, script[place].strip()
    return 0, ""


def _phase_start(script: list[str], index: int) -> int:
    """The place of the constants of phase number `index`."""
    return [place for place, line in enumerate(script) if line.startswith("    SimpleNamespace(")][index] if script else 0


def objects_of(learn: Learner) -> dict[str, Callable[..., object]]:
    """The functions and classes of your own that the learner's plan names, under their names, as `explain` and `eject` take them."""
    modules = list(learn._made_by.values()) if isinstance(learn._made_by, Mapping) else [learn._made_by]
    named = [*modules, learn._made_head, *learn._metrics.values(), *learn._functions.values()]
    yours = {str(one.__name__): one for one in named if callable(one) and not isinstance(one, nn.Module) and hasattr(one, "__name__")}
    return {name: one for name, one in yours.items() if not one.__module__.startswith("sheer.")}
