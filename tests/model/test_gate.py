"""The gate before a real model on tones: it lets the sound one in, and refuses each broken one for a reason of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from soundscape.features import LOG_MEL
from soundscape.release import RELEASE_FILE, Member, Release, file_digest, load_release, write_release
from soundscape.settings import Settings, get_settings
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.evaluation import rivals
from trainer.evaluation.command import evaluate
from trainer.gate.command import gate
from trainer.members.models import build
from trainer.releases import quantize
from trainer.testing import write_folder

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""

GOOD = "sound"


class Bands(nn.Module):
    """The loudest moment of each band, and one linear layer: enough for tones, learnt in a second, the same on every machine."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.last = nn.Linear(LOG_MEL.n_mels, labels)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        out: torch.Tensor = self.last(window.amax(2))
        return out


def learnt(windows: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], steps: int = 400) -> Bands:
    """Bands fitted to windows of calls, under a floor of noise that is another at each step, and to that noise alone."""
    torch.manual_seed(0)
    net, rng = Bands(truth.shape[1]), np.random.default_rng(0)
    optimizer, peaks = torch.optim.Adam(net.parameters(), lr=0.02), windows.max(axis=2)  # a floor's loudest moment is the floor
    wanted = torch.from_numpy(np.concatenate([truth, np.zeros_like(truth)]).astype(np.float32))
    for _ in range(steps):
        floor = rng.uniform(0.0, 0.7, (len(peaks), 1)) + rng.normal(0, 0.02, peaks.shape)
        alone = rng.uniform(0.9, 1.0, (len(peaks), 1)) + rng.normal(0, 0.02, peaks.shape)
        heard = torch.from_numpy(np.concatenate([np.maximum(peaks, floor), alone]).astype(np.float32))
        loss = nn.functional.binary_cross_entropy_with_logits(net.last(heard), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a data folder and a release of a model that learnt from its training clips, served as int8."""
    home = tmp_path_factory.mktemp("gate")
    data = write_folder(home / "data", clips=8, seconds=3.0, minutes=12)
    prepared, _ = prepare(data, home / "var" / "datasets", lambda _: None, children=0)
    clips = prepared.of(store.TRAIN)
    windows = np.concatenate([prepared.windows(item) for item in clips])
    net = learnt(windows, prepared.truth(clips)[0])
    folder = home / "var" / "releases" / GOOD
    folder.mkdir(parents=True)
    difference = quantize.export(net, folder / "bands-fp32.onnx", prepared.spec, windows)
    quantize.quantize(folder / "bands-fp32.onnx", folder / "bands-int8.onnx", windows)
    member = Member(
        name="bands", file="bands-int8.onnx", digest=file_digest(folder / "bands-int8.onnx"), precision="int8",
        feature_fingerprint=prepared.spec.fingerprint, labels=prepared.labels, licence="CC0",
    )  # fmt: skip
    write_release(
        folder,
        Release(
            name=GOOD, labels=prepared.species, features={prepared.spec.fingerprint: prepared.spec}, members=(member,),
            metrics={"int8": {"onnx_difference": difference}}, data_digest=prepared.digest, created_at="2026-11-25T00:00:00+00:00",
        ),
    )  # fmt: skip
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same home for this test alone, with the settings that point there; no stack is up."""
    here = tmp_path / "home"
    shutil.copytree(trained, here, symlinks=True)
    for manifest in (here / "var" / "datasets").glob("*/dataset.json"):
        manifest.write_text(manifest.read_text().replace(str(trained), str(here)))
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(here / "var"))
    monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", "64000")
    get_settings.cache_clear()
    yield here
    get_settings.cache_clear()


