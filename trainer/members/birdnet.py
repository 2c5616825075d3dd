"""BirdNET 2.4 as a release: the model that set-up fetched, its species, and its place-and-week model as a prior.

Nothing of BirdNET is part of this project. Its licence, CC BY-NC-SA 4.0, travels in the release and with every prediction.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from soundscape.errors import Invalid, Reason
from soundscape.events import Name
from soundscape.features import FeatureSpec
from soundscape.release import RELEASE_FILE, WEEKS, LoadedRelease, Member, Release, file_digest, load_release, write_release
from soundscape.settings import get_settings
from soundscape.taxonomy import Species
from trainer.members.birdnet_species import LISTS, SOUNDS, SPEECH, read_species

Float32 = npt.NDArray[np.float32]

LICENCE = "CC BY-NC-SA 4.0"
ATTRIBUTION = (
    "BirdNET 2.4 by the K. Lisa Yang Center for Conservation Bioacoustics (Cornell Lab of Ornithology) and Chemnitz University "
    f"of Technology, licence {LICENCE}: name its authors, no commercial use, share under the same terms."
)
FEATURES = FeatureSpec(kind="waveform", sample_rate=48_000, chunk_s=3.0, chunk_starts_s=(0.0, 2.0))
"""What BirdNET hears: 3 s at 48 kHz; two of them cover a window of 5 s, and the louder answer of the two counts."""
THRESHOLD = 0.25
"""BirdNET-Analyzer's default `min_conf`."""
EXPECTED = 0.03
"""Occurrence from which BirdNET-Analyzer puts a species on a place's list (its `sf_thresh`)."""
FLOOR = 0.3
"""What a score is lowered to at most: above THRESHOLD, so that a call heard with 0.84 is named even where nobody expects it."""
PLACES = {"el-silencio": (6.76, -74.21)}
"""Degrees north and east of the sites we know."""

MODEL, PLACE_AND_WEEK, PRIOR = "model.tflite", "place_and_week.tflite", "prior.npy"
FILES = (MODEL, PLACE_AND_WEEK, *LISTS)


class Place(NamedTuple):
    """Where a site lies, in degrees."""

    latitude: float
    longitude: float


def birdnet_folder() -> Path:
    """The folder of BirdNET's files. Raises Invalid (bad-request) with the cure if one is missing."""
    folder = get_settings().birdnet
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise Invalid(Reason.BAD_REQUEST, f"BirdNET is not here ({folder} lacks {', '.join(missing)}); run `make setup`.")
    return folder


def place_of(site: str, latitude: float | None, longitude: float | None) -> Place | None:
    """The place given, else the known place of the site, else None. Raises Invalid for half a place or one off the map."""
    if latitude is None and longitude is None:
        return Place(*PLACES[site]) if site in PLACES else None
    if latitude is None or longitude is None:
        raise Invalid(Reason.BAD_REQUEST, "A place has a latitude and a longitude; give --lat and --lon together.")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise Invalid(Reason.BAD_REQUEST, f"{latitude:g}, {longitude:g} is no place; north is -90 to 90, east -180 to 180.")
    return Place(latitude, longitude)


def interpreter(path: Path, threads: int = 1) -> Any:
    """A LiteRT interpreter of a model file, in this process."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_path=str(path), num_threads=threads)
    model.allocate_tensors()
    return model


def _outputs(model: Any, rows: Float32) -> Float32:
    """Outputs float32 (rows, outputs), one row at a time: on a CPU a batch is no faster."""
    into, out = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    answers = []
    for row in rows:
        model.set_tensor(into, row[None])
        model.invoke()
        answers.append(model.get_tensor(out)[0].copy())
    return np.stack(answers)


def run_direct(chunks: Float32, threads: int = 1) -> Float32:
    """BirdNET's own probabilities, float32 (chunks, species), of sound float32 (chunks, 144,000) at 48 kHz.

    The order is the model's, that of `read_species`. Nothing of the stack takes part: it is what the stack is held to.
    """
    logits = _outputs(interpreter(birdnet_folder() / MODEL, threads), chunks)
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))).astype(np.float32)


def occurrence(folder: Path, place: Place) -> Float32:
    """How likely each species is reported at a place: float32 (WEEKS, species) in [0, 1], in the model's order."""
    asked = np.array([[place.latitude, place.longitude, week] for week in range(1, WEEKS + 1)], np.float32)
    return _outputs(interpreter(folder / PLACE_AND_WEEK), asked)


