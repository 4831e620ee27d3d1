"""What a fuzzer looks for, on demand: the file says what is to happen."""

import os
import signal
import sys
import time
from pathlib import Path

from tanuki_cli.errors import EngineError


def attempt(path: Path) -> str:
    wish = path.read_text()
    if wish == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif wish == "hang":
        time.sleep(600)
    elif wish == "exception":
        raise ZeroDivisionError
    elif wish == "noise":
        sys.stderr.write("thread panicked")
        sys.stderr.flush()
    elif wish == "sentence":
        raise EngineError("Something is wrong.")
    return "fine"
