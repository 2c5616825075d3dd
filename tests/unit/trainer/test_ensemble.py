"""Several releases fused: who hears best weighs most, scores become what they are worth, and what does not belong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from soundscape.errors import Invalid
from soundscape.features import LOG_MEL
from soundscape.release import RELEASE_FILE, LoadedRelease, Member, Release, file_digest, load_release, write_release
from soundscape.settings import Settings
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.evaluation.measures import calibration_error, reliability
from trainer.gate.served import float32_files
from trainer.releases import calibrate as calibrate_module
from trainer.releases import ensemble as module
from trainer.releases.calibrate import calibrate
from trainer.releases.ensemble import mixtures, unite, with_weights
from trainer.releases.fusing import Answered, answer, exported
from trainer.releases.package import Origin
from trainer.testing import write_folder
from trainer.training import recommended
from trainer.training.train import _bound

ORIGIN = Origin("fused", None, None, {})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> store.Prepared:
    home = tmp_path_factory.mktemp("ensemble")
    return prepare(write_folder(home / "data", clips=6, seconds=3.0, minutes=0), home / "datasets", lambda _: None, children=0)[0]


def part(prepared: store.Prepared, folder: Path, member: str, **changed: Any) -> LoadedRelease:
    """A release of one member; nobody runs its file."""
    folder.mkdir(parents=True)
    (folder / f"{member}.onnx").write_bytes(member.encode())
    one = Member(
        name=member, file=f"{member}.onnx", digest=file_digest(folder / f"{member}.onnx"), feature_fingerprint=LOG_MEL.fingerprint,
        labels=prepared.labels, licence="CC0",
    )  # fmt: skip
    made = {
        "name": folder.name, "labels": prepared.species, "features": {LOG_MEL.fingerprint: LOG_MEL}, "members": (one,),
        "data_digest": prepared.digest, "created_at": "2026-11-27T00:00:00+00:00",
    }  # fmt: skip
    return write_release(folder, Release.model_validate(made | changed))


def said(prepared: store.Prepared, rows: int = 240) -> Answered:
    """A member that hears (`good`), and one that guesses (`bad`)."""
    rng, labels = np.random.default_rng(0), len(prepared.labels)
    truth = rng.random((rows, labels)) < 0.3
    good = np.clip(truth * 0.3 + rng.random((rows, labels)) * 0.5, 0, 1).astype(np.float32)
    bad = rng.random((rows, labels)).astype(np.float32)
    return Answered({"good": good, "bad": bad}, truth, np.array([str(n // 4) for n in range(rows)]))


@pytest.fixture
def united(prepared: store.Prepared, tmp_path: Path) -> LoadedRelease:
    parts = [part(prepared, tmp_path / name, name) for name in ("good", "bad")]
    return unite(prepared, parts, tmp_path / "fused", ORIGIN)


def test_every_mixture_shares_one() -> None:
    found = list(mixtures(3, 4))
    assert len(found) == len(set(found)) == 15 and all(sum(one) == pytest.approx(1.0) and min(one) >= 0 for one in found)
    assert list(mixtures(1)) == [(1.0,)]


def test_who_hears_weighs_and_who_guesses_does_not(united: LoadedRelease, prepared: store.Prepared) -> None:
    spoken: list[str] = []
    found = with_weights(united, said(prepared), said(prepared), prepared, spoken.append)
    weights = {member.name: member.weight for member in found.release.members}
    assert weights["good"] > 0.7 and sum(weights.values()) == pytest.approx(1.0)
    assert spoken[0].startswith("Weights for all taxa: good")


def test_a_budget_chooses_the_members(prepared: store.Prepared, tmp_path: Path) -> None:
    """The best that fit; who has no share is left out, with its file, unless it tells sound events and there is room."""
    parts = [part(prepared, tmp_path / name, name) for name in ("good", "bad")]
    (tmp_path / "good" / "good.onnx").write_bytes(bytes(3_000_000))
    heavy = parts[0].release.members[0].model_copy(update={"digest": file_digest(tmp_path / "good" / "good.onnx")})
    parts[0] = write_release(tmp_path / "good", parts[0].release.model_copy(update={"members": (heavy,)}))
    spoken: list[str] = []
    crow = prepared.species[0].model_copy(update={"label": "crow"})
    release = parts[1].release.model_copy(update={"labels": (*prepared.species, crow), "thresholds": {"crow": 0.3}})
    with_rest = LoadedRelease(parts[1].folder, release, "d" * 64)
    rain = ("rain",)
    for budget, events, wanted in ((None, (), ["good"]), (2.0, (), ["bad"]), (None, rain, ["good", "bad"]), (3.0, rain, ["good"])):
        telling = parts[1].release.members[0].model_copy(update={"events": events})
        both = [parts[0], write_release(tmp_path / "bad", parts[1].release.model_copy(update={"members": (telling,)}))]
        united = unite(prepared, both, tmp_path / "fused", ORIGIN)
        found = with_weights(united, said(prepared), said(prepared), prepared, spoken.append, budget)
        if budget is None:  # the one that guesses gets nothing
            found = module._weighted(united, (1.0, 0.0))
        (united.folder / "bad-weights.pt").touch()  # what came with it
        kept = module._without_idle(found, prepared, both, ORIGIN, spoken.append, budget)
        assert [member.name for member in kept.release.members] == wanted
        assert sorted(path.stem for path in kept.folder.glob("*.onnx")) == sorted(wanted)
        assert len(wanted) == 2 or not (kept.folder / "bad-weights.pt").exists()
        assert module._kept([with_rest], kept, prepared) == ({"crow": 0.3} if "crow" in kept.label_names else {})
    with pytest.raises(Invalid, match=r"No member fits into 1e-06 MB"):
        with_weights(unite(prepared, parts, tmp_path / "fused", ORIGIN), said(prepared), said(prepared), prepared, spoken.append, 1e-6)


def test_what_the_gate_asks_of_a_network_comes_with_it(prepared: store.Prepared, tmp_path: Path) -> None:
    """Its float32 form, and how far its export differs from PyTorch; the worst of those that stayed."""
    differences = {"one": 1e-6, "two": 5e-6, "left": 1e-2}
    parts = [part(prepared, tmp_path / name, name, metrics={"int8": {"onnx_difference": far}}) for name, far in differences.items()]
    (tmp_path / "one" / "one.onnx").rename(tmp_path / "one" / "one-int8.onnx")
    (tmp_path / "one" / "one-fp32.onnx").write_bytes(b"whole")
    int8 = parts[0].release.members[0].model_copy(update={"file": "one-int8.onnx", "precision": "int8"})
    parts[0] = write_release(tmp_path / "one", parts[0].release.model_copy(update={"members": (int8,)}))
    united = unite(prepared, parts[:2], tmp_path / "fused", ORIGIN)
    assert float32_files(united) == {"one": united.folder / "one-fp32.onnx"}
    assert exported(parts, united) == {"int8": {"onnx_difference": 5e-6}}
    assert exported([], united) == {}


def test_members_that_hear_alike_share_evenly(united: LoadedRelease, prepared: store.Prepared) -> None:
    """Two that say the same are told apart by nothing."""
    one = said(prepared)
    same = one._replace(by_member={name: one.by_member["good"] for name in one.by_member})
    found = with_weights(united, same, same, prepared, lambda _: None)
    assert [member.weight for member in found.release.members] == [0.5, 0.5]


def test_scores_become_what_they_are_worth(united: LoadedRelease, prepared: store.Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """A species that was heard often enough by a curve of its own, the others by one line; the order of its scores stays."""
    monkeypatch.setattr(calibrate_module, "CURVE_POSITIVES", 30)
    one = said(prepared)
    rare = one.truth.copy()
    rare[np.flatnonzero(rare[:, 0])[10:], 0] = False
    composed = one._replace(truth=rare, by_member={**one.by_member, "bad": one.by_member["good"]})
    found, spoken = calibrate(united, composed, prepared)
    made = found.release.calibration
    assert made is not None and set(made.curves) == set(prepared.labels[1:]) and "1 too rare" in spoken
    before, after = answer(united, composed.by_member, prepared), answer(found, composed.by_member, prepared)
    for column in range(len(prepared.labels)):
        order = np.argsort(before[:, column])
        assert (np.diff(after[order, column]) >= -1e-6).all()
    wrong_before, wrong_after = (calibration_error(reliability(rare, scores)) for scores in (before, after))
    assert wrong_before is not None and wrong_after is not None and wrong_after < 0.5 * wrong_before


def test_what_does_not_belong_together_is_refused(prepared: store.Prepared, tmp_path: Path) -> None:
    one, twin = part(prepared, tmp_path / "one", "small"), part(prepared, tmp_path / "twin", "small")
    other = part(prepared, tmp_path / "other", "large", data_digest="f" * 64)
    with pytest.raises(Invalid, match="two members"):
        module.ensemble(prepared, [one], tmp_path / "fused", ORIGIN, lambda _: None, lambda *_: None)
    for parts, says in (([one, twin], "called small"), ([one, other], "other data")):
        with pytest.raises(Invalid, match=says):
            unite(prepared, parts, tmp_path / "fused", ORIGIN)


def test_an_ensemble_is_there_whole_or_not_at_all(
    prepared: store.Prepared, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its weights it is a release that holds, and nobody may deploy it; the one of before stays until the new one is whole."""
    parts = [part(prepared, tmp_path / name, name) for name in ("good", "bad")]
    before = part(prepared, settings.releases / "fused", "before")

    def cut_off(prepared: store.Prepared, parts: Any, folder: Path, origin: Origin, *_: Any) -> None:
        unite(prepared, parts, folder, origin)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "ensemble", cut_off)
    with pytest.raises(KeyboardInterrupt):
        recommended.fuse_parts(settings, prepared, parts, "fused", {}, MagicMock(run_id=None), lambda _: None, lambda *_: None)
    assert load_release(settings.releases / "fused").digest == before.digest
    assert [path.parent.name for path in settings.releases.glob(f"[!.]*/{RELEASE_FILE}")] == ["fused"]


