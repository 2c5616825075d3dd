"""Dates of recordings, asked of a server that answers as Xeno-canto's and iNaturalist's do."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from soundscape.errors import Invalid, Unavailable
from soundscape.settings import Settings
from trainer.data.catalog import read_catalog
from trainer.data.date_sources import TOGETHER, Asker, inaturalist
from trainer.data.fetch_dates import Fetched, fetch_dates

KEY = "a-secret-key"
DAYS = {"1": "2012-05-06", "2": "2013-00-00", "4": "2019-01-02"}
"""What Xeno-canto knows; 3 it does not."""


class Api:
    """Both APIs in their documented shapes; `broken` answers come before the right ones."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.broken: list[int] = []
        self.observations: list[dict[str, Any]] = []

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append(query)
        if self.broken:
            return self.broken.pop(0), {"error": "server_error", "message": "later"}
        if path == "/xc":
            if query.get("key") != KEY:
                return 401, {"error": "client_error", "message": f"The key {query.get('key')} does not exist"}
            number = query["query"].removeprefix("nr:")
            rows = [{"id": number, "gen": "Vox", "sp": "prima", "date": DAYS[number], "time": "06:00"}] if number in DAYS else []
            return 200, {"numRecordings": str(len(rows)), "numSpecies": str(len(rows)), "page": 1, "numPages": 1, "recordings": rows}
        if "id" in query:
            rows = [one for one in self.observations if str(one["id"]) in query["id"].split(",")]
        else:
            own = [one for one in self.observations if one["taxon"]["id"] == int(query["taxon_id"])]
            rows = [one for one in own if one["id"] > int(query["id_above"])][: int(query["per_page"])]
        return 200, {"total_results": len(rows), "page": 1, "per_page": int(query["per_page"]), "results": rows}


@pytest.fixture
def api() -> Iterator[tuple[Api, str]]:
    """The server and its address."""
    made = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body = made.answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def folder_of(home: Path, names: dict[str, str]) -> Path:
    """A data folder of clips by file name, each with its `url`; nothing is heard."""
    home.mkdir()
    with (home / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["primary_label", "filename", "url"])
        table.writerows([name.split("/")[0], name, url] for name, url in names.items())
    (home / "taxonomy.csv").write_text(
        "primary_label,inat_taxon_id,scientific_name,common_name,class_name\na,10,Vox a,A,Aves\nb,20,Vox b,B,Insecta\n", encoding="utf-8"
    )
    (home / "train_audio").mkdir()
    return home


@pytest.fixture
def where(api: tuple[Api, str], settings: Settings) -> Settings:
    """Settings that lead to the server."""
    return settings.model_copy(
        update={"xeno_canto_url": f"{api[1]}/xc", "inaturalist_url": f"{api[1]}/inat", "xeno_canto_key": SecretStr(KEY)}
    )


def asked_for(settings: Settings, folder: Path) -> Fetched:
    return fetch_dates(settings, folder, lambda *_: None, pause=0.0)


def test_dates_come_into_the_table_and_every_failure_is_counted(api: tuple[Api, str], where: Settings, tmp_path: Path) -> None:
    names = ["a/XC1.ogg", "b/XC1.ogg", "a/XC2.ogg", "a/XC3.ogg", "a/CSA5.ogg", "a/Take 20200101.ogg", "a/TAKE_20200101.ogg"]
    folder = folder_of(tmp_path / "data", dict.fromkeys(names, ""))
    (folder / "dates.csv").write_text("filename,date\na/Take 20200101.ogg,2020-01-01\n", encoding="utf-8")
    found = asked_for(where, folder)
    assert found.counts == {
        ("xeno-canto", "dated"): 1, ("xeno-canto", "no date"): 1, ("xeno-canto", "not found"): 1, ("others", "no source"): 1,
    }  # fmt: skip
    assert (found.recordings, found.dated, found.added, found.stopped) == (6, 3, 1, None)
    days = {clip.filename: clip.date for clip in read_catalog(folder).clips}
    assert days["a/XC1.ogg"] == days["b/XC1.ogg"] == date(2012, 5, 6) and days["a/XC2.ogg"] is None
    assert days["a/Take 20200101.ogg"] == date(2020, 1, 1), "what stood there stays"


def test_what_was_answered_is_not_asked_again_by_any_folder(api: tuple[Api, str], where: Settings, tmp_path: Path) -> None:
    asked_for(where, folder_of(tmp_path / "data", {"a/XC1.ogg": "", "a/XC3.ogg": ""}))
    before = len(api[0].asked)
    other = folder_of(tmp_path / "other", {"b/XC1.ogg": "", "b/XC3.ogg": "", "b/XC4.ogg": ""})
    found = asked_for(where, other)
    assert [one["query"] for one in api[0].asked[before:]] == ["nr:4"]
    assert found.counts == {("xeno-canto", "dated"): 2, ("xeno-canto", "not found"): 1}


