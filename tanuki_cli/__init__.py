"""tanuki: talk to the Japanese language model Tanuki in a terminal."""

__version__ = "0.1.0"
