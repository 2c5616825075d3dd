"""How far species and scores have moved from what the release learnt; what is not known is said, and not 0."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from consumers import quality
from consumers.follow import read
from consumers.quality_rules import ENOUGH_SCORES, Drift, drift_of_mix, drift_of_scores, named_scores
from soundscape.confidence import RECORD, record
from soundscape.events import ClipAnalysed, Detection, Names, Window
from soundscape.release import LoadedRelease, write_release
from soundscape.settings import Settings, get_settings
from soundscape.testing import tone_release

LEARNT = record(np.random.default_rng(0).uniform(0.5, 1.0, (1000, 1)).astype(np.float32), np.array([0.5]), "validation")


def drawn(low: float, high: float, count: int = 1000) -> Counter[float]:
    return Counter(np.round(np.random.default_rng(1).uniform(low, high, count), 4).tolist())


def named(answer: ClipAnalysed, label: str, start_s: float = 0.0, end_s: float = 5.0) -> Detection:
    names = Names(scientific=label, en=label, es=label)
    return Detection(
        label=label, names=names, taxon="Aves", confidence=0.9, unweighted=0.9, threshold=0.5, start_s=start_s, end_s=end_s
    )  # fmt: skip


def test_scores_are_stable_against_their_own_and_shift_with_others() -> None:
    same, other = drift_of_scores(LEARNT, drawn(0.5, 1.0)).psi, drift_of_scores(LEARNT, drawn(0.5, 0.7)).psi
    assert same is not None and other is not None and same < 0.1 < 0.25 < other


def test_what_a_release_did_not_record_is_not_known() -> None:
    assert drift_of_scores(None, drawn(0.5, 1.0)) == Drift(
        unknown="the release does not record its scores; one made by a later training does"
    )
    for recorded, found in (({**LEARNT, "counts": [5] * 10}, drawn(0.5, 1.0)), (LEARNT, drawn(0.5, 1.0, ENOUGH_SCORES - 1))):
        few = drift_of_scores(recorded, found)
        assert few.psi is None and "are compared" in few.unknown
    assert drift_of_mix(None, {"a": 100}, 1).psi is None
    assert drift_of_mix({"a": 9}, {"a": 9}, 1).psi is None and drift_of_mix({"a": 9}, {"a": 10}, 1).psi == 0.0


def test_a_score_is_that_of_each_named_window_before_place_and_week(writer: Any) -> None:
    answer = read("test", ClipAnalysed, writer.answer("one"))
    assert answer is not None
    windows = tuple(Window(start_s=5 * n, end_s=5 * n + 5, scores=(0.1 * n, 0.2 * n)) for n in range(4))
    heard = (named(answer, "frog", 5, 15), named(answer, "owl", 15, 20), named(answer, "unlisted"))
    assert named_scores(answer.model_copy(update={"windows": windows, "detections": heard})) == [0.1, 0.2, 0.6]
    assert named_scores(answer.model_copy(update={"windows": windows, "detections": heard, "weights": (0.5, 0.0)})) == [0.2, 0.4]


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedRelease:
    """Of site `s`, on a log that holds nothing."""
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    made = tone_release(Settings(data_dir=tmp_path).releases / "r1", "r1")
    state = SimpleNamespace(champion=SimpleNamespace(name="r1", digest=None))
    monkeypatch.setattr(quality, "read_states", lambda _: {"s": state})
    monkeypatch.setattr(quality, "new_consumer", lambda _: SimpleNamespace(close=lambda: None))
    return made


def said(records: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """What the command says: for machines, and the end of it for people."""
    monkeypatch.setattr(quality, "read_all", lambda _, topics: iter(records if topics == ["predictions"] else []))
    told = CliRunner().invoke(quality.quality, ["--site", "s", "--json"], catch_exceptions=False)
    return json.loads(told.stdout), CliRunner().invoke(quality.quality, ["--site", "s"], catch_exceptions=False).stdout


def test_the_command_tells_both_drifts_of_the_champions_answers(
    champion: LoadedRelease, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of another release do not count."""
    records = [writer.answer(f"{n}", ("owl",)) for n in range(300)] + [writer.answer("other", ("frog",), release="r2")]
    told, shown = said(records, monkeypatch)
    assert told["drift"] == {"species mix": None, "scores": None} and set(told["drift_not_known"]) == {"species mix", "scores"}
    assert "Drift of the scores: not known: the release does not record its scores" in shown
    metrics = {"label_windows": {"owl": 300}, RECORD: LEARNT}
    write_release(champion.folder, champion.release.model_copy(update={"metrics": metrics}))
    told, shown = said(records, monkeypatch)
    assert told["drift"]["species mix"] == 0.0 and told["drift"]["scores"] > 0.25 and told["drift_not_known"] == {}
    assert "Drift of the scores: PSI" in shown
    get_settings.cache_clear()
