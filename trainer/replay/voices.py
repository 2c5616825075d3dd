"""Which of the wanted pieces nobody may hear, by the rules of the sampler: a guide's clip near a voice, a labeler's window with one."""

from __future__ import annotations

from soundscape.events import ClipAnalysed
from soundscape.sampling import private, tells_speech, voices
from trainer.replay.cut import LONGEST_S
from trainer.replay.judged import Piece, Wanted

UNTOLD, NEAR, VOICE = "guide: no release could tell speech", "guide: speech", "labeler: speech"
"""Why a piece is left out."""


class Voices:
    """What every answer that is still on the log says of voices in a clip; one that hears none does not outweigh one that does."""

    def __init__(self, limit: float, untold: bool) -> None:
        """`limit` is the speech score of a voice; `untold`: whether clips are taken of which no release could tell."""
        self._limit, self._untold = limit, untold
        self._told: set[str] = set()
        self._near: set[str] = set()
        self._heard: dict[str, set[tuple[float, float]]] = {}

    def note(self, answer: ClipAnalysed) -> None:
        """Take in an answer."""
        if not tells_speech(answer):
            return
        clip, windows = str(answer.clip_id), answer.windows
        self._told.add(clip)
        if any(windows[n].start_s < LONGEST_S for n in private(answer, self._limit)):
            self._near.add(clip)
        if loud := voices(answer, self._limit):
            self._heard.setdefault(clip, set()).update((windows[n].start_s, windows[n].end_s) for n in loud)

    def leave_out(self, found: Wanted) -> None:
        """Take from what is wanted the pieces that nobody may hear, and count each by its reason."""
        for clip, pieces in list(found.pieces.items()):
            kept = []
            for piece in pieces:
                if why := self._why_not(clip, piece):
                    found.left[why] += 1
                else:
                    kept.append(piece)
            if kept:
                found.pieces[clip] = kept
            else:
                del found.pieces[clip]

    def _why_not(self, clip: str, piece: Piece) -> str:
        """A guide passed by while it was recorded and heard it whole, as it will be learnt from; a labeler listened to this window."""
        if piece.provenance == "guide":
            if clip in self._near:
                return NEAR
            return "" if self._untold or clip in self._told else UNTOLD
        if piece.provenance == "pseudo":  # trainer.replay.pseudo has looked
            return ""
        end_s = float("inf") if piece.end_s is None else piece.end_s
        return VOICE if any(start < end_s and end > piece.start_s for start, end in self._heard.get(clip, ())) else ""
