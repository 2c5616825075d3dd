"""Rules for all tests: what a marker leaves out is said aloud with the cure, and nothing skips."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator, Sequence

import pytest
from hypothesis import settings as hypothesis_settings

from soundscape.testing import Stack, running_stack
from soundscape.testing_log import Log

CURES = {
    "recordings": "SOUNDSCAPE_RECORDINGS=FOLDER SOUNDSCAPE_RECORDINGS_TAGGER=FILE .venv/bin/python -m pytest -m recordings",
    "network": ".venv/bin/python -m pytest -m network",
    "gpu": ".venv/bin/python -m pytest -m gpu",
    "browser": "apt-get install chromium chromium-driver; .venv/bin/python -m pytest -m browser",
    "slow": "make test-all",
}
"""How to run the tests of a marker."""
LEFT_OUT = pytest.StashKey[Counter[str]]()


hypothesis_settings.register_profile("untimed", deadline=None)
"""No test asserts a time: not that of an example on a busy machine either."""
hypothesis_settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the caller's settings, so that every machine runs the same tests; begin to count."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts into the background with interrupts ignored
    for name in [name for name in os.environ if name.startswith("SOUNDSCAPE_") and not name.startswith("SOUNDSCAPE_RECORDINGS")]:
        del os.environ[name]
    config.stash[LEFT_OUT] = Counter()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what is left out, by marker."""
    for item in items:
        item.config.stash[LEFT_OUT].update(marker for marker in CURES if item.get_closest_marker(marker))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out and how to run them."""
    for marker, count in config.stash[LEFT_OUT].items():
        terminalreporter.write_line(f"{count} tests marked {marker} were left out; run them with: {CURES[marker]}", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself fails; one that is expected to fail may, with a reason."""
    report = yield
    if report.skipped and not getattr(report, "wasxfail", None):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself; a marker leaves a test out, with its count and the cure (tests/conftest.py)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself fails as well."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself; mark its tests instead (tests/conftest.py)"
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole stack, once for all tests that ask for it; site `test` answers by the release `tones`, and the watcher serves it."""
    with running_stack(tmp_path_factory.mktemp("stack"), site="test") as running:
        yield running


@pytest.fixture
def log(stack: Stack) -> Iterator[Log]:
    """The log of that stack, read from here on."""
    with Log(stack.settings) as open_log:
        yield open_log
