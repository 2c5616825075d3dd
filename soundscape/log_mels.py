"""Log-mels that a client computed, from `.npy` bytes: nothing is allocated by what a header claims, and no pickle is read."""

from __future__ import annotations

import io
import math
import tokenize

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec

MAX_WINDOWS = 12
"""Windows of log-mels in one upload: a minute, 1 MB as float16."""
MAX_HEADER_BYTES = 1024
"""Of an .npy header; numpy's own for such an array has 118."""
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_UNREADABLE = (ValueError, KeyError, EOFError, OSError, TypeError, tokenize.TokenError, SyntaxError, RecursionError, MemoryError)
"""What numpy's parser of headers raises on bytes that are none."""


def read_log_mels(body: bytes, spec: FeatureSpec) -> npt.NDArray[np.float16]:
    """Float16 (windows, n_mels, frames) in [0, 1], a view of the body. Raises Invalid (bad-features)."""
    shape = spec.shape
    wanted = f"send float16 (windows, {', '.join(map(str, shape))}), 1 to {MAX_WINDOWS} windows"
    stream = io.BytesIO(body)
    try:
        found, fortran, dtype = _READERS[np.lib.format.read_magic(stream)](stream, max_header_size=MAX_HEADER_BYTES)
    except _UNREADABLE as error:
        raise Invalid(Reason.BAD_FEATURES, f"The body is no .npy file of version 1 or 2; {wanted}.") from error
    if dtype.hasobject:
        raise Invalid(Reason.BAD_FEATURES, f"The .npy holds pickled objects, which are never read; {wanted}.")
    if dtype != np.float16 or found[1:] != shape or not 1 <= found[0] <= MAX_WINDOWS:
        raise Invalid(Reason.BAD_FEATURES, f"The log-mels are {str(dtype)[:50]} {str(found)[:100]}; {wanted}.")
    values = memoryview(body)[stream.tell() :]
    if len(values) != math.prod(found) * 2:
        raise Invalid(Reason.BAD_FEATURES, "The .npy does not hold as many numbers as its header says; send it whole.")
    mels = np.frombuffer(values, np.float16).reshape(found, order="F" if fortran else "C")
    if not (np.isfinite(mels).all() and mels.min() >= 0 and mels.max() <= 1):
        raise Invalid(Reason.BAD_FEATURES, "The log-mels must be finite and lie between 0 and 1.")
    return mels
