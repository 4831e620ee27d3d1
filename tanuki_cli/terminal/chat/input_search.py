"""The search in past input (Ctrl-R) in our words, in the language of the moment."""

from functools import partial

from prompt_toolkit import PromptSession
from prompt_toolkit.layout.controls import SearchBufferControl
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.search import SearchDirection

from tanuki_cli.i18n import _


def speak_in_search(prompt: PromptSession[str]) -> None:
    """Let the incremental search of ``prompt`` ask, and say when nothing is found."""
    for control in prompt.layout.find_all_controls():
        if isinstance(control, SearchBufferControl):
            control.input_processors = [
                BeforeInput(partial(_search_prompt, prompt, control), style="class:search-toolbar.prompt")
            ]


def _search_prompt(prompt: PromptSession[str], control: SearchBufferControl) -> str:
    wanted = control.buffer.text
    past = prompt.default_buffer.history.get_strings()
    if wanted and not any(wanted in text for text in [*past, prompt.default_buffer.text]):
        return _("Nothing is found in past input: ")
    if control.searcher_search_state.direction == SearchDirection.BACKWARD:
        return _("Search past input: ")
    return _("Search past input, towards the newest: ")
