"""How long an OGG plays, read from its pages without decoding: enough to choose a lane and to refuse an hour at the door."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sBBqIIIB")
"""A page's head by RFC 3533: pattern, version, flags, granule position, serial number, sequence number, checksum, segments."""
_BEGIN = 2
"""Flag of a stream's first page."""


def seconds(body: bytes) -> float | None:
    """Seconds that a file of one Vorbis or Opus stream claims to play; None where that is unclear (then only decoding tells)."""
    at, rate, serial, last, skipped = 0, 0, None, -1, 0
    while at + _HEADER.size <= len(body):
        magic, _, flags, granule, number, _, _, segments = _HEADER.unpack_from(body, at)
        if magic != b"OggS":
            return None
        first = at + _HEADER.size + segments
        if flags & _BEGIN:
            if serial is not None:
                return None  # several streams, side by side or one after the other
            serial = number
            rate, skipped = _rate(body[first : first + 64])
        if number != serial:
            return None
        if granule >= 0:  # -1: no packet ends on this page
            last = granule
        at = first + sum(body[at + _HEADER.size : first])
    if not rate or last < 0 or at != len(body):
        return None
    return max(0, last - skipped) / rate


def _rate(packet: bytes) -> tuple[int, int]:
    """(granules a second, granules to skip at the start) by a stream's first packet; (0, 0) if it is neither Vorbis nor Opus."""
    if packet[:7] == b"\x01vorbis" and len(packet) >= 16:
        return int.from_bytes(packet[12:16], "little"), 0
    if packet[:8] == b"OpusHead" and len(packet) >= 12:  # RFC 7845: always 48 kHz, with a pre-skip
        return 48_000, int.from_bytes(packet[10:12], "little")
    return 0, 0
