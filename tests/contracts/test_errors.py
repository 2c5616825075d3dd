"""An error is one of three decisions; no client library's exception leaks through its adapter."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path

import kafka.errors
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from soundscape import errors
from soundscape.audio import MAGIC, decode
from soundscape.errors import Broken, Invalid, Reason, SoundscapeError, Unavailable
from soundscape.events import EVENTS, Event
from soundscape.kafka import broker_errors
from soundscape.release import RELEASE_FILE, load_release
from soundscape.settings import Settings
from soundscape.testing import free_base
from soundscape.wire import decode as decode_record
from stream_processors.triton import Triton

KAFKA_ERRORS = [
    thing for thing in vars(kafka.errors).values() if isinstance(thing, type) and issubclass(thing, kafka.errors.KafkaError)
]


def test_there_are_three_decisions() -> None:
    """Whoever catches an error of ours knows what to do."""
    assert set(SoundscapeError.__subclasses__()) >= {Invalid, Unavailable, Broken}
    ours = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, SoundscapeError)]
    assert set(ours) == {SoundscapeError, Invalid, Unavailable, Broken}


@pytest.mark.parametrize("kind", KAFKA_ERRORS, ids=lambda kind: kind.__name__)
def test_kafkas_errors_become_unavailable(kind: type[Exception]) -> None:
    """Each that the library declares."""
    with pytest.raises(Unavailable), broker_errors():
        raise kind.__new__(kind)


async def test_tritons_errors_become_ours() -> None:
    """A server that is away is waited for."""
    triton = Triton(Settings(port_base=free_base()))
    with pytest.raises(Unavailable):
        await triton.infer("nobody", np.zeros((1, 128, 320), np.float32), 1)
    await triton.close()


@pytest.mark.parametrize("kind", MAGIC)
def test_libsndfiles_errors_become_invalid(kind: str) -> None:
    """Bytes that begin like sound and go on like noise."""
    noise = random.Random(kind)
    for magic in MAGIC[kind]:
        for length in (0, 1, 40, 400, 4000):
            with pytest.raises(Invalid):
                decode(magic + noise.randbytes(length))


def test_sound_with_noise_in_its_middle_is_decoded_or_invalid() -> None:
    """A damaged file gives sound or Invalid, nothing else."""
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(64_000) / 9).astype(np.float32), 32_000, format="FLAC")
    whole, noise = out.getvalue(), random.Random(7)
    for _ in range(30):
        at = noise.randrange(4, len(whole) - 64)
        try:
            wave = decode(whole[:at] + noise.randbytes(64) + whole[at + 64 :])
        except Invalid:
            continue
        assert np.isfinite(wave).all()


@given(value=st.binary(max_size=200), named=st.dictionaries(st.sampled_from(["ce_id", "ce_site", "ce_clipid"]), st.binary(max_size=20)))
@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_pydantics_errors_become_invalid(kind: type[Event], value: bytes, named: dict[str, bytes]) -> None:
    """Any bytes and any headers of the right type."""
    with pytest.raises(Invalid) as refused:
        decode_record(kind, {**named, "ce_type": kind.TYPE.encode()}, value)
    assert refused.value.reason is Reason.MALFORMED_EVENT


@pytest.mark.parametrize("body", [b"", b"{}", b"no json", b"\xff\xfe", b"[1, 2]"])
def test_a_bad_release_file_is_invalid(tmp_path: Path, body: bytes) -> None:
    """Whatever stands in it."""
    (tmp_path / RELEASE_FILE).write_bytes(body)
    with pytest.raises(Invalid) as refused:
        load_release(tmp_path)
    assert refused.value.reason is Reason.RELEASE_INVALID


def test_invalid_crosses_a_process_boundary_with_its_reason() -> None:
    """The decoder's child raises it, the worker reads the reason."""
    again = pickle.loads(pickle.dumps(Invalid(Reason.TRUNCATED, "cut")))
    assert (type(again), again.reason, again.detail, str(again)) == (Invalid, Reason.TRUNCATED, "cut", "cut")
