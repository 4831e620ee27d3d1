"""Markdown printed while it arrives, in blocks: a finished block is final."""
