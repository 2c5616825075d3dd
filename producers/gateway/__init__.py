"""The gateway: a clip comes in by HTTP, goes out on the log, and its answer goes back in the same response."""
