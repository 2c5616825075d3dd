"""The forms of a network: each answers as PyTorch, one that does not is struck out, and the rule's choice becomes a release of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from consumers.model_server import SOURCES
from soundscape.errors import Invalid
from soundscape.release import LoadedRelease, load_release
from soundscape.settings import Settings
from soundscape.testing import tone_release
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.evaluation.hear import Ears
from trainer.members.models import Small, build
from trainer.releases import optimize as command
from trainer.releases import package as packaging
from trainer.releases import variant_choice, variant_measures
from trainer.releases.optimize import Optimized, judged_by, measure_all
from trainer.releases.optimized_release import write_optimized
from trainer.releases.package import WEIGHTS, Origin, package
from trainer.releases.runtimes import open_model
from trainer.releases.variant_choice import EXAMPLE, choose, costs, read_prices, refused
from trainer.releases.variant_measures import Latency, Measured, Speed
from trainer.releases.variants import PYTORCH, VARIANTS, Variant, network_of, weights_of
from trainer.testing import write_folder

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporters of torch deprecate parts of themselves; those warnings are not ours."""
PRICES = read_prices(EXAMPLE)
BY_NAME = {one.name: one for one in VARIANTS}


class Home(NamedTuple):
    """A stack's folder with one release of a small network, and the data that it was made with."""

    settings: Settings
    loaded: LoadedRelease
    prepared: store.Prepared

    def measured(self, scratch: Path, *names: str) -> Optimized:
        """These forms, measured for a moment."""
        one = measure_all(
            self.loaded, self.prepared, self.settings.root / "datasets", scratch, PRICES, None, lambda _: None, lambda *_: None
        )
        return next(each for each in one if set(names) <= {found.variant.name for found in each.found})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The network is not trained: what is asked is whether its forms agree."""
    folder = tmp_path_factory.mktemp("optimize")
    settings = Settings(data_dir=folder, port_base=64000)
    prepared = prepare(write_folder(folder / "data", clips=4, seconds=4.0, minutes=0), folder / "datasets", lambda _: None, children=0)[0]
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packaging, "MIXTURES", 12)
        patch.setattr(variant_measures, "ROUNDS", 1)
        patch.setattr(variant_measures, "SLICE_S", 0.0)
        patch.setattr(variant_measures, "measure", partial(variant_measures.measure, seconds=0.0))
        patch.setattr(variant_measures, "CALLS", 1)
        patch.setattr(variant_measures, "WARM", 0)
        patch.setattr(variant_measures, "cores", lambda: 1)
        net = Small(len(prepared.labels))
        loaded = package(prepared, net, "small", settings.releases / "own", Origin("own", None, None, {}), "CC0", lambda _: None)
        yield Home(settings, loaded, prepared)


@pytest.fixture(scope="module")
def done(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Optimized:
    """All forms that can be had here."""
    return home.measured(tmp_path_factory.mktemp("forms"), "pytorch")


def test_every_form_that_is_here_answers_as_pytorch_and_the_others_are_named(done: Optimized) -> None:
    found = {one.variant.name: one for one in done.found}
    exact = {"pytorch", "torchscript", *(name for name in BY_NAME if name.startswith("onnx-") and BY_NAME[name].precision == "fp32")}
    assert found.keys() | done.left_out.keys() == BY_NAME.keys() and not found.keys() & done.left_out.keys()
    for name in exact - done.left_out.keys():
        assert found[name].largest <= 1e-3 and not found[name].struck_out, name
    assert all(one.latencies[0].samples and one.served().threads == 1 for one in done.found)
    assert set(done.left_out) <= {"openvino", "openvino-int8-static", "onnx-cuda", "onnx-tensorrt"} and all(done.left_out.values())


def made_up(variant: Variant, speed: float, mean_ap: float = 0.8, largest: float = 0.0, size: int = 1000) -> Measured:
    """What a form would be worth."""
    speeds = [Speed(2, 1, 4, [speed]), Speed(1, 2, 12, [speed * 9])]
    return Measured(variant, Path("none"), size, 0.9, mean_ap, None, largest, [Latency(1, [2.0, 2.0])], speeds)


def test_the_cheapest_that_holds_is_chosen_and_the_others_say_why_not() -> None:
    """Struck out by its scores, too inaccurate, too large, on a GPU: each is faster and passed over."""
    found = [
        made_up(PYTORCH, 100.0),
        made_up(BY_NAME["torchscript"], 200.0),
        made_up(BY_NAME["onnx-int8-dynamic"], 900.0, largest=0.2),
        made_up(BY_NAME["onnx-int8-static"], 900.0, mean_ap=0.78),
        made_up(BY_NAME["onnx-all"], 900.0, size=26_000_000),
        made_up(BY_NAME["onnx-basic"], 900.0, largest=float("nan")),
        made_up(BY_NAME["onnx-cuda"], 900.0),
    ]
    assert choose(found, PRICES).name == "torchscript"
    assert [one.struck_out for one in found] == [False, False, True, False, False, True, False]
    said = {one.variant.name: refused(one, found[0]) for one in found}
    assert "struck out" in said["onnx-int8-dynamic"] and "mAP" in said["onnx-int8-static"] and "MB" in said["onnx-all"]
    assert "GPU" in said["onnx-cuda"] and not said["torchscript"]
    asked = choose(found, PRICES, "onnx-int8-dynamic")
    assert asked.name is None and "struck out" in asked.reason, "asked for by name it is no truer"


def test_of_prices_that_are_the_same_the_smallest_file_is_taken() -> None:
    found = [made_up(PYTORCH, 100.0), made_up(BY_NAME["onnx-all"], 104.0, size=900), made_up(BY_NAME["onnx-basic"], 103.0, size=800)]
    assert choose(found, PRICES).name == "onnx-basic"
    assert choose([*found, made_up(BY_NAME["torchscript"], 120.0, size=2000)], PRICES).name == "torchscript"


def test_what_a_million_clips_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variant_choice, "cores", lambda: 2)
    cpu, gpu, phone = costs(made_up(PYTORCH, 100.0), PRICES)
    assert cpu == pytest.approx(1e6 / 100 / 3600 * 2 * PRICES.server_cpu.per_core_hour) and gpu is None
    energy = 1e6 * 0.002 * PRICES.phone.times_as_long * PRICES.phone.watts / 3.6e6
    assert phone == pytest.approx(energy * PRICES.phone.per_kwh)
    assert costs(made_up(PYTORCH, 100.0, size=5_000_000), PRICES).phone is None, "no phone is asked to carry that"
    on_gpu = costs(made_up(BY_NAME["onnx-cuda"], 100.0), PRICES)
    assert on_gpu.gpu == pytest.approx(1e6 / 100 / 3600 * PRICES.gpu.per_hour) and on_gpu.server_cpu is on_gpu.phone is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.toml", "as_of = 1", "as_of"),
        ("p.toml", "not toml", "no prices"),
        ("p.json", "[1", "no prices"),
        ("p.toml", EXAMPLE.read_text().replace("per_hour = 0.60", "per_hour = -1"), r"gpu\.per_hour"),
        ("p.toml", EXAMPLE.read_text().replace("watts", "volts"), "phone"),
    ],
)
def test_prices_that_do_not_hold_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=says):
        read_prices(tmp_path / name)


def test_prices_may_be_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(PRICES.model_dump_json())
    assert read_prices(tmp_path / "p.json") == PRICES


@pytest.mark.parametrize("name", ["torchscript", "onnx-basic"])
def test_a_form_becomes_a_release_that_answers_the_same(home: Home, done: Optimized, name: str) -> None:
    """The release that it was made of is as it was, and the second time nothing is made."""
    one = done._replace(choice=choose(done.found, PRICES, name))
    said: list[str] = []
    made = write_optimized(home.settings.releases, home.loaded, home.prepared, [one], said.append)
    (member,) = made.release.members
    assert made.release.name == f"own-{name}" and (member.runtime, member.graph_level) == (BY_NAME[name].runtime, BY_NAME[name].graph_level)
    assert load_release(home.loaded.folder, home.loaded.digest).release == home.loaded.release
    record = made.release.metrics["optimized"]
    assert record["from"] == "own" and record["members"]["small"]["reason"] == one.choice.reason
    judged = judged_by(home.loaded, member, home.prepared, home.settings.root, lambda _: None)
    answers = Ears(made).members({member.feature_fingerprint: judged.windows})["small"]
    with torch.inference_mode():
        net = network_of(member, made.folder / WEIGHTS)
        wanted = torch.sigmoid(net(torch.from_numpy(judged.windows))).numpy()
    np.testing.assert_allclose(answers, wanted, atol=1e-5)
    assert write_optimized(home.settings.releases, home.loaded, home.prepared, [one], said.append).digest == made.digest
    assert "was made of this release before" in said[-1]


def test_what_is_served_already_needs_no_other_release(home: Home, done: Optimized) -> None:
    served = "onnx-int8-static" if home.loaded.release.members[0].precision == "int8" else "onnx-all"
    one = done._replace(choice=variant_choice.Choice(served, "so it is"))
    assert write_optimized(home.settings.releases, home.loaded, home.prepared, [one], lambda _: None) is home.loaded


def test_weights_of_another_network_or_none_are_refused(home: Home, tmp_path: Path) -> None:
    member = home.loaded.release.members[0]
    assert weights_of(home.loaded, member) == home.loaded.folder / WEIGHTS
    torch.save({"net": build("efficientnet_b0", 3).state_dict(), "labels": list(member.labels)}, tmp_path / "other.pt")
    torch.save({"net": Small(3).state_dict(), "labels": list(reversed(member.labels))}, tmp_path / "order.pt")
    (tmp_path / "cut.pt").write_bytes((home.loaded.folder / WEIGHTS).read_bytes()[:1000])
    for name, says in (("other.pt", "another network"), ("order.pt", "other labels"), ("cut.pt", "does not hold")):
        with pytest.raises(Invalid, match=says):
            network_of(member, tmp_path / name)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model server's runner, without the model server."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    spec = importlib.util.spec_from_file_location("runner", SOURCES / "runner" / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["pytorch", "torchscript", "onnx-all", "onnx-disabled"])
def test_the_runner_serves_what_was_measured(runner: Any, home: Home, done: Optimized, name: str) -> None:
    one = next(each for each in done.found if each.variant.name == name)
    windows = home.prepared.windows(home.prepared.items[0])
    windows.flags.writeable = False  # as the model server gives them
    served = runner.RUNTIMES[one.variant.runtime](str(one.path), 1, one.variant.graph_level)(windows)
    np.testing.assert_array_equal(served, open_model(one.path, one.variant.runtime, 1, one.variant.graph_level)(windows))


def test_the_runner_borrows_last(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own numpy stays in front of the product's."""
    monkeypatch.setattr(sys, "path", ["/own"])
    monkeypatch.setenv("MODEL_SERVER_BORROWS", "/lent")
    runner.borrow()
    runner.borrow()
    assert sys.path == ["/own", "/lent"]


