"""The commands of ``tanuki``: one row each. A new command is a row here and a module beside this one."""

from typing import Final, Literal

from msgspec import Struct

from tanuki_cli.i18n import N_

Group = Literal["talk", "many", "know", "models", "house"]

GROUPS: Final[dict[Group, str]] = {
    "talk": N_("Talk"),
    "many": N_("Many questions, other programs"),
    "know": N_("Compare and measure"),
    "models": N_("Models"),
    "house": N_("Settings and help"),
}
"""The headings of ``tanuki --help``, in its order; message ids."""


class CommandRow(Struct, frozen=True):
    """One command: its name as typed, the heading it stands under, what it does (a message id).

    ``page`` is the page of ``tanuki help`` that says more; ``--help`` names it. ``module``, a file beside
    this one, holds the command as ``<name>_app``; by default it has the command's name.
    """

    name: str
    group: Group
    summary: str
    page: str
    module: str = ""


COMMANDS: Final = (
    CommandRow("chat", "talk", N_("Talk with the model, with history."), "chat"),
    CommandRow("ask", "talk", N_("Ask one question and print the answer."), "pipes"),
    CommandRow("persona", "talk", N_("Keep texts that go before every question."), "chat"),
    CommandRow("history", "talk", N_("List, search, export and remove conversations."), "history"),
    CommandRow("batch", "many", N_("Answer every row of a file; run again, it goes on."), "batch"),
    CommandRow("serve", "many", N_("Serve a model to editors, web clients and other programs."), "serve"),
    CommandRow("ps", "many", N_("Show the model that is kept loaded in the background."), "warm"),
    CommandRow("stop", "many", N_("Free the model that is kept loaded in the background."), "warm"),
    CommandRow(
        "arena", "know", N_("Compare the answers of models blindly, and rate the models."), "evaluation"
    ),
    CommandRow(
        "compare", "know", N_("See what a quantisation costs: models beside a reference."), "evaluation"
    ),
    CommandRow("bench", "know", N_("Measure the speed of a model on this machine."), "measurements"),
    CommandRow("mtbench", "know", N_("Run Japanese MT-Bench, which the model card reports."), "evaluation"),
    CommandRow("models", "models", N_("List the models, their sizes and what fits this machine."), "models"),
    CommandRow("pull", "models", N_("Download a model, or finish a download."), "models", module="models"),
    CommandRow("rm", "models", N_("Remove a downloaded model."), "models", module="models"),
    CommandRow("config", "house", N_("Show and change the settings."), "settings"),
    CommandRow("doctor", "house", N_("Check the machine, the engines and the models."), "gpu"),
    CommandRow(
        "help",
        "house",
        N_("Read about tanuki: keys, settings, servers, measurements."),
        "changes",
        module="help_pages",
    ),
)
COMMAND_BY_NAME: Final = {row.name: row for row in COMMANDS}
