"""What a model release is: a folder with `release.json` and model files, which carries all that decides an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soundscape.calibration import Calibration, Thresholds
from soundscape.errors import Invalid, Reason
from soundscape.events import MeanOf, Name, Probability
from soundscape.features import FeatureSpec
from soundscape.taxonomy import Species

RELEASE_FILE = "release.json"
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
WEEKS = 48
"""BirdNET's year: four weeks a month."""


class Member(BaseModel):
    """One model of a release, served by Triton as `NAME-DIGEST`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    file: FileName
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the model file."""
    runtime: Literal["onnx", "litert"] = "onnx"
    """Those that the runner (model_repo/runner) has."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    feature_fingerprint: str
    labels: tuple[str, ...]
    """Labels of the model's outputs, in their order."""
    events: tuple[Name, ...] = ()
    """Sound events (`speech`, `rain`, …) that further outputs tell, after those of the labels; no species, so they are never fused."""
    activation: Literal["none", "sigmoid"] = "sigmoid"
    """What turns an output into a probability."""
    weight: float = Field(1.0, ge=0)
    """In the fusion, beside the other members that know a label."""
    weight_by_taxon: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """For the labels of a taxon, in the place of `weight`."""
    licence: str
    noncommercial: bool = False

    @property
    def triton_name(self) -> str:
        """The model's name in Triton."""
        return f"{self.name}-{self.digest[:12]}"

    @property
    def outputs(self) -> int:
        """Numbers that the model gives a window."""
        return len(self.labels) + len(self.events)


class Release(BaseModel):
    """`release.json`. Labels are the union of the members', in plain string order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    labels: tuple[Species, ...] = Field(min_length=1)
    features: dict[str, FeatureSpec]
    """By fingerprint."""
    members: tuple[Member, ...] = Field(min_length=1)
    thresholds: dict[str, Probability] = {}
    """By label, where it is not `threshold`."""
    threshold: Probability = 0.5
    thresholds_without: dict[str, Thresholds] = Field(default_factory=dict)
    """By member, those that hold where it alone did not answer; where others did not, nothing was calibrated."""
    fusion: MeanOf = "probability"
    calibration: Calibration | None = None
    """What fused scores are worth; None leaves them as they are."""
    context: float = Field(0.0, ge=0, le=0.5)
    """Share of a window's confidence that the mean of its two neighbours in the same clip has: who calls, often goes on."""
    sound_events: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By sound event (`speech`, …), the labels that tell it, beside the events of the members."""
    prior_file: FileName | None = None
    """`.npy`, float32 (WEEKS, labels) in [0, 1]: what place and week multiply a score by."""
    metrics: dict[str, Any] = {}
    evaluation_sets: dict[str, str] = {}
    """The digest of what its data keeps to judge by, by the data's name: what a later evaluation of it is compared on."""
    data_digest: str | None = None
    git_commit: str | None = None
    mlflow_run: str | None = None
    created_at: str

    @property
    def told_events(self) -> tuple[str, ...]:
        """The sound events that the release tells; one without `speech` cannot tell speech."""
        return tuple(sorted({*self.sound_events, *(event for member in self.members for event in member.events)}))

    @property
    def licences(self) -> tuple[str, ...]:
        """The members' licences, each once."""
        return tuple(sorted({member.licence for member in self.members}))

    def verify(self) -> None:
        """Raise Invalid (release-invalid) unless the parts fit each other: fingerprints follow from specs, labels from members."""
        for fingerprint, spec in self.features.items():
            if spec.fingerprint != fingerprint:
                raise _invalid(self.name, f"the feature fingerprint {fingerprint} does not follow from its spec ({spec.fingerprint})")
        for member in self.members:
            if member.feature_fingerprint not in self.features:
                raise _invalid(self.name, f"member {member.name} wants features {member.feature_fingerprint}, which the release lacks")
            if len(set(member.labels)) != len(member.labels) or len(set(member.events)) != len(member.events):
                raise _invalid(self.name, f"member {member.name} names a label twice")
            if not member.outputs:
                raise _invalid(self.name, f"member {member.name} names neither labels nor sound events")
        union = sorted({label for member in self.members for label in member.labels})
        if union != [species.label for species in self.labels]:
            raise _invalid(self.name, "its labels are not the union of its members' labels in string order")
        if unknown := sorted(self.thresholds.keys() - set(union)):
            raise _invalid(self.name, f"it has thresholds for unknown labels ({', '.join(unknown[:3])})")
        members = {member.name for member in self.members}
        if len(members) != len(self.members):
            raise _invalid(self.name, "two of its members have one name")
        if unknown := sorted(self.thresholds_without.keys() - members):
            raise _invalid(self.name, f"it has thresholds without unknown members ({', '.join(unknown[:3])})")
        if unknown := sorted({label for told in self.sound_events.values() for label in told} - set(union)):
            raise _invalid(self.name, f"its sound events are told by unknown labels ({', '.join(unknown[:3])})")


