"""The prompt for a server: exact ids where it takes them, else messages that it counts itself."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from tanuki_cli.conversation import Message
from tanuki_cli.engines.answers import PromptPlan
from tanuki_cli.engines.prompting import prompt_limit
from tanuki_cli.engines.remote.dialects import RemotePrompt
from tanuki_cli.prompt import fit_context
from tanuki_cli.sampling import SamplingOptions
from tanuki_cli.tokenizer import ChatTokenizer

_KEPT_SHARES: Final = (1.0, 0.75, 0.5, 0.25, 0.0)


class Prompts(Struct, frozen=True, kw_only=True):
    """Makes the prompts. ``tokenizer`` None means that the server tokenises; ``context_is_known`` is whether
    it says how long its context is."""

    tokenizer: ChatTokenizer | None
    context_length: int
    context_is_known: bool

    def begun_text(self, prompt: RemotePrompt) -> str:
        """How the answer begins, as far as it is whole characters."""
        if self.tokenizer is None or prompt.ids is None:
            return prompt.begun_text
        whole = prompt.begun[: self.tokenizer.complete_length(prompt.begun)]
        before = prompt.ids[: len(prompt.ids) - len(prompt.begun)]
        return "".join(self.tokenizer.detokenize(whole, prompt_ids=before))

    def of(
        self,
        messages: Sequence[Message],
        options: SamplingOptions,
        begun: str | tuple[int, ...] = "",
    ) -> Iterator[RemotePrompt]:
        """The prompt; where only the server can count, then ever shorter ones, down to one question."""
        limit = prompt_limit(self.context_length, options.max_new_tokens)
        if self.tokenizer is not None:
            begun_ids = self.tokenizer.encode(begun) if isinstance(begun, str) else begun
            kept = fit_context(messages, self.tokenizer, max_prompt_tokens=limit - len(begun_ids))
            ids = [*self.tokenizer.encode_chat(kept), *begun_ids]
            yield RemotePrompt(
                messages=tuple(kept),
                ids=tuple(ids),
                begun=tuple(begun_ids),
                max_new_tokens=min(options.max_new_tokens, self.context_length - len(ids)),
                end_ids=tuple(sorted(self.tokenizer.end_ids)),
            )
            return
        head = [message for message in messages[:1] if message.role == "system"]
        turns = messages[len(head) :]
        drops = {round((len(turns) // 2) * (1 - share)) for share in _KEPT_SHARES}
        for dropped in sorted(drops):
            yield RemotePrompt(
                messages=(*head, *turns[2 * dropped :]),
                ids=None,
                begun_text=begun if isinstance(begun, str) else "",
                max_new_tokens=self.context_length - limit
                if self.context_is_known
                else options.max_new_tokens,
            )

    def plan(self, prompt: RemotePrompt, messages: Sequence[Message], options: SamplingOptions) -> PromptPlan:
        """What ``prompt`` holds of ``messages``."""
        return PromptPlan(
            messages=prompt.messages,
            dropped=len(messages) - len(prompt.messages),
            prompt_tokens=None if prompt.ids is None else len(prompt.ids),
            limit=prompt_limit(self.context_length, options.max_new_tokens),
        )
