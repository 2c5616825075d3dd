"""A release whose parts do not fit is refused, with what was wrong."""

from __future__ import annotations

import ast
import errno
import json
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.release import RELEASE_FILE, WEEKS, Member, Release, file_digest, load_release, week_of, write_release
from soundscape.taxonomy import Species

SOURCES = Path(__file__).parents[3] / "model_repo"


def species(label: str) -> Species:
    """A species with that label."""
    return Species(label=label, scientific=f"Nova {label}", en=label, es=label, taxon="Aves")


def release(folder: Path, **changes: Any) -> Release:
    """A release of two members whose files lie in the folder: `own` knows a and c, `other` b and a."""
    members = []
    for name, labels in (("own", ("a", "c")), ("other", ("b", "a"))):
        (folder / f"{name}.onnx").write_bytes(name.encode())
        digest = file_digest(folder / f"{name}.onnx")
        members.append(
            Member(name=name, file=f"{name}.onnx", digest=digest, feature_fingerprint=LOG_MEL.fingerprint, labels=labels, licence="MIT")
        )
    said: dict[str, Any] = {
        "name": "r", "labels": tuple(map(species, "abc")), "features": {LOG_MEL.fingerprint: LOG_MEL}, "members": tuple(members),
        "thresholds": {"b": 0.25}, "created_at": "2026-11-24",
    }  # fmt: skip
    return Release(**(said | changes))


