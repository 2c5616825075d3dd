"""What a head of our own sits on: a pretrained model that turns sound into embeddings, and the file in which the head is served."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec
from soundscape.taxonomy import Species
from trainer.members import birdnet, graft, graft_onnx
from trainer.members.birdnet_species import SPEECH, read_species
from trainer.members.graft import Head
from trainer.members.models import BIRDNET_HEAD, CNN14_HEAD, PERCH_HEAD, TAGGER_HEAD

KINDS = {".tflite": ("litert", graft.with_head, graft.head_of), ".onnx": ("onnx", graft_onnx.with_head, graft_onnx.head_of)}


@dataclass(frozen=True)
class Body:
    """A pretrained model. `embedder` and `source` make its bytes: ending in the embedding, and as a head is put on it."""

    name: str
    """What `--model` calls the head on it; also its member's name."""
    spec: FeatureSpec
    suffix: Literal[".tflite", ".onnx"]
    digest: str
    """Eight hex digits of the pretrained file: what it heard is kept under them."""
    licence: str
    noncommercial: bool
    attribution: str
    embedder: Callable[[], bytes]
    source: Callable[[], bytes]
    events: tuple[str, ...] = ()
    """Sound events that it tells beside the head's labels."""
    own: Callable[[], tuple[list[Species], Head]] = lambda: ([], Head.none())
    """What it knows by itself and every head on it keeps."""

    @property
    def runtime(self) -> Literal["litert", "onnx"]:
        """What runs its file."""
        return "litert" if self.suffix == ".tflite" else "onnx"

    def served(self, head: Head) -> bytes:
        """The file with this head. Raises Invalid if the head is for another embedding."""
        return KINDS[self.suffix][1](self.source(), head)

    def head_of(self, body: bytes) -> Head:
        """The head in a file that `served` made. Raises Invalid for any other."""
        return KINDS[self.suffix][2](body)


def body_of(name: str) -> Body:
    """The body of a head by its name. Raises Invalid (bad-request), with the cure, if its pretrained file is not here."""
    return BODIES[name]()


def missing(name: str) -> str:
    """Why a model's pretrained file cannot be had here; empty if it is here, or if it needs none."""
    try:
        if name in BODIES:
            body_of(name)
    except Invalid as error:
        return error.detail
    return ""


def _birdnet() -> Body:
    folder = birdnet.birdnet_folder()
    body = (folder / birdnet.MODEL).read_bytes()

    def voices() -> tuple[list[Species], Head]:
        species, last = read_species(folder), graft.head_of(body)
        kept = [n for n, one in enumerate(species) if one.label in SPEECH]
        return [species[n] for n in kept], Head(last.weight[kept], last.bias[kept])

    return Body(
        name=BIRDNET_HEAD,
        spec=birdnet.FEATURES,
        suffix=".tflite",
        digest=_digest(body),
        licence=birdnet.LICENCE,
        noncommercial=True,
        attribution=birdnet.ATTRIBUTION,
        embedder=lambda: graft.embedder(body),
        source=lambda: body,
        own=voices,
    )


def _tagger() -> Body:
    from trainer.members import tagger

    attribution = f"AudioSet tagger of EfficientAT, licence {tagger.LICENCE}."
    return _of_audioset(TAGGER_HEAD, tagger.tagger_file(), tagger.load, tagger.LICENCE, attribution)


def _cnn14() -> Body:
    from trainer.members import cnn14

    return _of_audioset(CNN14_HEAD, cnn14.cnn14_file(), cnn14.load, cnn14.LICENCE, f"PANNs' CNN14, licence {cnn14.LICENCE}.")


def _of_audioset(name: str, path: Path, load: Callable[[Path], Any], licence: str, attribution: str) -> Body:
    """A network trained on AudioSet, which tells sound events too."""
    from trainer.members import audioset

    def exported() -> bytes:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "network.onnx"
            audioset.export(load(path), file)
            return file.read_bytes()

    return Body(
        name=name,
        spec=audioset.FEATURES,
        suffix=".onnx",
        digest=_digest(path.read_bytes()),
        licence=licence,
        noncommercial=False,
        attribution=attribution,
        embedder=exported,
        source=exported,
        events=tuple(audioset.EVENTS),
    )


def _perch() -> Body:
    from trainer.members import perch

    path = perch.perch_file()
    body = path.read_bytes()
    suffix: Literal[".tflite", ".onnx"] = ".onnx" if path.suffix == ".onnx" else ".tflite"
    ready = perch.onnx_embedder(body) if suffix == ".onnx" else perch.tflite_ending_in_labels(body)
    return Body(
        name=PERCH_HEAD,
        spec=perch.FEATURES,
        suffix=suffix,
        digest=_digest(body),
        licence=perch.LICENCE,
        noncommercial=False,
        attribution=f"Perch, licence {perch.LICENCE}.",
        embedder=lambda: ready if suffix == ".onnx" else graft.embedder(ready),
        source=lambda: ready,
    )


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:8]


BODIES: dict[str, Callable[[], Body]] = {BIRDNET_HEAD: _birdnet, TAGGER_HEAD: _tagger, CNN14_HEAD: _cnn14, PERCH_HEAD: _perch}


def require(name: str) -> None:
    """Raise Invalid (bad-request), with the cure, if a model's pretrained file is not here."""
    if why := missing(name):
        raise Invalid(Reason.BAD_REQUEST, why)
