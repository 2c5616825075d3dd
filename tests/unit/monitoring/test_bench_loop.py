"""The benchmarks of the loop: what they ask for in which order, what they count, and what they end with; no stack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import monitoring.answers
import monitoring.beside
import monitoring.judging
from monitoring import bench_loop
from monitoring.bench import bench
from monitoring.judging import Judged
from monitoring.load import Sent
from soundscape.errors import Invalid, Reason, Unavailable

COPY = "bench-beside-1"


class Bench:
    """What the benchmarks meet: the product's commands, users who are answered in as many ms as is said, and the shadow's answers."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.ms = iter(range(1, 1000))
        self.refused = ""
        self.sent = 0
        self.counted = {"waiting": 0, "accepted": 9, "predicted": 9, "dead": 0, "lost": 0, "twice": 0}

    def command(self, *arguments: str) -> str:
        """A command of the product."""
        self.did.append(" ".join(arguments))
        if self.refused and arguments[0] == self.refused:
            raise Invalid(Reason.BAD_REQUEST, "The deployer says no.")
        return ""

    @contextmanager
    def key(self, *_: object) -> Iterator[str]:
        """A key for the time of the run."""
        try:
            yield "se_key"
        finally:
            self.did.append("key revoked")

    @contextmanager
    def beside(self, _: object) -> Iterator[str]:
        """A candidate for the time of the run."""
        try:
            yield COPY
        finally:
            self.did.append("taken back")

    async def run(self, seconds: float, rate: float, until: asyncio.Event | None = None) -> list[Sent]:
        """A stretch of load: a good clip, a failed one; while a change goes on, until it has."""
        if until is not None:
            await until.wait()
        self.did.append("settling" if seconds == bench_loop.SETTLE_S else "during" if until else "stretch")
        self.sent += 1
        return [Sent(f"clip-{self.sent}", float(next(self.ms)), None), Sent(None, 9.0, "503 backlog")]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Bench:
    one = Bench()
    monkeypatch.setattr(bench_loop, "soundscape", one.command)
    monkeypatch.setattr(bench_loop, "prepared", one.key)
    monkeypatch.setattr(bench_loop, "audited", lambda: one.counted)
    monkeypatch.setattr(bench_loop, "_load", lambda *_: one)
    monkeypatch.setattr(monitoring.beside, "beside", one.beside)
    return one


def said(*arguments: str) -> dict[str, Any]:
    """What a benchmark ends with."""
    done = CliRunner().invoke(bench, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_change_goes_all_the_way_and_back_under_load(world: Bench) -> None:
    world.counted |= {"lost": 2, "twice": 3}
    assert said("change", "--users", "2", "--rate", "1", "--hold", "0") == {
        "users": 2, "rate": 1.0, "before_p95_ms": 2.0, "during_p95_ms": 3.0, "ratio": 1.5, "errors": 2, "lost": 2, "twice": 3,
    }  # fmt: skip
    assert world.did == [
        "settling", "stretch",
        f"candidate {COPY} --site bench --force", "canary 0.5 --site bench --force", "promote --site bench --force",
        "rollback --site bench", "during", "taken back", "key revoked",
    ]  # fmt: skip


@pytest.mark.parametrize("step", ["candidate", "canary", "promote", "rollback"])
def test_a_change_that_is_refused_is_said_and_taken_back(world: Bench, step: str) -> None:
    world.refused = step
    with pytest.raises(Invalid, match="The deployer says no"):
        said("change", "--hold", "0")
    assert world.did[-2:] == ["taken back", "key revoked"]


class Shadow:
    """The shadow's answers: of the first stretch late, of the second in time."""

    def __init__(self, *_: object) -> None:
        self.found: dict[str, tuple[Any, float]] = {}
        self.closed = False

    def wait(self, wanted: set[str], limit_s: float) -> None:
        """One clip comes long after the load has ended, all others long before."""
        self.found |= {clip: (None, 2e10 if clip == "clip-4" else 1.0) for clip in wanted}

    def close(self) -> None:
        """Nothing to close."""


def test_the_shadow_is_measured_in_turns_and_its_larger_lag_said(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring.answers, "Answers", Shadow)
    assert said("shadow", "--users", "2") == {
        "users": 2, "rate": 1.0, "without_p95_ms": 6.0, "with_p95_ms": 8.0, "ratio": 1.33, "shadow_lag": 1, "errors": 4,
    }  # fmt: skip
    one = ["settling", "stretch"]
    other = [f"candidate {COPY} --site bench --force", "settling", "stretch", "rollback --site bench"]
    assert world.did == [*one, *other, *one, *other, "taken back", "key revoked"]


def test_the_lag_is_counted_by_the_times_of_the_shadows_records(capsys: pytest.CaptureFixture[str]) -> None:
    sent = [Sent("a", 1.0, None), Sent("b", 1.0, None), Sent("c", 1.0, "timeout"), Sent(None, 1.0, "ClientError")]
    answers: Any = SimpleNamespace(found={"a": (None, 90.0), "b": (None, 104.0), "c": (None, 101.0)}, wait=lambda *_: None)
    assert bench_loop.caught_up(answers, sent, 100.0) == (2, 4.0)

    def never(*_: object) -> None:
        raise Unavailable("1 of 3 clips were not answered within 300 s.")

    late: Any = SimpleNamespace(found={"a": (None, 90.0), "c": (None, 101.0)}, wait=never)
    assert bench_loop.caught_up(late, sent, 100.0) == (2, None)
    assert "not caught up" in capsys.readouterr().err


def test_what_was_judged_is_summed_up(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def judging(url: str, key: str, sounds: list[bytes], *how: Any) -> list[Judged]:
        asked.extend((key, *how))
        return [Judged(float(n), None) for n in range(1, 40)] + [Judged(0.0, "no summary that counts it within 20 s")]

    monkeypatch.setattr(monitoring.judging, "judging", judging)
    assert said("feedback", "--users", "8", "--flags", "40", "--pause", "1") == {
        "users": 8, "flags": 40, "errors": 1, "median_ms": 20.0, "p95_ms": 38.0,
    }  # fmt: skip
    assert asked == ["se_key", 8, 40, 1.0]
    assert world.did == ["key revoked"]


@pytest.mark.parametrize(("error", "kind"), [(ValueError("POST /v1/tours answered 401"), Invalid), (TimeoutError(), Unavailable)])
def test_a_gateway_that_refuses_or_is_away_is_an_error_of_ours(
    world: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    async def judging(*_: Any) -> list[Judged]:
        raise error

    monkeypatch.setattr(monitoring.judging, "judging", judging)
    with pytest.raises(kind):
        said("feedback")
    assert world.did == ["key revoked"]


def test_nothing_measured_is_no_number() -> None:
    assert (bench_loop.p95([]), bench_loop.ratio([], [1.0]), bench_loop.ratio([1.0], [])) == (None, None, None)
