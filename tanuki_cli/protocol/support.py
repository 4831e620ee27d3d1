"""What becomes of the fields that are not read, by one rule.

- What would change the answer and is not done here is refused, unless its value asks for nothing.
- What changes no answer anywhere (:data:`WITHOUT_EFFECT`) is left alone.
- What nobody here knows is left alone too, and whoever asked is told its name: it may be a slip.
"""

import re
from collections.abc import Mapping
from typing import Final

from tanuki_cli.i18n import N_
from tanuki_cli.protocol.fields import Fields, RequestError

NOT_DONE: Final[Mapping[str, tuple[object, ...]]] = {
    # OpenAI's
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": ([], ["text"]),
    "web_search_options": (),
    "logit_bias": ({}, []),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "best_of": (1,),
    "suffix": ("",),
    # vLLM's
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "truncate_prompt_tokens": (),
    "add_generation_prompt": (True,),
    "chat_template": (),
    "documents": ([],),
    "prompt_logprobs": (False,),
    # llama-server's
    "n_predict": (-1,),
    "typical_p": (1,),
    "mirostat": (0,),
    "dynatemp_range": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "lora": ([],),
}
"""What would change the answer, and the values with which it does not."""
WITHOUT_EFFECT: Final = frozenset((
    "model", "user", "metadata", "store", "service_tier", "parallel_tool_calls", "prediction",
    "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "stream", "stream_options",
    "request_id", "priority", "cache_salt", "kv_transfer_params", "cache_prompt", "id_slot",
    "timings_per_token", "return_progress",
))  # fmt: skip
_READ: Final = frozenset((
    "n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_penalty", "max_tokens",
    "max_completion_tokens", "seed", "stop", "stop_token_ids", "logprobs", "response_format",
    "structured_outputs", "guided_json", "guided_json_object", "guided_choice", "guided_regex",
    "guided_grammar", "grammar", "json_schema",
))  # fmt: skip
CHAT: Final = _READ | {"messages", "top_logprobs", "truncation", "continue_final_message"}
"""The fields of a chat that are read."""
COMPLETION: Final = _READ | {"prompt", "echo"}
"""Those of a completion."""
MAX_STOPS: Final = 256
_MOST_TOLD: Final = 20
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def refuse_end_ids(request: Fields, own: frozenset[int]) -> None:
    """Raise RequestError for ``stop_token_ids`` other than the model's ``own``."""
    for id_ in request.items("stop_token_ids", most=MAX_STOPS) or ():
        if not isinstance(id_, int) or id_ not in own:
            raise RequestError(
                "stop_token_ids", N_("'{name}' can only hold the model's own end of an answer.")
            )


def unknown_fields(request: Fields, read: frozenset[str]) -> tuple[str, ...]:
    """The names of fields that are not known, where ``read`` are: some of them, as far as they are plain.

    Raises RequestError for what would change the answer, and is not done.
    """
    if request.raw("tools") and request.raw("tool_choice") != "none":
        raise RequestError(
            "tools", N_("'{name}': Tanuki cannot call tools. Leave it out, or set 'tool_choice': \"none\".")
        )
    # vLLM wants both said of an answer that goes on.
    goes_on = request.raw("continue_final_message") is True
    asked = {name: off for name, off in NOT_DONE.items() if request.has(name) and name != "tools"}
    for name, off in asked.items():
        if request.raw(name) not in off and not (name == "add_generation_prompt" and goes_on):
            raise RequestError(name, N_("'{name}' is not supported, and would change the answer."))
    known = read | WITHOUT_EFFECT | NOT_DONE.keys()
    unknown = [name for name in request.values if request.has(name) and name not in known]
    return tuple(name for name in unknown if _PLAIN.fullmatch(name))[:_MOST_TOLD]
