"""A champion trained on with what came since, and a rehearsal of it on a folder's own past."""