def prior_of(seen: Float32, species: list[Species]) -> Float32:
    """What place and week multiply scores by: float32 (WEEKS, labels) in [FLOOR, 1], columns in the plain string order of labels.

    `seen` is `occurrence`, its columns in the order of `species`. A species at EXPECTED or more keeps its score, one that is
    never seen keeps FLOOR of it, in between in proportion. SOUNDS keep theirs: no place is without them.
    """
    prior = np.float32(FLOOR) + np.float32(1.0 - FLOOR) * np.minimum(1.0, seen / np.float32(EXPECTED))
    prior[:, [one.label in SOUNDS for one in species]] = 1.0
    order = sorted(range(len(species)), key=lambda column: species[column].label)
    return np.ascontiguousarray(prior[:, order], dtype=np.float32)


def add_birdnet(site: str, place: Place | None, replace: bool = False) -> LoadedRelease:
    """Make the release `birdnet-SITE`; one that says the same already stays as it is.

    Raises Invalid: BirdNET's files are missing, the site's name cannot be a folder, or the release is there with another place
    and `replace` is not set.
    """
    source, name = birdnet_folder(), f"birdnet-{site}"
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        cure = "use at most 190 characters, no slash, no backslash, no control character"
        raise Invalid(Reason.BAD_REQUEST, f"A site cannot be called {site!r}; {cure}.") from error
    releases = get_settings().releases
    releases.mkdir(parents=True, exist_ok=True)
    target = releases / name
    with tempfile.TemporaryDirectory(prefix=".birdnet-", dir=releases) as scratch:
        built = Path(scratch) / name
        new = _build(built, name, source, place)
        if (target / RELEASE_FILE).exists():
            old = load_release(target)
            if _content(old) == _content(new):
                return old
            if not replace:
                raise Invalid(Reason.BAD_REQUEST, f"{name} is there with other content; give --replace, then deploy it again.")
            target.rename(Path(scratch) / "old")
        built.rename(target)
    return load_release(target)


def _build(folder: Path, name: str, source: Path, place: Place | None) -> LoadedRelease:
    """Lay a release into a new folder."""
    folder.mkdir()
    shutil.copyfile(source / MODEL, folder / MODEL)
    species = read_species(source)
    metrics: dict[str, Any] = {}
    if place is not None:
        seen = occurrence(source, place)
        np.save(folder / PRIOR, prior_of(seen, species))
        expected = int((seen.max(axis=0) >= EXPECTED).sum())
        metrics["prior"] = {**place._asdict(), "floor": FLOOR, "expected_at": EXPECTED, "expected_species": expected}
    member = Member(
        name="birdnet",
        file=MODEL,
        digest=file_digest(folder / MODEL),
        runtime="litert",
        activation="sigmoid",
        feature_fingerprint=FEATURES.fingerprint,
        labels=tuple(one.label for one in species),
        licence=LICENCE,
        noncommercial=True,
    )
    speech = tuple(label for label in SPEECH if label in member.labels)
    release = Release(
        name=name,
        labels=tuple(sorted(species, key=lambda one: one.label)),
        features={FEATURES.fingerprint: FEATURES},
        members=(member,),
        threshold=THRESHOLD,
        sound_events={"speech": speech} if speech else {},
        prior_file=PRIOR if place is not None else None,
        metrics=metrics,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return write_release(folder, release)


def _content(loaded: LoadedRelease) -> tuple[Release, bytes]:
    """All that decides an answer: everything but the time it was made."""
    return loaded.release.model_copy(update={"created_at": ""}), b"" if loaded.prior is None else loaded.prior.tobytes()
