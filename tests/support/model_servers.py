"""Two real servers on loopback that serve the practice model: llama-server, and llama-cpp-python's own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tanuki_cli.catalog.practice import practice_model

CONTEXT_LENGTH = 1024

LLAMA_SERVER = f"""
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = {CONTEXT_LENGTH}
params.n_parallel = 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.endpoint_slots = True
params.api_keys = sys.argv[2:]
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
PYTHON_SERVER = f"""
import socket
import sys
import threading
import uvicorn
from llama_cpp.server.app import create_app
from llama_cpp.server.settings import ModelSettings, ServerSettings
threads = {{"n_threads": 1, "n_threads_batch": 1}}
model = ModelSettings(model=sys.argv[1], n_ctx={CONTEXT_LENGTH}, verbose=False, **threads)
app = create_app(server_settings=ServerSettings(), model_settings=[model])
listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{{listener.getsockname()[1]}}", flush=True)
server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True)), daemon=True).start()
server.run(sockets=[listener])
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[str]:
    """Run a server that prints its address and ends with its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(practice_model().path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate()[1]
        yield address
    finally:
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
