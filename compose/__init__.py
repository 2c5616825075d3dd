"""The stack: set-up, supervision, status and doctor of every process on one machine."""