def test_a_release_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """With the columns and thresholds that a worker needs."""
    written = write_release(tmp_path, release(tmp_path))
    loaded = load_release(tmp_path, written.digest)
    assert loaded.release == written.release
    assert loaded.label_names == ("a", "b", "c")
    assert {name: columns.tolist() for name, columns in loaded.columns.items()} == {"own": [0, 2], "other": [1, 0]}
    assert loaded.thresholds.tolist() == [0.5, 0.25, 0.5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": {"0123456789abcdef": LOG_MEL}}, "does not follow from its spec"),
        ({"features": {(other := FeatureSpec(hop=512)).fingerprint: other}}, "which the release lacks"),
        ({"labels": tuple(map(species, "cba"))}, "not the union"),
        ({"labels": tuple(map(species, "ab"))}, "not the union"),
        ({"labels": tuple(map(species, "abcd"))}, "not the union"),
        ({"thresholds": {"z": 0.5}}, "unknown labels (z)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Before it is written, and so before it can be deployed."""
    with pytest.raises(Invalid, match=said.replace("(", r"\(").replace(")", r"\)")) as refused:
        write_release(tmp_path, release(tmp_path, **changes))
    assert refused.value.reason is Reason.RELEASE_INVALID


def test_a_member_that_names_a_label_twice_is_refused(tmp_path: Path) -> None:
    """Two outputs would fight for one column."""
    good = release(tmp_path)
    twice = good.members[0].model_copy(update={"labels": ("a", "c", "a")})
    with pytest.raises(Invalid, match="names a label twice"):
        good.model_copy(update={"members": (twice, good.members[1])}).verify()


def test_a_model_file_that_was_changed_or_is_missing_is_refused(tmp_path: Path) -> None:
    """The digest stands in the release."""
    write_release(tmp_path, release(tmp_path))
    (tmp_path / "own.onnx").write_bytes(b"something else")
    with pytest.raises(Invalid, match="not the file that was released"):
        load_release(tmp_path)
    (tmp_path / "own.onnx").unlink()
    with pytest.raises(Invalid, match="missing"):
        load_release(tmp_path)


def test_a_release_that_was_changed_after_deployment_is_refused(tmp_path: Path) -> None:
    """Its own file, or its prior."""
    np.save(tmp_path / "prior.npy", np.ones((WEEKS, 3), np.float32))
    written = write_release(tmp_path, release(tmp_path, prior_file="prior.npy"))
    np.save(tmp_path / "prior.npy", np.zeros((WEEKS, 3), np.float32))
    with pytest.raises(Invalid, match="changed after it was deployed"):
        load_release(tmp_path, written.digest)
    said = json.loads((tmp_path / RELEASE_FILE).read_text())
    (tmp_path / RELEASE_FILE).write_text(json.dumps(said | {"threshold": 0.1}))
    with pytest.raises(Invalid, match="changed after it was deployed"):
        load_release(tmp_path, written.digest)


@pytest.mark.parametrize(
    "prior", [np.ones((WEEKS, 2), np.float32), np.ones((WEEKS, 3)), np.ones(3, np.float32), np.full((WEEKS, 3), np.nan, np.float32)]
)
def test_a_prior_that_does_not_fit_the_labels_is_refused(tmp_path: Path, prior: Any) -> None:
    """By shape, by type or by its numbers; when the release is read, and not when a clip is answered."""
    np.save(tmp_path / "prior.npy", prior)
    with pytest.raises(Invalid, match="its prior"):
        write_release(tmp_path, release(tmp_path, prior_file="prior.npy"))


def test_a_prior_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """Whatever numpy makes of it: cut, another file, or with noise in its header."""
    np.save(tmp_path / "prior.npy", np.ones((WEEKS, 3), np.float32))
    write_release(tmp_path, release(tmp_path, prior_file="prior.npy"))
    whole, noise = (tmp_path / "prior.npy").read_bytes(), random.Random(7)
    heads = [whole[:at] + bytes([noise.choice(b"\x00\xff(){}[]'\",:09\n#")]) + whole[at + 1 :] for at in range(6, 60)]
    for body in (b"", b"PK\x03\x04", whole[:9], whole[:-1], *heads):
        (tmp_path / "prior.npy").write_bytes(body)
        try:
            load_release(tmp_path)
        except Invalid as refused:
            assert refused.reason is Reason.RELEASE_INVALID and "its prior" in refused.detail
        else:
            assert body in heads, "noise may fall where nothing depends on it"


def test_what_no_runner_serves_is_refused(tmp_path: Path) -> None:
    """The runtimes that a release may name are those that the runner has, and the sentence names them."""
    tree = ast.parse((SOURCES / "runner" / "model.py").read_text())
    (runner,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RUNTIMES")
    assert isinstance(runner, ast.Dict)
    assert {ast.literal_eval(key) for key in runner.keys if key} == set(get_args(Member.model_fields["runtime"].annotation))
    write_release(tmp_path, release(tmp_path))
    said = json.loads((tmp_path / RELEASE_FILE).read_text())
    said["members"][1]["runtime"] = "tensorflow"
    (tmp_path / RELEASE_FILE).write_text(json.dumps(said))
    with pytest.raises(Invalid, match=r"members\.1\.runtime: Input should be 'onnx', 'litert', 'torchscript', 'pytorch' or 'openvino'"):
        load_release(tmp_path)


def test_one_file_served_in_two_ways_is_two_models(tmp_path: Path) -> None:
    """Triton would serve the first one's for both."""
    member = release(tmp_path).members[1]
    ways: list[dict[str, Any]] = [{}, {"runtime": "openvino"}, {"graph_level": "basic"}, {"graph_level": "disabled"}]
    names = {member.model_copy(update=way).triton_name for way in ways}
    assert len(names) == len(ways) and f"{member.name}-{member.digest[:12]}" in names


def test_a_release_that_cannot_be_read_is_refused_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where its folder should be, a folder where its model should be, rights that are missing: nothing but Invalid gets out."""
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="cannot be read"):
        load_release(tmp_path / "file")
    write_release(tmp_path, release(tmp_path))
    (tmp_path / "own.onnx").unlink()
    (tmp_path / "own.onnx").mkdir()
    with pytest.raises(Invalid, match=r"own\.onnx cannot be read"):
        load_release(tmp_path)

    def forbidden(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(Invalid, match="Permission denied") as refused:
        load_release(tmp_path)
    assert refused.value.reason is Reason.RELEASE_INVALID


@pytest.mark.parametrize("name", ["../x.onnx", "/etc/passwd", "a/b.onnx", ".hidden", ""])
def test_a_file_outside_the_release_is_refused(tmp_path: Path, name: str) -> None:
    """A release is read from its own folder only."""
    write_release(tmp_path, release(tmp_path))
    said = json.loads((tmp_path / RELEASE_FILE).read_text())
    said["members"][0]["file"] = name
    (tmp_path / RELEASE_FILE).write_text(json.dumps(said))
    with pytest.raises(Invalid) as refused:
        load_release(tmp_path)
    assert refused.value.reason is Reason.RELEASE_INVALID


def test_birdnets_weeks() -> None:
    """Four a month; what comes after the 28th still belongs to the fourth."""
    assert [week_of(1, 1), week_of(7, 1), week_of(8, 1), week_of(22, 1), week_of(31, 1), week_of(31, 12)] == [0, 0, 1, 3, 3, 47]
    assert {week_of(day, month) for month in range(1, 13) for day in range(1, 32)} == set(range(WEEKS))