def asked(name: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of `soundscape gate NAME --json`."""
    done = CliRunner().invoke(gate, [name, "--json", *more], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def broken(settings: Settings, name: str, spoil: Callable[[Path], None]) -> str:
    """The sound release again under another name, spoilt; its name."""
    folder = settings.releases / name
    shutil.copytree(settings.releases / GOOD, folder)
    spoil(folder)
    return name


def names_of(said: dict[str, Any]) -> list[str]:
    """The questions that were answered with no."""
    assert said["reasons"] == [f"{one['name']}: {one['says']}" for one in said["metrics"]["checks"] if not one["passed"]]
    return [reason.partition(":")[0] for reason in said["reasons"]]


def test_a_sound_release_passes_and_the_deployer_finds_its_verdict(home: Path) -> None:
    code, said = asked(GOOD)
    assert (code, said["passed"], said["reasons"]) == (0, True, [])
    settings = get_settings()
    kept = json.loads((settings.state / "gates" / f"{load_release(settings.releases / GOOD).digest}.json").read_text())
    assert kept["not_asked"] == said["metrics"]["not_asked"]
    assert [one.partition(":")[0] for one in kept["not_asked"]] == ["slices", "triton"] and "no Triton answers here" in kept["not_asked"][1]
    assert kept["passed"] and kept["release"] == GOOD and kept["data_digest"] == said["metrics"]["set"]["digest"]
    assert not (settings.state / "retraining").exists()
    asked_for = {one["name"] for one in said["metrics"]["checks"]}
    assert asked_for >= {"release", "apart", "mean_ap", "slices", "int8", "pytorch", "triton", "size", "latency"}
    assert asked_for >= {"silence", "gain", "positive", "negative"}


def test_labels_that_were_rotated_by_one_are_refused_as_that(home: Path) -> None:
    settings = get_settings()

    def rotate(folder: Path) -> None:
        release = load_release(folder).release
        member = release.members[0]
        turned = member.model_copy(update={"labels": (*member.labels[1:], member.labels[0])})
        write_release(folder, release.model_copy(update={"name": "rotated", "members": (turned,)}))

    code, said = asked(broken(settings, "rotated", rotate), "--champion", GOOD)
    assert code == 1 and not said["passed"]
    assert {"mean_ap", "labels", "slices", "positive"} <= set(names_of(said))
    assert "fit other labels" in " ".join(said["reasons"])
    assert any(one["difference"]["high"] < 0 for one in said["metrics"]["slices"].values() if one["gated"])


def test_a_fingerprint_that_does_not_follow_from_its_spec_is_refused_as_that(home: Path) -> None:
    settings = get_settings()

    def bend(folder: Path) -> None:
        said = json.loads((folder / RELEASE_FILE).read_text())
        said["features"][LOG_MEL.fingerprint]["top_db"] = 70.0
        (folder / RELEASE_FILE).write_text(json.dumps(said))

    code, said = asked(broken(settings, "bent", bend))
    assert code == 1 and names_of(said) == ["release"]
    assert "does not follow from its spec" in said["reasons"][0]
    assert [json.loads(path.read_text())["passed"] for path in (settings.state / "gates").iterdir()] == [False]


def test_a_copy_that_says_anothers_name_is_refused_as_that(home: Path) -> None:
    """Its answers would be told apart from nobody's."""
    code, said = asked(broken(get_settings(), "copied", lambda _: None))
    assert code == 1 and names_of(said) == ["release"]
    assert f"is that of {GOOD}" in said["reasons"][0]


def test_a_float32_form_that_is_cut_off_is_refused_as_that(home: Path) -> None:
    """What is served could not be held to it."""

    def cut(folder: Path) -> None:
        release = load_release(folder).release
        write_release(folder, release.model_copy(update={"name": "cut"}))
        (folder / "bands-fp32.onnx").write_bytes((folder / "bands-fp32.onnx").read_bytes()[:1000])

    code, said = asked(broken(get_settings(), "cut", cut))
    assert code == 1 and names_of(said) == ["release"]
    assert "bands-fp32.onnx cannot be loaded" in said["reasons"][0]


def test_a_set_that_the_release_learnt_from_judges_nothing(home: Path) -> None:
    """Not one sound would be heard, and the release would pass."""
    learnt_from = home / "learnt"
    shutil.copytree(home / "data", learnt_from)
    (prepared,) = (store.load(path.parent) for path in (home / "var" / "datasets").glob("*/dataset.json"))
    taught = {item.name.removeprefix("train_audio/") for item in prepared.of(store.TRAIN)}
    header, *rows = (learnt_from / "train.csv").read_text().splitlines()
    (learnt_from / "train.csv").write_text("\n".join([header, *(row for row in rows if any(name in row for name in taught))]) + "\n")
    for table in ("soundscape_labels.csv", "soundscape_events.csv"):
        (learnt_from / table).unlink()
    done = CliRunner().invoke(gate, [GOOD, "--data", str(learnt_from)])
    assert "nothing is left to judge by" in str(done.exception)
    assert not (get_settings().state / "gates").exists()


def test_random_weights_are_refused_because_they_hear_nothing_and_one_retraining_is_queued(home: Path) -> None:
    settings = get_settings()

    def forget(folder: Path) -> None:
        release = load_release(folder).release
        torch.manual_seed(3)
        path = folder / "noise.onnx"
        windows = np.random.default_rng(0).random((2, *LOG_MEL.shape), np.float32)
        quantize.export(build("small", len(release.labels)), path, LOG_MEL, windows)
        update = {"file": path.name, "precision": "fp32", "digest": file_digest(path)}
        member = release.members[0].model_copy(update=update)
        write_release(folder, release.model_copy(update={"name": "random", "members": (member,)}))

    code, said = asked(broken(settings, "random", forget), "--champion", GOOD)
    assert code == 1 and names_of(said) == ["slices", "positive"]
    worse, deaf = said["reasons"]
    assert worse.startswith(f"slices: worse than {GOOD} on soundscapes by 0.")
    assert deaf.startswith("positive: 0 of 5 known positives are named")
    queue = settings.state / "retraining" / f"{settings.site}.json"
    queued = json.loads(queue.read_text())
    assert (queued["release"], queued["because"], queued["reasons"]) == ("random", "gate", said["reasons"])


def test_bad_input_is_no_refusal(home: Path) -> None:
    from soundscape.errors import Invalid

    for arguments in (["nobody"], [GOOD, "--champion", "nobody"], [GOOD, "--site", "a/b"], [GOOD, "--data", str(home / "var")]):
        done = CliRunner().invoke(gate, arguments)
        assert isinstance(done.exception, Invalid) or done.exit_code == 2, arguments  # `soundscape` makes exit code 2 of either
    assert not (get_settings().state / "gates").exists()


def test_an_evaluation_leaves_a_page_that_stands_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "MIXTURES", 60)  # the rivals need not be good
    done = CliRunner().invoke(evaluate, [GOOD, "--data", str(home / "data"), "--windows", "2", "--json"], catch_exceptions=False)
    numbers = json.loads(done.stdout)
    assert set(numbers["parts"]) == {"soundscapes", "focal"}
    found = numbers["parts"]["soundscapes"]
    assert found["rows"] == 36 and found["mean_ap"] > found["rivals"]["constant"]["mean_ap"]
    assert set(found["rivals"]) == {"constant", "band_energy", "level_and_bandwidth"}
    assert len(numbers["strain"]) == 6
    folder = home / "var" / "evaluations" / f"{GOOD}-{numbers['set']['digest'][:12]}"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "report.json").read_text())["set"] == numbers["set"]
    assert page.count("<svg") >= 9 and "</html>" in page
    assert 'src="http' not in page and "<script" not in page and "<link" not in page
