"""Building llama.cpp for this machine: which ways there are, doing it, keeping what came of it, trying it.

Nothing but the standard library is imported, which has dataclasses: scripts/bootstrap.py uses this before
anything is installed.
"""
