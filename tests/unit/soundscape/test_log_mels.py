"""Uploaded log-mels: what numpy's header parser stumbles over is refused like anything else, and nothing is allocated for a claim."""

from __future__ import annotations

import io

import numpy as np
import pytest

from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL
from soundscape.log_mels import read_log_mels


def headed(header: str, version: int = 1) -> bytes:
    """An .npy file of that header and no values."""
    raw = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(raw).to_bytes(2 if version == 1 else 4, "little") + raw


HUGE = (10**12, *LOG_MEL.shape)


@pytest.mark.parametrize(
    "body",
    [
        headed("{'descr': ("),
        headed("(" * 900),
        headed("{[]:1}"),
        headed("{[]:1}", 2),
        headed("(" * 60_000),
        headed(str({"descr": "<f2", "fortran_order": False, "shape": HUGE})),
        headed("{'descr': '<f2', 'fortran_order': False, 'shape': ()}"),
        headed("{}", 3),
    ],
    ids=["open", "nested", "unhashable", "unhashable-2", "long", "huge", "no-axes", "version"],
)
def test_a_header_that_does_not_hold(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        read_log_mels(body, LOG_MEL)
    assert refused.value.reason is Reason.BAD_FEATURES


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_numbers_are_read_in_their_order(order: str) -> None:
    mels = np.random.default_rng(4).random((2, *LOG_MEL.shape)).astype(np.float16)
    out = io.BytesIO()
    np.save(out, np.asarray(mels, order="F" if order == "F" else "C"))
    np.testing.assert_array_equal(read_log_mels(out.getvalue(), LOG_MEL), mels)
