"""What decides a training run, besides the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from soundscape.errors import Invalid, Reason
from trainer.training.mixing import Recipe

RATES = {"adamw": 2e-3, "sgd": 0.05}
"""The highest learning rate of each optimizer unless another is given."""
RECIPES = {
    "composed": Recipe(),
    "clean": Recipe(clean=1.0),
    "crowded": Recipe(calls=(0.05, 0.25, 0.3, 0.25, 0.15)),
    "unmasked": Recipe(masks=0),
}
"""Ways to compose windows, by name: as usual, clips as they were recorded, more calls at once, without SpecAugment."""
HALVES = ("auto", "on", "off")
"""When to train in bfloat16; `auto` is where that is measured to be faster."""
ADDED = ("optimizer", "accumulate", "checkpointing", "half", "taught_by", "adapt", "imagenet")
"""Fields that came later: left out where they have their default, so that a plan made before them keeps its digest."""
VERSIONS = {"mobilenet_v2": 2}
"""Of networks that have changed, or what they are taught: another version makes another release, and goes on from no checkpoint."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training run, besides the data."""

    model: str
    minutes: float
    batch: int = 16
    """Many small steps: in 70 s 16 a batch heard 0.93 where 32 heard 0.88 (docs/decisions/0005-first-model.md)."""
    rate: float = RATES["adamw"]
    decay: float = 0.02
    """AdamW's weight decay."""
    average: float = 0.995
    """Of the weights' running average: about the last 200 steps count, or the last tenth where that is fewer."""
    smoothing: float = 0.01
    """Truth is this and 1 minus this: composed labels are right, but not that right."""
    clip: float = 2.0
    """Norm at which gradients are cut."""
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    begins_with: str = ""
    """Digest of the release whose weights the training begins with; from scratch where empty."""
    taught_by: str = ""
    """Digest of the release whose answers are learnt (trainer/training/taught.py); the labels alone where empty."""
    optimizer: str = "adamw"
    accumulate: int = 1
    """Parts that a batch is worked off in, one after the other: the same step (but for the batch norms' statistics) in less memory."""
    checkpointing: bool = False
    """Activations of a block are computed again on the way back instead of being kept."""
    half: str = "auto"
    adapt: str = "scratch"
    """How the network comes to the labels (trainer/members/adapt.py): from scratch, or from ImageNet's weights in `full` or by `lora`."""
    imagenet: str = ""
    """Digest of the file of those weights; empty from scratch."""

    def __post_init__(self) -> None:
        """Raises Invalid for a batch that does not part evenly."""
        if self.batch % self.accumulate:
            raise Invalid(Reason.BAD_REQUEST, f"A batch of {self.batch} does not part into {self.accumulate}; choose a divisor of it.")

    def plain(self) -> dict[str, Any]:
        """As JSON has it; the same for the same plan in every version of the code."""
        usual = {one.name: one.default for one in fields(self)}
        kept = {name: value for name, value in asdict(self).items() if name not in ADDED or value != usual[name]}
        plain: dict[str, Any] = json.loads(json.dumps(kept))
        if self.model in VERSIONS:
            plain["version"] = VERSIONS[self.model]
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Plan:
        """The plan again, of today's version."""
        recipe: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in plain["recipe"].items()}
        chosen = {name: one for name, one in plain.items() if name != "version"}
        return cls(**{**chosen, "recipe": Recipe(**recipe)})


def chosen_plan(model: str, minutes: float, pseudo: str = "", *, recipe: str = "composed", **chosen: Any) -> Plan:
    """A plan with what was chosen; of RECIPES by name, and with the network's or its optimizer's own rate unless that is chosen too.

    Raises Invalid for a batch that does not part, a network that has no blocks to checkpoint, or ImageNet weights that are not here or
    not its own.
    """
    from trainer.members.adapt import FULL, FULL_RATE, SCRATCH, checked, imagenet_file, require_adaptable
    from trainer.members.models import RATES as OWN
    from trainer.members.models import build, is_block

    adapt = chosen.get("adapt", SCRATCH)
    rate = OWN.get(model, FULL_RATE if adapt == FULL else RATES[chosen.get("optimizer", "adamw")])
    if adapt != SCRATCH:
        require_adaptable(model)  # before its weights are asked for
        chosen = {**chosen, "imagenet": checked(model, imagenet_file())}
    plan = Plan(model, minutes, recipe=replace(RECIPES[recipe], pseudo=pseudo), **{"rate": rate, **chosen})
    if plan.checkpointing:
        import torch

        with torch.device("meta"):  # its parts, without numbers
            blocks = [module for module in build(model, 2).modules() if is_block(module)]
        if not blocks:
            raise Invalid(Reason.BAD_REQUEST, f"{model} has no blocks to compute again; leave --checkpointing out.")
    return plan
