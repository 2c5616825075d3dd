"""EfficientNet-B0 from ImageNet's weights: each in its place, adapters alone trained, and an ordinary network in the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from torch import nn

from soundscape.errors import Invalid
from soundscape.features import LOG_MEL
from soundscape.settings import get_settings
from trainer import commands
from trainer.data import store
from trainer.members.adapt import FULL, FULL_RATE, LORA, SCRATCH, begun, merged
from trainer.members.models import EfficientNetB0, build
from trainer.releases import quantize
from trainer.training.learn import Learner, save_weights
from trainer.training.plan import RATES, Plan, chosen_plan
from trainer.training.step import Step

NAME = "efficientnet_b0"
WINDOW, TRUTH, WEIGHT = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(1)), torch.eye(4)[:, :3], torch.ones(4, 3)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it, of random weights."""
    from torchvision.models import efficientnet_b0

    torch.manual_seed(7)
    net = efficientnet_b0()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
    path = tmp_path_factory.mktemp("imagenet") / "efficientnet_b0.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small steps wait for each other's threads where the machine has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def imagenet(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SOUNDSCAPE_IMAGENET", str(published))
    get_settings.cache_clear()
    yield published
    get_settings.cache_clear()


def _kept(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def _taken(net: nn.Module, steps: int) -> Step:
    step = Step(net, Plan(NAME, 1.0, batch=4, half="off"))
    step.net.train()
    for _ in range(steps):
        step.take(WINDOW, TRUTH, WEIGHT, 0.01)
    return step


def test_every_published_weight_is_in_its_place_but_the_last_layer_and_the_stem_hears_the_sum(imagenet: Path) -> None:
    published = torch.load(imagenet, weights_only=True)
    torch.manual_seed(0)
    fresh = build(NAME, 3)
    last = _kept(fresh)["net.classifier.1.weight"]
    net = begun(fresh, FULL)
    for name, value in net.state_dict().items():
        theirs = published[name.removeprefix("net.")]
        if name == "net.features.0.0.weight":
            grey = torch.rand(2, 1, 32, 32)
            picture = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), theirs, stride=2, padding=1)
            torch.testing.assert_close(nn.functional.conv2d(grey, value, stride=2, padding=1), picture)
        elif name.startswith("net.classifier"):
            assert value.shape[0] == 3
        else:
            assert torch.equal(value, theirs), name
    assert torch.equal(net.state_dict()["net.classifier.1.weight"], last), "new, as from scratch"
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_adapters_and_the_last_layer_alone_are_trained(imagenet: Path) -> None:
    torch.manual_seed(0)
    net = begun(build(NAME, 3), LORA)
    trained = {name: one for name, one in net.named_parameters() if one.requires_grad}
    adapters = {name for name in trained if "lora_" in name}
    assert {name.split("modules_to_save")[0] for name in trained.keys() - adapters} == {"base_model.model.net.classifier."}
    before = _kept(net)
    step = _taken(net, 3)
    moved = {name for name, value in step.net.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert moved - statistics == set(trained), "all that are trained, and nothing else but what the batch norms have seen"
    assert statistics <= moved
    assert len(step.optimizer.state_dict()["param_groups"][0]["params"]) == len(trained)


def test_each_adapter_is_smaller_than_what_it_stands_beside_and_none_is_left_out(imagenet: Path) -> None:
    def trained(net: nn.Module) -> int:
        return sum(one.numel() for one in net.parameters() if one.requires_grad)

    net = begun(build(NAME, 206), LORA)
    sizes = {name: one.numel() for name, one in net.named_parameters()}
    beside = {name.removesuffix(".base_layer.weight"): size for name, size in sizes.items() if name.endswith(".base_layer.weight")}
    for name, size in beside.items():
        assert sizes[f"{name}.lora_A.default.weight"] + sizes[f"{name}.lora_B.default.weight"] < size
    convs = [one for one in build(NAME, 206).modules() if isinstance(one, nn.Conv2d)]
    pointwise = [one for one in convs if one.kernel_size == (1, 1)]
    assert len(beside) == sum(8 * (one.in_channels + one.out_channels) < one.weight.numel() for one in pointwise)
    assert trained(net) < 0.15 * trained(begun(build(NAME, 206), FULL))


def test_merged_it_is_an_ordinary_network_that_answers_the_same(imagenet: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapted = _taken(begun(build(NAME, 3), LORA), 3).average.module.eval()
    assert isinstance(adapted, PeftModel)
    plain = build(NAME, 3).eval()
    with torch.inference_mode():
        heard = adapted(WINDOW)
        with adapted.disable_adapter():
            assert not torch.allclose(adapted(WINDOW), heard, atol=1e-3), "the adapters have learnt something"
    net = merged(adapted)
    assert type(net) is EfficientNetB0 and net.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(net.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(plain(WINDOW), heard, rtol=1e-4, atol=1e-4)
    windows = torch.rand((2, *LOG_MEL.shape), generator=torch.Generator().manual_seed(2)).numpy()
    assert quantize.export(net, tmp_path / "net.onnx", LOG_MEL, windows) < quantize.PARITY


def test_a_killed_lora_run_goes_on_and_a_retraining_begins_with_what_came_of_it(
    imagenet: Path, prepared: store.Prepared, tmp_path: Path
) -> None:
    plan = chosen_plan(NAME, 0.002, batch=2, half="off", adapt=LORA)
    killed = Learner(prepared.folder, plan, composers=0)
    killed.run_epoch()
    kept = io.BytesIO()
    torch.save(killed.state(), kept)
    killed.close()
    again = Learner(prepared.folder, plan, composers=0)
    assert again.restore(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    mine, theirs = _kept(again.average), _kept(killed.average)
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    again.run_epoch()
    again.close()
    assert again.epoch == 2
    net = again.finished()
    save_weights(net, prepared.labels, tmp_path / "weights.pt")
    plain = Plan(NAME, 0.002, batch=2)
    retrained = Learner(prepared.folder, plain, composers=0, weights=tmp_path / "weights.pt").net
    assert all(torch.equal(value, retrained.state_dict()[name]) for name, value in net.state_dict().items())


def test_a_plan_tells_its_beginning_and_from_scratch_keeps_its_digest(imagenet: Path) -> None:
    assert chosen_plan(NAME, 1.0, adapt=SCRATCH).plain() == chosen_plan(NAME, 1.0).plain()
    assert not {"adapt", "imagenet"} & chosen_plan(NAME, 1.0).plain().keys()
    full, lora = (chosen_plan(NAME, 1.0, adapt=adapt) for adapt in (FULL, LORA))
    assert full.rate == FULL_RATE and lora.rate == RATES["adamw"] and full.imagenet == lora.imagenet != ""
    assert replace(full, imagenet="other").plain() != full.plain()


def test_what_does_not_fit_is_said_in_one_sentence(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, cut, picture = tmp_path / "other.pth", tmp_path / "cut.pth", tmp_path / "list.pth"
    torch.save(build("small", 3).state_dict(), other)
    cut.write_bytes(published.read_bytes()[:1000])
    torch.save([1], picture)
    wrong: dict[Path | None, str] = {None: "efficientnet_b0_rwightman-7f5810bc.pth", tmp_path / "nowhere.pth": "where no file is",
             **dict.fromkeys((other, cut, picture, tmp_path), "does not hold torchvision's weights")}  # fmt: skip
    for path, says in wrong.items():
        monkeypatch.delenv("SOUNDSCAPE_IMAGENET", raising=False)
        if path is not None:
            monkeypatch.setenv("SOUNDSCAPE_IMAGENET", str(path))
        get_settings.cache_clear()
        with pytest.raises(Invalid, match=says):
            CliRunner().invoke(commands.train, ["--data", str(tmp_path), "--model", NAME, "--adapt", "full"], catch_exceptions=False)
    monkeypatch.setenv("SOUNDSCAPE_IMAGENET", str(published))
    get_settings.cache_clear()
    with pytest.raises(Invalid, match="resnet50 has no ImageNet weights here"):
        chosen_plan("resnet50", 1.0, adapt=LORA)
    get_settings.cache_clear()
