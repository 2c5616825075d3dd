"""The local stack: no container, everything on loopback, kept alive by supervisor."""
