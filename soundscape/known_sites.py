"""Which sites there are: a command that finds nothing of a site says whether it is quiet, or a slip of the keyboard."""

from __future__ import annotations

from soundscape.deployments import read_states
from soundscape.errors import Invalid, Reason
from soundscape.keys import keys_file, read_keys
from soundscape.settings import Settings

SHOWN = 10
"""Sites that a refusal names."""


def require_known(settings: Settings, site: str | None) -> None:
    """Refuse a site that has no release, no key, and is not the setting's own. None is every site. Raises Invalid, Unavailable."""
    if site is None or site == settings.site:
        return
    known = sorted({settings.site, *read_states(settings), *(key.site for key in read_keys(keys_file(settings)))})
    if site not in known:
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        raise Invalid(Reason.BAD_REQUEST, f"Site {site!r} has never been heard of; there are {', '.join(known[:SHOWN])}{more}.")
