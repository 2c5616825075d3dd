"""The labeler's page: samples in, labels out, with a queue that follows from the log alone."""
