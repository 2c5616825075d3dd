"""The parts of a prediction: windows, detections, who took part and how, and when (the event itself: soundscape.events)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from soundscape.event import Moment, Names, Part, Probability

MeanOf = Literal["probability", "log_odds"]
"""Of what the members' weighted mean is taken."""


class Detection(Part):
    """One species heard in consecutive windows above its threshold."""

    label: str
    names: Names
    taxon: str
    confidence: Probability
    """The highest fused score of its windows."""
    unweighted: Probability
    """The same before place and week lowered it."""
    threshold: Probability
    start_s: float = Field(ge=0, allow_inf_nan=False)
    end_s: float = Field(gt=0, allow_inf_nan=False)


class Window(Part):
    """Five seconds of the clip. `scores` stand in the order of the prediction's `labels`."""

    start_s: float = Field(ge=0, allow_inf_nan=False)
    end_s: float = Field(gt=0, allow_inf_nan=False)
    scores: tuple[Probability, ...]
    members: dict[str, dict[str, Probability]] = Field(default_factory=dict)
    """Each member's own five highest scores, before fusion and prior."""
    events: dict[str, Probability] = Field(default_factory=dict)
    """Sound-event scores (animal, speech, …) where a member tells them."""
    silent: bool = False


class LeftOut(Part):
    """A member that did not take part, and why."""

    member: str
    why: str


class Fusion(Part):
    """How the members' scores became one, before place and week."""

    mean_of: MeanOf
    weights: dict[str, Probability]
    """By member that answered, its share of 1 among those that know a label."""
    weights_by_taxon: dict[str, dict[str, Probability]] = Field(default_factory=dict)
    """The same by taxon and member, where a taxon has its own."""
    context: Probability = 0.0
    """Share of each score that the windows beside it have."""


class Stages(Part):
    """When each stage of the clip's way ended."""

    recorded: Moment | None = None
    published: Moment
    received: Moment
    decoded: Moment
    features: Moment
    inferred: Moment
    predicted: Moment
