"""What taggers trained on AudioSet have in common: its classes, the sound events that they tell, and the form that serves them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec

FEATURES = FeatureSpec(kind="waveform", sample_rate=32_000, chunk_s=5.0, chunk_starts_s=(0.0,))
"""What they hear: a window of sound as it is."""
CLASSES = 527
INDEX = {
    "Speech": 0, "Male speech, man speaking": 1, "Female speech, woman speaking": 2, "Child speech, kid speaking": 3,
    "Conversation": 4, "Narration, monologue": 5, "Animal": 72, "Dog": 74, "Bark": 75, "Fowl": 98, "Chicken, rooster": 99,
    "Crowing, cock-a-doodle-doo": 101, "Wild animals": 108, "Bird": 111, "Bird vocalization, bird call, bird song": 112,
    "Insect": 126, "Cricket": 127, "Frog": 132, "Croak": 133, "Rain": 289, "Raindrop": 290, "Rain on surface": 291,
}  # fmt: skip
"""Of the 527 classes those that are used here, by AudioSet's name, as its `class_labels_indices.csv` numbers them."""
EVENTS: dict[str, tuple[str, ...]] = {
    "animal": ("Animal", "Wild animals"),
    "bird": ("Bird", "Bird vocalization, bird call, bird song"),
    "frog": ("Frog", "Croak"),
    "insect": ("Insect", "Cricket"),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "speech": (
        "Speech", "Male speech, man speaking", "Female speech, woman speaking", "Child speech, kid speaking", "Conversation",
        "Narration, monologue",
    ),
}  # fmt: skip
"""What a prediction says beside species, and the classes that tell it: the loudest of them counts."""


def events(tags: Tensor) -> Tensor:
    """Logits of EVENTS (batch, events), of logits of AudioSet's classes (batch, CLASSES)."""
    return torch.stack([tags[:, [INDEX[name] for name in names]].amax(1) for names in EVENTS.values()], 1)


def given(path: Path | None, setting: str, what: str, cure: str) -> Path:
    """A pretrained file that a setting names. Raises Invalid (bad-request) with the cure if it names none, or one that is not there."""
    if path is None:
        raise Invalid(Reason.BAD_REQUEST, f"{what} are not here; set {setting} to {cure}.")
    if not path.exists():
        raise Invalid(Reason.BAD_REQUEST, f"{setting} names {path}, where no file is; correct it or unset it.")
    return path


def export(tagger: nn.Module, path: Path, outputs: tuple[str, ...] = ("embedding", "events")) -> None:
    """Write as ONNX: `input` float32 (batch, 1, samples) to the outputs."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter deprecates itself; its successor wants a package of its own
        torch.onnx.export(
            tagger, (torch.zeros(2, *FEATURES.shape),), str(path), input_names=["input"], output_names=list(outputs), opset_version=17,
            dynamic_axes={name: {0: "batch"} for name in ("input", *outputs)}, dynamo=False,
        )  # fmt: skip
