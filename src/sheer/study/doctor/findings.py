"""What the doctor says: findings with their evidence, and the table of everything it can find."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

WIDTH = 118


@dataclass(frozen=True, kw_only=True)
class Known:
    """A fault by its name in words, why it matters, and the line that mends it."""

    title: str
    why: str
    mend: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault that was found.

    Attributes:
        code: Its name, a key of `KNOWN`.
        title: The same in words.
        evidence: What was seen, a sentence with numbers.
        numbers: Those numbers by name.
        why: Why it matters.
        mend: The line of code that mends it.
    """

    code: str
    title: str
    evidence: str
    numbers: tuple[tuple[str, float], ...]
    why: str
    mend: str

    def __str__(self) -> str:
        return "\n".join([f"{self.code}: {self.title}", *(_part(*pair) for pair in self._parts())])

    def _parts(self) -> tuple[tuple[str, str], ...]:
        return ("evidence", self.evidence), ("why", self.why), ("mend", self.mend)


@dataclass(frozen=True, kw_only=True)
class Unchecked:
    """What could not be looked at, and what to give so that it can."""

    what: str
    need: str

    def __str__(self) -> str:
        return f"not checked: {self.what}: {self.need}"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the doctor found, and what could not be checked for want of an argument; printing it is the report."""

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The findings' names, in the order of the checks."""
        return tuple(finding.code for finding in self.findings)

    def __str__(self) -> str:
        count = len(self.findings)
        head = f"{count or 'No'} finding{'s' * (count != 1)}, {len(self.unchecked)} not checked"
        blocks = [head, *(f"{number}. {finding}" for number, finding in enumerate(self.findings, 1))]
        if self.unchecked:
            blocks.append("\n".join(textwrap.fill(str(line), WIDTH, subsequent_indent="    ") for line in self.unchecked))
        return "\n\n".join(blocks)


def _part(name: str, text: str) -> str:
    start = f"   {name:<9}"
    if name == "mend":  # code: its lines stay as they are
        return start + text.replace("\n", "\n" + " " * len(start))
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def found(code: str, evidence: str, words: Mapping[str, object]) -> Finding:
    """The finding `code`, its evidence and its remedy filled in with `words`, whose numbers are kept.

    >>> found("zero_grad_missing", "at {stale} of {updates} updates", {"stale": 3, "updates": 4}).numbers
    (('stale', 3.0), ('updates', 4.0))
    """
    known = KNOWN[code]
    numbers = tuple((name, float(value)) for name, value in words.items() if isinstance(value, int | float))
    return Finding(
        code=code,
        title=known.title,
        evidence=evidence.format(**words),
        numbers=numbers,
        why=known.why,
        mend=known.mend.format(**words),
    )


