"""How a network comes to our labels: from scratch, or from ImageNet's weights, trained on whole or by adapters beside them (LoRA)."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from soundscape.errors import Invalid, Reason
from soundscape.release import file_digest
from soundscape.settings import get_settings
from trainer.members.audioset import given
from trainer.members.models import EfficientNetB0

SCRATCH, FULL, LORA = "scratch", "full", "lora"
ADAPTED = "efficientnet_b0"
"""The one network that ImageNet's weights are read for."""
BEGUN = "begun with torchvision's ImageNet weights (BSD-3-Clause)"
"""What a licence says of such a network."""
RANK, ALPHA = 8, 16
"""Of the adapters, and 2 RANK: their product counts ALPHA / RANK times (Hu et al. 2022, "LoRA", section 4.1)."""
FULL_RATE = 5e-4
"""Highest learning rate where all of the weights are worth keeping; adapters are new and take the optimizer's own."""
_STEM = "features.0.0.weight"


def require_adaptable(model: str) -> None:
    """Raise Invalid for a model that has no ImageNet weights."""
    if model != ADAPTED:
        raise Invalid(Reason.BAD_REQUEST, f"--adapt is for {ADAPTED}; {model} has no ImageNet weights here: leave --adapt out.")


def imagenet_file() -> Path:
    """The weights' file. Raises Invalid (bad-request) with the cure if there is none."""
    cure = "torchvision's efficientnet_b0_rwightman-7f5810bc.pth (download.pytorch.org/models), or leave --adapt out"
    return given(get_settings().imagenet, "SOUNDSCAPE_IMAGENET", "EfficientNet-B0's ImageNet weights", cure)


def checked(model: str, path: Path) -> str:
    """The digest of a file of ImageNet's weights that fits the model. Raises Invalid where either does not."""
    require_adaptable(model)
    with torch.device("meta"):
        net = EfficientNetB0(2)
    load(net, path, assign=True)
    return file_digest(path)


def load(net: EfficientNetB0, path: Path, assign: bool = False) -> None:
    """Give a network the weights of torchvision's file, but for the last layer, which stays new. Raises Invalid for any other file.

    The stem hears one channel: its kernels are summed over the three of a picture, as if that were grey.
    """
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        last = {name: value for name, value in net.net.state_dict().items() if name.startswith("classifier.")}
        net.net.load_state_dict({**kept, _STEM: kept[_STEM].sum(1, keepdim=True), **last}, assign=assign)
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ValueError, EOFError, pickle.UnpicklingError) as error:
        what = f"{path} does not hold torchvision's weights of EfficientNet-B0 ({type(error).__name__}); give the file that it publishes."
        raise Invalid(Reason.BAD_REQUEST, what) from error


def begun(net: nn.Module, adapt: str) -> nn.Module:
    """A new network as its plan begins it. Raises Invalid if the weights are wanted and not here."""
    if adapt == SCRATCH:
        return net
    assert isinstance(net, EfficientNetB0)  # `checked` has said so
    load(net, imagenet_file())
    return with_adapters(net) if adapt == LORA else net


def with_adapters(net: nn.Module) -> nn.Module:
    """The network with a LoRA adapter at each pointwise convolution that is larger than one; they and the last layer alone are trained.

    The batch norms' scales and shifts stay; their statistics follow the sound, which is nothing like pictures.
    """
    from peft import LoraConfig, get_peft_model

    targets = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d) and _is_target(module)]
    made: nn.Module = get_peft_model(net, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, modules_to_save=["classifier"]))
    return made


def merged(net: nn.Module) -> nn.Module:
    """An ordinary network again, with its adapters added to its weights; the one given is used up."""
    from peft import PeftModel

    if not isinstance(net, PeftModel):
        return net
    made: nn.Module = net.merge_and_unload()
    return made


def _is_target(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.groups == 1
    return pointwise and RANK * (conv.in_channels + conv.out_channels) < conv.in_channels * conv.out_channels