def test_the_command_prints_one_object_and_strikes_out_in_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "get_settings", lambda: home.settings)
    monkeypatch.setattr(command, "_track", lambda *_: None)
    monkeypatch.setattr("trainer.releases.variants.BOUNDS", {"fp32": 1e-3, "int8": 0.0})
    ran = CliRunner().invoke(command.optimize, ["own", "--variant", "onnx-int8-static", "--json"], catch_exceptions=False)
    said = json.loads(ran.stdout)["members"]["small"]
    assert [one["variant"] for one in said["variants"]] == ["pytorch", "onnx-int8-static"]
    assert said["variants"][1]["struck_out"] and said["chosen"] is None and "struck out" in said["reason"]
    shown = CliRunner().invoke(command.optimize, ["own", "--variant", "onnx-int8-static"], catch_exceptions=False)
    assert "struck out" in shown.stdout


def test_what_cannot_be_optimized_is_refused_in_a_sentence(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "get_settings", lambda: home.settings)
    tone_release(home.settings.releases / "tones", "tones")
    for arguments, says in ((["tones"], "No member of tones"), (["own", "--variant", "onnx"], "no form onnx"), (["gone"], "no release at")):
        ran = CliRunner().invoke(command.optimize, arguments)
        assert isinstance(ran.exception, Invalid) and says in ran.exception.detail
