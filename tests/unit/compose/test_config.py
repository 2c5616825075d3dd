"""The generated settings of supervisor, Prometheus, Kafka and Triton."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from configparser import RawConfigParser
from pathlib import Path

import pytest

from compose.local import config, kafka, processes, prometheus, triton
from soundscape.errors import Invalid
from soundscape.settings import Port, Settings
from soundscape.topics import MAX_MESSAGE_BYTES


def settings(tmp_path: Path, **values: object) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path / "da ta", "port_base": 30100, **values})


def parsed(text: str) -> RawConfigParser:
    parser = RawConfigParser()
    parser.read_string(text)
    return parser


def test_every_process_is_started_again_for_as_long_as_it_takes(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    everything = processes.processes(mine)
    conf = parsed(config.supervisord_conf(mine, everything))
    for one in everything:
        section = conf[f"program:{one.name}"]
        assert (section["autorestart"], section["startsecs"]) == ("true", "0"), "an exit that counts as a failed start ends FATAL"
        assert int(section["startretries"]) > 10**9
        assert section["killasgroup"] == "true"


def test_commands_and_environment_survive_the_way_through_the_file(tmp_path: Path) -> None:
    mine = settings(tmp_path / "100% forest")
    one = processes.Process("x", ("/bin/sh", "-c", "echo 'a b' %d"), (1,), processes.Probe.HEALTHZ, environment={"A": 'q"%'})
    section = parsed(config.supervisord_conf(mine, [one]))["program:x"]
    assert shlex.split(section["command"].replace("%%", "%")) == list(one.command)
    assert f'{processes.MARK}="{mine.root}"'.replace("%", "%%") in section["environment"]


def test_supervisor_reads_what_is_generated(tmp_path: Path) -> None:
    from supervisor.options import ServerOptions

    mine = settings(tmp_path)
    mine.logs.mkdir(parents=True)
    mine.state.mkdir()
    file = mine.state / "supervisord.conf"
    file.write_text(config.supervisord_conf(mine, processes.processes(mine)))
    options = ServerOptions()
    options.realize(["-c", str(file)])
    configs = {one.name: one.process_configs[0] for one in options.process_group_configs}
    assert configs["gateway"].environment["SOUNDSCAPE_DATA_DIR"] == str(mine.root)
    assert configs["gateway"].environment["OMP_NUM_THREADS"] == "1"


def test_ports_move_with_the_base_and_never_collide(tmp_path: Path) -> None:
    first = processes.processes(settings(tmp_path, live_workers=10, bulk_workers=10))
    second = processes.processes(settings(tmp_path, live_workers=10, bulk_workers=10, port_base=40100))
    ports = [port for one in first for port in one.ports]
    assert len(set(ports)) == len(ports)
    assert [port + 10000 for port in ports] == [port for one in second for port in one.ports]


def test_the_bulk_lane_gives_way(tmp_path: Path) -> None:
    commands = {one.name: one.command for one in processes.processes(settings(tmp_path))}
    assert commands["analyse-bulk-0"][:3] == ("nice", "-n", "10")
    assert "nice" not in commands["analyse-live-0"]


def test_prometheus_scrapes_every_process_of_ours(tmp_path: Path) -> None:
    everything = processes.processes(settings(tmp_path, bulk_workers=2))
    scraped = json.loads(prometheus.prometheus_yml(everything))["scrape_configs"]
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    ours = {one.name for one in everything if one.probe is processes.Probe.HEALTHZ}
    assert ours | {"triton", "prometheus"} == set(jobs)
    assert jobs["triton"] == ["127.0.0.1:30106"]


def test_the_architecture_names_what_prometheus_does_not_scrape(tmp_path: Path) -> None:
    """Nobody shall look for metrics that are not there."""
    unread = {one.name for one in processes.processes(settings(tmp_path)) if one.metrics_port is None}
    text = (Path(__file__).parents[3] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    said = text.partition("\n## Metrics\n")[2].partition("<!-- table")[0].partition("the servers")[2].partition("have none")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", said)) == unread



def test_kafka_listens_on_loopback_and_takes_the_longest_message(tmp_path: Path) -> None:
    lines = dict(line.split("=", 1) for line in kafka.server_properties(settings(tmp_path)).splitlines())
    assert set(lines["listeners"].split(",")) == {"PLAINTEXT://127.0.0.1:30101", "CONTROLLER://127.0.0.1:30102"}
    assert int(lines["message.max.bytes"]) >= MAX_MESSAGE_BYTES
    assert lines["auto.create.topics.enable"] == "false"


def test_two_stacks_share_no_memory(tmp_path: Path) -> None:
    one, other = settings(tmp_path / "1"), settings(tmp_path / "2")
    assert processes.memory_prefix(one.root) != processes.memory_prefix(other.root)
    assert f"--backend-config=python,shm-region-prefix-name={processes.memory_prefix(one.root)}" in triton.command(one)


def test_only_its_own_regions_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "SHARED_MEMORY", tmp_path)
    mine = tmp_path / f"{processes.memory_prefix(tmp_path)}abc"
    strange = tmp_path / "soundscape_other_abc"
    mine.touch()
    strange.touch()
    assert triton.clear_shared_memory(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [strange]


def test_a_long_data_folder_still_gets_a_socket(tmp_path: Path) -> None:
    deep = settings(tmp_path / ("x" * 120))
    assert len(str(config.socket_path(deep))) < config.SOCKET_LIMIT
    assert config.socket_path(deep) != config.socket_path(settings(tmp_path / ("y" * 120)))
    near = Settings.model_validate({"data_dir": "/srv/var", "port_base": 30100})
    assert config.socket_path(near) == near.state / "supervisor.sock"


def test_a_strangers_folder_is_no_place_for_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = settings(tmp_path / ("x" * 120))
    folder = config.socket_path(deep).parent
    folder.mkdir(mode=0o700)
    assert config.socket_path(deep).parent == folder
    folder.chmod(0o755)
    with pytest.raises(Invalid, match="mode 0700"):
        config.socket_path(deep)
    folder.chmod(0o700)
    with monkeypatch.context() as other, pytest.raises(Invalid, match="mode 0700"):
        other.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
        config.socket_path(deep)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="mode 0700"):
        config.socket_path(deep)


def test_what_a_process_needs_starts_before_it(tmp_path: Path) -> None:
    everything = processes.processes(settings(tmp_path))
    gateway = [one for one in everything if one.name == "gateway"]
    assert [one.name for one in processes.with_needs(gateway, everything)] == ["kafka", "redis", "gateway"]
    assert settings(tmp_path).port(Port.GATEWAY) == gateway[0].ports[0]
