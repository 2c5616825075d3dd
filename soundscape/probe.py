"""What a model is asked to show that it works: so much at once that each of its instances has to answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from soundscape.settings import Settings

WINDOWS = 4
"""Windows of one synthetic inference: the batch that Triton prefers (consumers.model_server.configuration), so that it joins no two."""


def inferences(settings: Settings) -> int:
    """Synthetic inferences of one probe, sent at once: one for each instance of a model and one more.

    A dead instance beside living ones fails at once, is idle again, and takes more than its share: with fewer it may be missed.
    """
    return settings.model_instances + 1


def silence(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The input of one: float32 (WINDOWS, *shape) of zeros."""
    return np.zeros((WINDOWS, *shape), np.float32)
