"""What an MP3 says of its own length, and the head that makes libsndfile decode one whole that says nothing."""

from __future__ import annotations

FRAME = 1152
"""Most samples of a frame (ISO 11172-3); a file that lacks fewer cannot be told from a whole one."""
_RATES = (44_100, 48_000, 32_000)
"""Hz by the header's code in MPEG 1; half of it in MPEG 2, a quarter in 2.5 (ISO 11172-3, 2.4.2.3; ISO 13818-3)."""
_SHIFTS = {0b11: 0, 0b10: 1, 0b00: 2}
"""By the header's version: how often its rate is halved."""
_INDEX = 0b1001
"""Bitrate code of the head that is made here: 128 kbit/s in MPEG 1, 80 in the others; its frame has room at every rate."""


def counts_frames(body: bytes) -> bool:
    """Whether an MP3's first frame says how many follow: only then is libsndfile's length the encoder's word, and no estimate.

    The frame holds, within its first 64 bytes, `Xing` or `Info`, four bytes of flags whose lowest says that the count is there, and the
    count.
    """
    at = _first_frame(body)
    head = body[at : at + 64]
    tag = max(head.find(b"Xing"), head.find(b"Info"))
    return tag >= 0 and any(head[tag + 8 : tag + 12]) and bool(head[tag + 7] & 1)


def with_count(body: bytes, samples: int) -> bytes:
    """The MP3 with a frame before its first that says that at least so many samples follow; itself where the first frame is none of ours.

    Without a count, libsndfile reads no further than the first frame's bitrate lets it expect: of a variable bitrate that begins high,
    half. With one that is too great it reads to the end. The frame itself is not played (mpg123 knows it by `Xing`, after the zeros of its
    side information).
    """
    at = _first_frame(body)
    head = body[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # eleven bits of sync, any version, layer III
        return body
    version, rate_code = head[1] >> 3 & 3, head[2] >> 2 & 3
    if version not in _SHIFTS or rate_code == 3 or head[2] >> 4 in (0, 15):
        return body
    first, mono, rate = version == 0b11, head[3] >> 6 == 0b11, _RATES[rate_code] >> _SHIFTS[version]
    side = (17 if mono else 32) if first else (9 if mono else 17)
    size = 144 * 128_000 // rate if first else 72 * 80_000 // rate
    count = samples // (FRAME if first else FRAME // 2) + 1
    tag = bytes((0xFF, head[1] | 1, _INDEX << 4 | rate_code << 2, head[3])) + bytes(side) + b"Xing" + bytes((0, 0, 0, 1))
    return body[:at] + (tag + count.to_bytes(4)).ljust(size, b"\0") + body[at:]


def _first_frame(body: bytes) -> int:
    """Where it begins: after a tag of ID3v2 (four times seven bits of size in bytes, after a head of 10)."""
    return 10 + sum(byte << shift for byte, shift in zip(body[6:10], (21, 14, 7, 0), strict=False)) if body.startswith(b"ID3") else 0
