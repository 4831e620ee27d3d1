"""Whether a tokenizer can be a model's."""

from typing import Final

from tokenizers.models import Unigram

from tanuki_cli.conversation import Message
from tanuki_cli.errors import DamagedModelError
from tanuki_cli.i18n import _
from tanuki_cli.tokenizer.chat import ChatTokenizer

_SAMPLE: Final = (
    "たぬきは日本の昔話によく出てくる動物です。人を化かすと言われますが、どこか憎めません。"
    "信楽焼のたぬきは、商売繁盛の縁起物として店先に置かれています。"
)
_SAMPLE_CHAT: Final = (
    Message("user", "こんにちは。「たぬき」と Tanuki は同じですか?\n２つ教えて"),
    Message("assistant", "はい、同じです。\n\n1. 狸\n2. raccoon dog"),
    Message("user", "ありがとう! 😊"),
)
_MIN_CHARACTERS_PER_TOKEN: Final = 1.3
_LARGE_VOCABULARY: Final = 16_000
"""From here on a vocabulary has room for Japanese words; what a smaller one does with them says nothing."""


def verify_tokenizer(tokenizer: ChatTokenizer) -> None:
    """Refuse a tokenizer that cannot be the model's, by its properties and not by fixed ids.

    Raises EngineError that names the property.
    """
    backend = tokenizer.backend
    problems = (
        (not isinstance(backend.model, Unigram), _("it is not a Unigram model")),
        (backend.get_vocab_size() > tokenizer.vocab_size, _("it has more pieces than the model")),
        (backend.id_to_token(tokenizer.bos_id) is None, _("it has no piece for the model's <s>")),
        (backend.id_to_token(tokenizer.eos_id) is None, _("it has no piece for the model's </s>")),
        (
            tokenizer.vocab_size >= _LARGE_VOCABULARY
            and len(_SAMPLE) < _MIN_CHARACTERS_PER_TOKEN * len(tokenizer.encode(_SAMPLE)),
            _("it cuts Japanese into too many tokens"),
        ),
        (tokenizer.decode(tokenizer.encode(_SAMPLE)) != _SAMPLE, _("Japanese does not survive a round trip")),
        (not tokenizer.can_be_guarded, _("one of its control pieces is a single character")),
        (not tokenizer.settle_encoding(_SAMPLE_CHAT), _("it does not keep the turns of a chat apart")),
    )
    for failed, reason in problems:
        if failed:
            raise DamagedModelError(
                _("This tokenizer does not belong to the model: {reason}.").format(reason=reason)
            )
