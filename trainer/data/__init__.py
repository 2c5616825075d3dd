"""Folders of recordings: fetched, checked, heard, split and kept ready for training."""
