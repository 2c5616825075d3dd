"""Data to models: prepare, train, evaluate, and make releases."""
