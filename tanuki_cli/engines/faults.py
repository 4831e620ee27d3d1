"""What goes wrong on every local engine, said in the same words."""

from tanuki_cli.errors import DamagedModelError
from tanuki_cli.i18n import _


def no_numbers() -> DamagedModelError:
    """The error for logits of which one is NaN or infinite."""
    return DamagedModelError(_("The model computes no numbers: its file is damaged."))
