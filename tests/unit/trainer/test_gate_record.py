"""What follows from a verdict: kept, said, and at most one retraining."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from soundscape.errors import Invalid
from soundscape.release import RELEASE_FILE, LoadedRelease, load_release, write_release
from soundscape.settings import Settings
from soundscape.testing import tone
from trainer.evaluation.hear import Ears
from trainer.gate import golden, served
from trainer.gate import record as gate_record
from trainer.gate.checks import Check
from trainer.gate.golden import Known
from trainer.gate.run import Verdict


def _verdict(loaded: LoadedRelease | None, *passed: bool) -> Verdict:
    return Verdict(tuple(Check(f"c{n}", one, "so it is") for n, one in enumerate(passed)), {}, "d" * 64, loaded)


def test_the_verdict_is_kept_under_the_digest_of_this_very_release(settings: Settings, loaded: LoadedRelease) -> None:
    path = gate_record.record(settings, "s1", "tones", _verdict(loaded, True, False), loaded)
    said = json.loads(path.read_text())
    assert path == settings.state / "gates" / f"{loaded.digest}.json" and settings.state.stat().st_mode & 0o777 == 0o700
    assert said["champion"] == loaded.digest
    assert said.items() >= {"release": "tones", "site": "s1", "passed": False, "reasons": ["c1: so it is"], "data_digest": "d" * 64}.items()
    assert said["not_asked"] == []
    away = Check("triton", True, "not asked: no Triton answers here", asked=False)
    gate_record.record(settings, "s1", "tones", Verdict((away,), {}, "d" * 64, loaded), loaded)
    assert json.loads(path.read_text())["not_asked"] == ["triton: not asked: no Triton answers here"]
    gate_record.record(settings, "s1", "tones", _verdict(loaded, True), loaded)
    assert json.loads(path.read_text())["passed"], "the last word counts"


def test_a_release_that_does_not_load_is_kept_too(settings: Settings, loaded: LoadedRelease) -> None:
    (loaded.folder / RELEASE_FILE).write_text("{}")
    path = gate_record.record(settings, "s1", "tones", _verdict(None, False), None)
    assert json.loads(path.read_text())["passed"] is False and path.stem != loaded.digest


def test_one_retraining_is_queued_and_never_a_second(settings: Settings, loaded: LoadedRelease) -> None:
    assert not gate_record.queue_retraining(settings, "s1", "tones", _verdict(loaded, True))
    assert gate_record.queue_retraining(settings, "s1", "tones", _verdict(loaded, False))
    first = (settings.state / "retraining" / "s1.json").read_text()
    assert json.loads(first).items() >= {"site": "s1", "because": "gate", "release": "tones"}.items()
    assert not gate_record.queue_retraining(settings, "s1", "tones", _verdict(loaded, False, False))
    assert (settings.state / "retraining" / "s1.json").read_text() == first
    assert gate_record.queue_retraining(settings, "s2", "tones", _verdict(loaded, False)), "another site waits for its own"


@pytest.mark.parametrize("training", [{"retraining": True}, {"plan": {"begins_with": "0" * 64}}])
def test_a_retraining_that_is_refused_queues_none(settings: Settings, loaded: LoadedRelease, training: dict[str, Any]) -> None:
    again = write_release(loaded.folder, loaded.release.model_copy(update={"metrics": {"training": training}}))
    assert not gate_record.queue_retraining(settings, "s1", "tones", _verdict(again, False))
    assert not (settings.state / "retraining").exists()


def test_without_a_broker_it_is_said_and_nothing_waits(settings: Settings, loaded: LoadedRelease) -> None:
    said: list[str] = []
    assert gate_record.state_of(settings, "s1") is None
    assert gate_record.champion_of(settings, None, None, said.append) is None
    gate_record.say_steps(settings, "s1", 0, "tones", _verdict(loaded, True), False, said.append)
    assert len(said) == 2 and "--champion" in said[0] and "No broker" in said[1]


def test_a_champion_that_is_named_must_be_there(settings: Settings, loaded: LoadedRelease) -> None:
    found = gate_record.champion_of(settings, None, "tones", print)
    assert found is not None and found.digest == loaded.digest
    with pytest.raises(Invalid, match="no release at"):
        gate_record.champion_of(settings, None, "other", print)


def test_golden_clips_tell_a_sound_release_from_a_deaf_and_a_loud_one(loaded: LoadedRelease) -> None:
    nothing = np.full(160_000, 1e-6, np.float32)
    known = [Known("a", tone(5.0, 500.0), "low"), Known("b", tone(5.0, 8000.0), "top"), Known("c", nothing, None)]
    own = {"low": "low", "top": "top"}

    def failed(release: LoadedRelease, names: dict[str, str] = own) -> list[str]:
        return [one.name for one in golden.golden(Ears(release), known, names, None) if not one.passed]

    assert failed(loaded) == []
    assert failed(loaded, {"low": "top", "top": "low"}) == ["positive"]
    deaf = write_release(loaded.folder, loaded.release.model_copy(update={"threshold": 1.0}))
    assert failed(deaf) == ["positive"]
    loud = write_release(loaded.folder, loaded.release.model_copy(update={"threshold": 0.0}))
    assert failed(loud) == ["silence", "negative"], "everything is named, even nothing"


def test_gain_that_tips_a_decision_is_found(loaded: LoadedRelease) -> None:
    class Moody(Ears):
        """Hears `mid` in whatever is loud."""

        def answer(self, features: Any, recorded_at: Any = None) -> Any:
            found = super().answer(features, recorded_at)
            if features.levels[0] > -10:
                found.unweighted[:, 1] = 0.9
            return found

    known = [Known("a", tone(5.0, 500.0), "low")]
    checks = {one.name: one for one in golden.golden(Moody(loaded), known, {"low": "low"}, None)}
    assert not checks["gain"].passed and "mid in a" in checks["gain"].says
    assert {one.name: one.passed for one in golden.golden(Ears(loaded), known, {"low": "low"}, None)}["gain"]


def test_files_are_measured_as_they_are_served(settings: Settings, loaded: LoadedRelease) -> None:
    member = loaded.release.members[0]
    assert served.sizes(loaded) == {"tones": (loaded.folder / member.file).stat().st_size}
    assert served.given(loaded) == [] and served.float32_files(loaded) == {}
    (loaded.folder / "model-int8.onnx").write_bytes((loaded.folder / member.file).read_bytes())
    (loaded.folder / "model-fp32.onnx").write_bytes(b"the float32 form")
    small = member.model_copy(update={"file": "model-int8.onnx", "precision": "int8"})
    write_release(loaded.folder, loaded.release.model_copy(update={"members": (small,)}))
    again = load_release(loaded.folder)
    assert served.float32_files(again) == {"tones": loaded.folder / "model-fp32.onnx"}
    assert served.window_ms(again, tone(5.0, 500.0)) > 0
    assert served.network_ms() > 0