class LoadedRelease:
    """A release read from its folder and verified, with what a worker needs at hand."""

    def __init__(self, folder: Path, release: Release, digest: str) -> None:
        self.folder, self.release, self.digest = folder, release, digest
        self.label_names = tuple(species.label for species in release.labels)
        index = {label: n for n, label in enumerate(self.label_names)}
        self.columns = {member.name: np.array([index[label] for label in member.labels], np.intp) for member in release.members}
        """Of each member: int (its labels,), the release's column of each label's output."""
        self.weights = {member.name: self._weights(member) for member in release.members}
        """Of each member: float32 (its labels,), what each output weighs in the fusion."""
        self.thresholds = Thresholds(threshold=release.threshold, thresholds=release.thresholds).by_label(self.label_names)
        self._without = {name: one.by_label(self.label_names) for name, one in release.thresholds_without.items()}

    def thresholds_of(self, answered: Set[str]) -> tuple[npt.NDArray[np.float32], bool]:
        """float32 (labels,) where these members answered, and whether they were chosen for just these."""
        missing = [member.name for member in self.release.members if member.name not in answered]
        if len(missing) == 1 and missing[0] in self._without:
            return self._without[missing[0]], True
        return self.thresholds, not missing

    def _weights(self, member: Member) -> npt.NDArray[np.float32]:
        taxa = [self.release.labels[column].taxon for column in self.columns[member.name]]
        return np.array([member.weight_by_taxon.get(taxon, member.weight) for taxon in taxa], np.float32)

    @cached_property
    def prior(self) -> npt.NDArray[np.float32] | None:
        """float32 (WEEKS, labels) in [0, 1], or None. Raises Invalid if the file cannot be read or does not fit the labels."""
        if self.release.prior_file is None:
            return None
        name, wanted = self.release.name, (WEEKS, len(self.label_names))
        try:
            with (self.folder / self.release.prior_file).open("rb") as file:
                prior: npt.NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # numpy reads the header as Python text, and raises what that raises
            raise _invalid(name, f"its prior {self.release.prior_file} cannot be read as .npy ({error})") from error
        if prior.shape != wanted or prior.dtype != np.float32:
            raise _invalid(name, f"its prior is {prior.dtype} {prior.shape}, not float32 {wanted}")
        if not ((prior >= 0) & (prior <= 1)).all():
            raise _invalid(name, "its prior holds numbers outside 0 to 1")
        return prior


def write_release(folder: Path, release: Release) -> LoadedRelease:
    """Write `release.json` beside the model files that are already in `folder`, and read it back verified."""
    release.verify()
    (folder / RELEASE_FILE).write_text(release.model_dump_json(indent=1), encoding="utf-8")
    return load_release(folder)


def load_release(folder: Path, digest: str | None = None) -> LoadedRelease:
    """Read and verify a release.

    Raises Invalid (release-invalid): no or bad `release.json`, a file that cannot be read or whose digest differs, parts that do not
    fit, or another digest than the one that was deployed. Nothing else: what is wrong with one site's release is that site's alone.
    """
    path = folder / RELEASE_FILE
    try:
        body = path.read_bytes()
        release = Release.model_validate_json(body)
    except FileNotFoundError as error:
        raise Invalid(Reason.RELEASE_INVALID, f"There is no release at {folder}; make one with `soundscape train`.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise Invalid(Reason.RELEASE_INVALID, f"{path} does not hold at {where}: {first['msg']}.") from error
    release.verify()
    for member in release.members:
        if file_digest(folder / member.file) != member.digest:
            raise _invalid(release.name, f"{member.file} is not the file that was released (its SHA-256 differs)")
    prior = file_digest(folder / release.prior_file) if release.prior_file else ""
    found = hashlib.sha256(body + prior.encode()).hexdigest()
    if digest is not None and found != digest:
        raise _invalid(release.name, "it was changed after it was deployed (its digest differs)")
    loaded = LoadedRelease(folder, release, found)
    _ = loaded.prior  # read here, where it is refused: later each clip of the site would die of it
    return loaded


def named_release(releases: Path, name: str, digest: str | None = None) -> LoadedRelease:
    """The release of that name among others. Raises Invalid as `load_release`, and for one that calls itself otherwise: a copy, say."""
    loaded = load_release(releases / name, digest)
    if loaded.release.name != name:
        raise _invalid(name, f"its release.json is that of {loaded.release.name}; a copy must say its own name")
    return loaded


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file. Raises Invalid (release-invalid) if it is not there or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise Invalid(Reason.RELEASE_INVALID, f"{path.name} is missing from the release at {path.parent}.") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def week_of(day: int, month: int) -> int:
    """BirdNET's week, 0 to 47: four a month, days 22 to the end in the fourth."""
    return (month - 1) * 4 + min(3, (day - 1) // 7)


def _invalid(name: str, what: str) -> Invalid:
    return Invalid(Reason.RELEASE_INVALID, f"Release {name} is refused: {what}.")


def _unreadable(path: Path, error: OSError) -> Invalid:
    return Invalid(Reason.RELEASE_INVALID, f"{path} cannot be read ({error.strerror or error}); mend the release or deploy another.")
