"""Exact token ids: a tokenizer file as it is, the guard around its control pieces, text while ids come.

``file`` reads what came with a model, ``parts`` says what may be in it.
"""

from tanuki_cli.tokenizer.chat import ChatTokenizer
from tanuki_cli.tokenizer.verification import verify_tokenizer

__all__ = ["ChatTokenizer", "verify_tokenizer"]
