"""Releases in memory, with members that know different labels, and a lane that answers by them: fakes of Triton, deployments and broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipDied, ClipRecorded, Place, ReleaseRef, SiteDeployed
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.isolation import ChildPool
from soundscape.release import LoadedRelease, Member, Release
from soundscape.taxonomy import Species
from soundscape.testing import ogg
from soundscape.testing_log import clip
from soundscape.wire import Message, decode, encode
from stream_processors import analyse, safe, sick
from stream_processors.analyse import Analyser
from stream_processors.safe import Processor
from stream_processors.sites import Serving, Sites
from stream_processors.triton import ModelFailed, Triton

Make = Callable[..., LoadedRelease]


@pytest.fixture
def release_of(tmp_path: Path) -> Make:
    """Makes a release of members given as name -> (labels, weight, spec)."""

    def make(
        members: dict[str, tuple[list[str], float, FeatureSpec]] | None = None,
        *,
        name: str = "r1",
        prior: np.ndarray | None = None,
        thresholds: dict[str, float] | None = None,
        **more: Any,
    ) -> LoadedRelease:
        given = members or {"one": (["a", "b"], 1.0, LOG_MEL)}
        labels = sorted({label for known, _, _ in given.values() for label in known})
        if prior is not None:
            np.save(tmp_path / "prior.npy", prior)
        release = Release(
            name=name,
            labels=tuple(Species(label=one, scientific=f"S {one}", en=f"E {one}", es=f"Ñ {one}", taxon="Aves") for one in labels),
            features={spec.fingerprint: spec for _, _, spec in given.values()},
            members=tuple(
                Member(
                    name=member,
                    file="model.onnx",
                    digest=f"{n:064x}",
                    feature_fingerprint=spec.fingerprint,
                    labels=tuple(known),
                    weight=weight,
                    licence="CC0",
                )
                for n, (member, (known, weight, spec)) in enumerate(given.items(), start=1)
            ),
            thresholds=thresholds or {},
            prior_file="prior.npy" if prior is not None else None,
            created_at="2026-11-24T00:00:00+00:00",
            **more,
        )
        release.verify()
        return LoadedRelease(tmp_path, release, f"{ord(name[-1]):064x}")

    return make


class FakeTriton:
    """Answers 0.9 for every label, unless a script says otherwise; counts what it was asked."""

    def __init__(self, labels: int = 2) -> None:
        self.labels = labels
        self.script: list[Exception | None] = []
        """What the next inferences raise; None answers. The last one repeats."""
        self.sick: list[bool] = []
        """What the next probes say; the last one repeats. Healthy where there is none."""
        self.asked: list[tuple[str, int, int]] = []
        """(model, windows, priority) of each inference."""
        self.probes = 0
        self.hangs: asyncio.Event | None = None
        """What the probes wait for once the script of `sick` has come to its last word."""
        self.late: set[str] = set()
        self.broken: set[str] = set()
        """Models that answer neither clips nor probes."""
        self.dies: set[str] = set()
        """Models that every clip kills, and that answer their probes."""
        self._again = asyncio.Event()

    async def asked_times(self, count: int) -> None:
        """Return when it was asked so often."""
        while len(self.asked) < count:
            self._again.clear()
            await self._again.wait()

    async def infer(self, model: str, batch: np.ndarray, priority: int) -> np.ndarray:
        """As the adapter's."""
        self.asked.append((model, len(batch), priority))
        self._again.set()
        if model in self.late:
            await asyncio.Event().wait()
        if model in self.broken | self.dies:
            await asyncio.sleep(0)
            raise ModelFailed(model, "gone")
        error = (self.script.pop(0) if len(self.script) > 1 else self.script[0]) if self.script else None
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return np.full((len(batch), self.labels), 0.9, np.float32)

    async def healthy(self, model: str, shape: tuple[int, ...]) -> bool:
        """As the adapter's."""
        self.probes += 1
        await asyncio.sleep(0)
        if self.hangs is not None and len(self.sick) == 1:
            await self.hangs.wait()
        if model in self.dies:
            return True
        return model not in self.broken and not ((self.sick.pop(0) if len(self.sick) > 1 else self.sick[0]) if self.sick else False)


class FakeSites:
    """One site, `test`."""

    def __init__(self, loaded: LoadedRelease) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.generation, self.loaded = 1, loaded
        self.candidate: LoadedRelease | None = None
        """Answers every stream, where there is one."""
        self.open = False
        """Serves any site."""

    @property
    def models(self) -> set[str]:
        """As the real one's."""
        return {member.triton_name for member in self.loaded.release.members}

    def serving(self, clip: ClipRecorded, *, champion: bool = False) -> Serving:
        """As the real one."""
        if clip.site != "test" and not self.open:
            raise Invalid(Reason.NO_RELEASE, f"No release is deployed for site {clip.site!r}.")
        ref = ReleaseRef(name=self.loaded.release.name, digest=self.loaded.digest)
        at = datetime.now(UTC)
        state = SiteDeployed(site="test", generation=self.generation, champion=ref, reason="", actor="test", at=at)
        if self.candidate is not None and not champion:
            return Serving(state, self.candidate, "canary")
        return Serving(state, self.loaded, "champion")


class InPlace:
    """Children that are this process."""

    async def run(self, work: Any, *args: Any) -> Any:
        """The work's result."""
        return work(*args)


class Lane:
    """A processor with everything around it in memory."""

    place = Place(topic="clips", partition=3, offset=41)
    """Of every record."""

    def __init__(self, loaded: LoadedRelease, lane: str = "live", sick_limit_s: float = 60.0) -> None:
        self.triton, self.sites, self.children = FakeTriton(len(loaded.label_names)), FakeSites(loaded), InPlace()
        self.published: list[tuple[str, Message]] = []
        self.broker: list[Exception | None] = []
        """What the next publications raise."""
        triton, sites = cast(Triton, self.triton), cast(Sites, self.sites)
        analyser = Analyser(lane, triton, cast(ChildPool, self.children))
        self.processor = Processor(lane, analyser, triton, sites, self._publish, sick_limit_s)

    async def _publish(self, topic: str, message: Message) -> None:
        error = self.broker.pop(0) if self.broker else None
        if error is not None:
            raise error
        self.published.append((topic, message))

    def safe(self, message: Message) -> Awaitable[None]:
        """One record."""
        return self.processor.safe(self.place, message.key, message.headers, message.value)

    @staticmethod
    def record(**fields: Any) -> Message:
        """A clip's record."""
        return encode(clip(ogg(10.0, 2000.0), **fields))

    @property
    def answers(self) -> list[ClipAnalysed]:
        """What went to `predictions`."""
        return [decode(ClipAnalysed, sent.headers, sent.value) for topic, sent in self.published if topic == "predictions"]

    @property
    def deaths(self) -> list[ClipDied]:
        """What went to `dead-letters`."""
        return [decode(ClipDied, sent.headers, sent.value) for topic, sent in self.published if topic == "dead-letters"]


@pytest.fixture
def lane_of(monkeypatch: pytest.MonkeyPatch) -> type[Lane]:
    """Makes a lane; its tries follow each other at once."""
    monkeypatch.setattr(safe, "RETRY_S", (0.0,))
    monkeypatch.setattr(sick, "PROBE_EVERY_S", 0.0)
    monkeypatch.setattr(analyse, "LATE_S", 0.05)
    return Lane


@pytest.fixture
def lane(lane_of: type[Lane], release_of: Make) -> Lane:
    """The live lane, with one member."""
    return lane_of(release_of())