def test_where_no_head_can_take_part_a_name_is_the_networks(
    prepared: store.Prepared, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again meets the release that it has made, and not another's of that name."""
    alone = part(prepared, settings.releases / "mine", "small")
    monkeypatch.setattr(recommended, "missing", lambda _: "it is not here")
    monkeypatch.setattr(recommended, "train", lambda *args, **_: alone if args[4] == "mine" else None)
    for _ in range(2):
        made = recommended.recommend(settings, prepared, MagicMock(), 1.0, "mine", False, lambda _: None, lambda *_: None)
        assert made.digest == alone.digest


def test_a_teachers_licences_bind_its_student(prepared: store.Prepared, tmp_path: Path) -> None:
    teacher = part(prepared, tmp_path / "teacher", "birdnet_head")
    forbids = teacher.release.members[0].model_copy(update={"licence": "CC BY-NC-SA 4.0", "noncommercial": True})
    teacher = write_release(teacher.folder, teacher.release.model_copy(update={"members": (forbids,)}))
    bound = _bound(part(prepared, tmp_path / "student", "small"), teacher)
    assert load_release(bound.folder).digest == bound.digest
    (member,) = bound.release.members
    assert member.noncommercial and member.licence == "CC0; learnt from answers of teacher (CC BY-NC-SA 4.0)"
