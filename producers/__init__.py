"""Clip to event: the synthetic forest, the simulator, the folder watcher and the gateway."""