KNOWN = {
    "model_replaced": Known(
        title="the model was replaced after the optimiser was made",
        why="The optimiser moves the tensors of another model; this one learns nothing, and no error says so.",
        mend="optimizer = {kind}(model.parameters(), ...)  # after the model is what it will be; then the scheduler anew",
    ),
    "stray_tensors": Known(
        title="the optimiser holds tensors that are not in the model",
        why="A layer was replaced after the optimiser was made, or belongs to another model: the old one is moved, unseen.",
        mend="optimizer = {kind}([p for p in model.parameters() if p.requires_grad], ...)  # after the last change of the model",
    ),
    "missing_tensors": Known(
        title="the optimiser misses tensors that should train",
        why="They get gradients and are never moved; where they are new, the layer stays random.",
        mend="optimizer = {kind}([p for p in model.parameters() if p.requires_grad], ...)  # or freeze them: p.requires_grad_(False)",
    ),
    "frozen_in_optimizer": Known(
        title="frozen tensors are in the optimiser with decay or momentum",
        why="torch skips them only while their .grad is None. With a gradient of zeros (they were trained before, or "
        "zero_grad(set_to_none=False)), decay shrinks them and momentum moves them on: frozen is not frozen.",
        mend="optimizer = {kind}([p for p in model.parameters() if p.requires_grad], ...)",
    ),
    "scheduler_of_another_optimizer": Known(
        title="the scheduler belongs to another optimiser",
        why="It changes rates that nothing reads; this optimiser's rate never changes.",
        mend="scheduler = {kind}(optimizer, ...)  # after the optimiser, anew with it",
    ),
    "frozen_norm_adapts": Known(
        title="norm layers of a frozen part run in train mode",
        why="requires_grad=False fixes scale and shift only: in train mode the layer uses the statistics of the batch, and its running "
        "statistics move. Which is better depends on the data; it should be chosen, not happen.",
        mend="for m in model.modules():  # after every model.train()\n"
        "    if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.weight.requires_grad:\n"
        "        m.eval()",
    ),
    "norm_missed_by_name": Known(
        title="a test of names missed norm layers",
        why="Norm layers inside a Sequential (downsample.1 of a resnet) have no name of their own, so they are treated unlike the others: "
        "what trains is a mixture that nobody chose.",
        mend="isinstance(module, nn.modules.batchnorm._BatchNorm)  # choose by type, never by name",
    ),
    "head_at_body_rate": Known(
        title="the head is no faster than the body",
        why="The groups were made to give a new head a higher rate than pretrained layers, and do not.",
        mend="optimizer.param_groups[{group}]['lr'] = {rate:g} * 10  # the group of {head}",
    ),
    "weights_not_loaded": Known(
        title="the pretrained weights are not loaded",
        why="A frozen or slow body of random weights gives random features; load_state_dict(strict=False) skips what does not match "
        "without a word.",
        mend="print(model.load_state_dict(state, strict=False))  # must name no missing key but the head's",
    ),
    "half_precision": Known(
        title="norm layers or dropout in float16",
        why="float16 has 11 bits: means and variances over a batch lose their digits or overflow, and small updates vanish. Autocast keeps "
        "weights and statistics in float32.",
        mend="model.float()  # then: with torch.autocast(device, torch.float16): output = model(inputs)",
    ),
    "softmax_before_loss": Known(
        title="softmax before a loss that applies softmax itself",
        why="Twice squashed, the loss cannot fall below {floor:.2f} with {classes} classes, and gradients nearly vanish.",
        mend="return logits  # no softmax in forward; apply it to predictions only",
    ),
    "sigmoid_before_loss": Known(
        title="sigmoid before a loss that applies sigmoid itself",
        why="What counts as a score is between 0 and 1, so no probability falls below one half: the loss of a negative cannot fall below "
        "log 2.",
        mend="return logits  # no sigmoid in forward; apply it to predictions only",
    ),
    "softmax_in_loss": Known(
        title="softmax inside a loss function that applies softmax again",
        why="Twice squashed, the loss cannot fall below {share:.0%} of that of a blind guess, and gradients nearly vanish.",
        mend="return F.cross_entropy(output, target)  # it applies log-softmax itself: give it the raw scores",
    ),
    "sigmoid_before_softmax": Known(
        title="sigmoid before a loss that applies softmax",
        why="Scores between 0 and 1 make no class more than e times as likely as another: the loss cannot fall below {floor:.2f} with "
        "{classes} classes.",
        mend="return logits  # no sigmoid in forward; for several labels an item use BCEWithLogitsLoss",
    ),
    "map_too_small": Known(
        title="the pictures are too small for this network",
        why="On a map of one cell a 3 x 3 kernel uses one of its nine weights, average and maximum pooling are the same, and things are "
        "far smaller than those that the weights have seen.",
        mend="transforms.Resize({larger})  # at least two cells a side; more is usually better",
    ),
    "pixels_unscaled": Known(
        title="pixels from 0 to 255",
        why="Networks expect numbers of about -2 to 2: the first layers saturate and the loss starts far too high.",
        mend="transforms.ToTensor()  # or inputs = inputs.float() / 255, then Normalize",
    ),
    "wrong_normalisation": Known(
        title="mean or standard deviation are not those of the weights",
        why="The first layers were trained on other numbers, and a frozen body cannot adapt to these.",
        mend="transforms.Normalize({mean}, {std})  # {source}",
    ),
    "channel_order": Known(
        title="the channels come in another order",
        why="The weights have seen red, green, blue; OpenCV reads blue, green, red.",
        mend="inputs = inputs.flip(1)  # or cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) before normalising",
    ),
    "valid_augmented": Known(
        title="the validation set is augmented",
        why="The metric judges pictures that change from epoch to epoch: it is lower and noisier than it should be.",
        mend="valid_set.transform = transforms.Compose([Resize, CenterCrop, ToTensor, Normalize])  # nothing random",
    ),
    "valid_stale_order": Known(
        title="the validation set comes in another order than the list it is held against",
        why="Predictions are held against the targets (or names) of other items.",
        mend="DataLoader(valid_set, shuffle=False)  # or take the targets from the batches",
    ),
    "valid_drops_items": Known(
        title="validation leaves items out",
        why="drop_last throws away the last items; with shuffle, other ones each time.",
        mend="DataLoader(valid_set, drop_last=False)",
    ),
    "train_not_shuffled": Known(
        title="the training set is not shuffled",
        why="Every epoch has the same batches in the same order, and in class folders each is of one class: norm layers and gradients "
        "follow the order.",
        mend="DataLoader(train_set, shuffle=True)",
    ),
    "labels_out_of_range": Known(
        title="labels that the model has no output for",
        why="The loss fails on them, or on a GPU reads what is not its own.",
        mend="{mend}",
    ),
    "labels_shifted": Known(
        title="labels start at 1",
        why="Output 0 never occurs as a target: it is learned to be off, and every class number is one off the list of names.",
        mend="target = target - 1  # and a head with {classes} outputs",
    ),
    "class_order": Known(
        title="training and validation number their classes differently",
        why="The same number means another class, so right answers count as wrong.",
        mend="assert valid_set.class_to_idx == train_set.class_to_idx  # give both folders every class, or one list of classes",
    ),
    "overlap": Known(
        title="items of the validation set are also trained on",
        why="The metric flatters: it judges what was learned by heart.",
        mend="valid_set = Subset(valid_set, [i for i in range(len(valid_set)) if i not in copies])  # copies = {positions}",
    ),
    "eval_missing": Known(
        title="validation runs in train mode",
        why="Dropout is on, norm layers use the statistics of the batch, and their running statistics learn from the validation set.",
        mend="model.eval()  # before validation; model.train() after it",
    ),
    "train_missing": Known(
        title="training runs in eval mode",
        why="After validation (or loading) nobody called train(): dropout rests and norm layers stand still.",
        mend="model.train()  # at the start of every epoch",
    ),
    "zero_grad_missing": Known(
        title="gradients are not cleared between updates",
        why="Each update adds the gradients of all before it: a momentum of 1, which does not forget.",
        mend="optimizer.zero_grad()  # once an update, before loss.backward()",
    ),
    "scheduler_too_slow": Known(
        title="the scheduler counts updates, but is stepped once an epoch",
        why="Only the start of the schedule is ever reached: the rate stays where it began.",
        mend="scheduler.step()  # inside the loop over batches, after optimizer.step()",
    ),
    "scheduler_too_fast": Known(
        title="the scheduler counts epochs, but is stepped at every update",
        why="The schedule is over within an epoch: the rate falls to its end (or turns up again) before anything was learned.",
        mend="scheduler.step()  # once an epoch, after the loop over batches; or give it its length in updates",
    ),
    "scheduler_never_stepped": Known(
        title="the scheduler is never stepped",
        why="The rate stays where it began.",
        mend="scheduler.step()  # after optimizer.step(), or once an epoch",
    ),
    "averaged_twice": Known(
        title="the loss is averaged twice",
        why="The loss function averages already; divided once more the gradients are that much smaller: the rate is not what it says, "
        "decay and clipping weigh more.",
        mend="(loss_fn(model(inputs), target) / {micro}).backward()  # {micro} micro-batches an update; divide nowhere else",
    ),
}