def test_a_busy_server_is_asked_again_and_one_that_stays_so_ends_it_with_what_was_had_kept(
    api: tuple[Api, str], where: Settings, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "data", {f"a/XC{n}.ogg": "" for n in (1, 2, 4)})
    api[0].broken = [503]
    known = asked_for(where, folder_of(tmp_path / "first", {"a/XC1.ogg": ""}))
    assert known.stopped is None and len(api[0].asked) == 2
    api[0].broken = [503, 429, 500]
    found = asked_for(where, folder)
    assert isinstance(found.stopped, Unavailable) and "again" in str(found.stopped)
    assert found.counts == {("xeno-canto", "dated"): 1, ("xeno-canto", "not asked: network"): 2}
    assert found.added == 1 and "XC1" in found.table.read_text(encoding="utf-8")
    assert asked_for(where, folder).counts == {("xeno-canto", "dated"): 1, ("xeno-canto", "no date"): 1}, "XC1 has its date by now"


def test_no_network_ends_it_politely(where: Settings, tmp_path: Path) -> None:
    nowhere = where.model_copy(update={"xeno_canto_url": "http://127.0.0.1:9/xc"})  # the port of `discard`: nobody listens
    found = asked_for(nowhere, folder_of(tmp_path / "data", {"a/XC1.ogg": "", "a/CSA1.ogg": ""}))
    assert isinstance(found.stopped, Unavailable)
    assert found.counts == {("xeno-canto", "not asked: network"): 1, ("others", "no source"): 1}
    assert not found.table.exists()


def test_a_refused_key_and_a_missing_one_are_said_and_the_key_is_not(
    api: tuple[Api, str], where: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = folder_of(tmp_path / "data", {"a/XC1.ogg": "", "a/XC2.ogg": ""})
    wrong = where.model_copy(update={"xeno_canto_key": SecretStr("a-wrong-key")})
    found = asked_for(wrong, folder)
    assert isinstance(found.stopped, Invalid) and "refuses the key" in str(found.stopped)
    assert found.counts == {("xeno-canto", "not asked: key refused"): 2} and len(api[0].asked) == 1
    assert "a-wrong-key" not in f"{found.stopped} {wrong} {caplog.text}" and "wrong" not in (where.root / "dates").joinpath(
        "xeno-canto.jsonl"
    ).read_text(encoding="utf-8")
    without = asked_for(where.model_copy(update={"xeno_canto_key": None}), folder)
    assert without.counts == {("xeno-canto", "no key"): 2} and "SOUNDSCAPE_XENO_CANTO_KEY" in str(without.stopped)


def test_inaturalists_number_is_the_sounds_and_not_the_observations(api: tuple[Api, str], where: Settings, tmp_path: Path) -> None:
    api[0].observations = [
        {"id": 77, "observed_on": "2001-01-01", "taxon": {"id": 99}, "sounds": [{"id": 5}]},  # another species' sound is not looked at
        *({"id": 1000 + n, "observed_on": None, "taxon": {"id": 10}, "sounds": []} for n in range(TOGETHER)),
        {"id": 5000, "observed_on": "2021-03-04", "taxon": {"id": 10}, "sounds": [{"id": 76}, {"id": 77}]},
        {"id": 6000, "observed_on": "2022-02-02", "taxon": {"id": 20}, "sounds": [{"id": 9}]},
    ]
    names = {"a/iNat77.ogg": "https://static.example.org/sounds/77.mp3", "a/iNat5.ogg": "", "b/iNat8.ogg": "https://x.org/observations/6000"}
    found = asked_for(where, folder_of(tmp_path / "data", names))
    assert found.counts == {("iNaturalist", "dated"): 2, ("iNaturalist", "not found"): 1}
    days = {clip.filename: clip.date for clip in read_catalog(tmp_path / "data").clips}
    assert days == {"a/iNat77.ogg": date(2021, 3, 4), "a/iNat5.ogg": None, "b/iNat8.ogg": date(2022, 2, 2)}
    assert not any("key" in one for one in api[0].asked)


def test_observations_are_asked_for_together(api: tuple[Api, str]) -> None:
    api[0].observations = [{"id": n, "observed_on": f"2020-01-{n % 28 + 1:02d}", "sounds": []} for n in range(1, 251)]
    with Asker("iNaturalist", f"{api[1]}/inat", pause=0.0) as asker:
        found = list(inaturalist(asker, {f"iNat{n}": (f"https://x.org/observations/{n}", "10") for n in range(1, 251)}))
    assert len(found) == 250 and all(one.day for one in found) and len(api[0].asked) == 2


def test_the_pace_is_kept(api: tuple[Api, str], monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], list[float]()
    monkeypatch.setattr("trainer.data.date_sources.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("trainer.data.date_sources.sleep", sleep)
    with Asker("Xeno-canto", f"{api[1]}/xc", {"key": KEY}) as asker:
        for _ in range(3):
            asker.ask(query="nr:1")
    assert slept == [0.0, 1.0, 1.0]


def test_the_command_tells_the_counts_and_ends_with_one_sentence(
    api: tuple[Api, str], where: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.data.fetch import fetch

    monkeypatch.setattr("trainer.data.fetch.get_settings", lambda: where.model_copy(update={"xeno_canto_key": None}))
    folder = folder_of(tmp_path / "data", {"a/XC1.ogg": "", "a/CSA1.ogg": ""})
    result = CliRunner().invoke(fetch, ["dates", "--data", str(folder)])
    assert isinstance(result.exception, Invalid)
    assert "no key" in result.output and "0 of 2 recordings have a date" in result.output
