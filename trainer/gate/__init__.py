"""What a release must hold to before a guide may see it."""
