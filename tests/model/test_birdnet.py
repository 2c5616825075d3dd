"""BirdNET through our sound path against BirdNET alone, on the same 3 s windows of a real recording."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from scipy.signal import resample_poly

from soundscape.audio import decode, encode_ogg
from trainer.members.birdnet import EXPECTED, FEATURES, PLACES, Place, birdnet_folder, occurrence, run_direct
from trainer.members.birdnet_species import read_species

pytestmark = pytest.mark.weights
Float32 = npt.NDArray[np.float32]
BIRDS = Path(__file__).resolve().parents[2] / ".tools" / "samples" / "birds_10s.wav"
RATE = 48_000
WINDOWS = 2


def chunks_of(wave48k: Float32) -> Float32:
    """The four 3 s windows of 10 s of sound at 48 kHz, cut by hand."""
    return np.stack([wave48k[int(start * RATE) :][: 3 * RATE] for start in (0, 2, 5, 7)])


def our_path(body: bytes) -> Float32:
    """What the stack makes of a file: decoded to 32 kHz, and back up to what BirdNET hears."""
    features = FEATURES.compute(decode(body))
    return run_direct(features[:WINDOWS].reshape(-1, features.shape[-1]))


@pytest.fixture(scope="module")
def birds48k() -> Float32:
    """The recording at 48 kHz, with a whisper of noise up to 24 kHz, as a recorder of that rate would give it."""
    wave, rate = soundfile.read(BIRDS, dtype="float32")
    assert rate == 32_000
    noise = np.random.default_rng(1).normal(0.0, 0.001, wave.size * 3 // 2 + 1)
    up = resample_poly(wave.astype(np.float64), 3, 2)
    sound: Float32 = (up + noise[: up.size]).astype(np.float32)
    return sound


@pytest.fixture(scope="module")
def direct(birds48k: Float32) -> Float32:
    """BirdNET's own answer to the recording at 48 kHz."""
    return run_direct(chunks_of(birds48k))


def test_a_48_khz_recording_keeps_its_scores_on_the_way_through_32_khz(birds48k: Float32, direct: Float32) -> None:
    body = io.BytesIO()
    soundfile.write(body, birds48k, RATE, format="WAV", subtype="FLOAT")
    assert direct.max() > 0.5, "the recording has birds that BirdNET knows"
    np.testing.assert_allclose(our_path(body.getvalue()), direct, atol=0.02)


def test_an_ogg_keeps_the_scores_that_birdnet_gives_its_sound(birds48k: Float32) -> None:
    ogg = encode_ogg(birds48k, RATE)
    decoded, rate = soundfile.read(io.BytesIO(ogg), dtype="float64")
    assert rate == 32_000
    alone = run_direct(
        chunks_of(soxr.resample(decoded, rate, RATE, quality="VHQ").astype(np.float32))
    )  # another filter: other scores
    np.testing.assert_allclose(our_path(ogg), alone, atol=0.02)


def test_silence_is_no_bird() -> None:
    assert run_direct(np.zeros((1, 3 * RATE), np.float32)).max() < 0.25


def test_what_is_heard_most_is_expected_at_the_reserve(direct: Float32) -> None:
    folder = birdnet_folder()
    seen = occurrence(folder, Place(*PLACES["el-silencio"])).max(axis=0)
    species = read_species(folder)
    assert seen.shape == (len(species),) == direct.shape[1:]
    loudest = [direct[first : first + 2].max(axis=0).argmax() for first in (0, 2)]
    assert [species[n].en for n in loudest if seen[n] < EXPECTED] == []
    assert seen[[one.scientific for one in species].index("Apteryx mantelli")] < EXPECTED, "no kiwi in Colombia"


def test_the_lists_name_every_species_once_and_each_class() -> None:
    species = read_species(birdnet_folder())
    assert len({one.label for one in species}) == len(species) == 6522
    assert {one.taxon for one in species} == {"Aves", "Amphibia", "Insecta", "Mammalia", "Other"}
    assert not [one.label for one in species if one.label.startswith("t-") and one.taxon == "Other"], "a genus is not in the list"
