"""The three decisions that an error can be.

    SoundscapeError
    ├── Invalid       this input will never work: dead letter (stream), problem document (HTTP), exit code 2 (command)
    ├── Unavailable   something that everybody needs is away: retry, the offset stays
    └── Broken        this process cannot go on: it ends, and its supervisor starts it again

Client libraries' exceptions are mapped to these at the adapter that calls the library; none leaks further.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a clip became a dead letter; also the last part of a problem document's `type`."""

    EMPTY = "empty"
    NOT_AUDIO = "not-audio"
    TRUNCATED = "truncated"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    TOO_LARGE = "too-large"
    NOT_FINITE = "not-finite"
    UNKNOWN_EVENT = "unknown-event"
    MALFORMED_EVENT = "malformed-event"
    WRONG_IDENTITY = "wrong-identity"
    NO_RELEASE = "no-release"
    UNKNOWN_FEATURES = "unknown-features"
    BAD_FEATURES = "bad-features"
    DECODER_DIED = "decoder-died"
    POISON = "poison"
    MODEL_UNAVAILABLE = "model-unavailable"
    RELEASE_INVALID = "release-invalid"
    BAD_REQUEST = "bad-request"


class SoundscapeError(Exception):
    """The root; never raised itself."""


class Invalid(SoundscapeError):
    """This input will never work. `detail` is one sentence: what was wrong and what to do."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Invalid], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)  # it crosses the decoder's process boundary


class Unavailable(SoundscapeError):
    """Something that everybody needs (the broker, the model server) is away; the caller waits and tries again."""


class Broken(SoundscapeError):
    """This process cannot go on; it ends with a non-zero code and the supervisor starts it again."""
