"""Sockets whose every wait ends soon after a cancel.

httpx2 waits for a socket in one long call, which a signal handler cannot end without raising. Here
every wait for the network is cut into slices of :data:`POLL_S`, and between two of them a flag is
looked at. Nothing but the waiting differs from httpcore2's own backend. Only name resolution, one
call into the system, cannot be cut.

The library's own sockets could be shut down by the handler instead, which ends a wait for an answer and a
TLS handshake at once (measured on loopback: 0.000 and 0.001 s after Ctrl-C). But a connection that is
still being made has no socket that anybody else knows: there Ctrl-C took until the timeout of ten seconds.
"""

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import httpcore2

from tanuki_cli.engines.base import GenerationCancelled

POLL_S: Final = 0.1
_CHUNK: Final = 1 << 16
_CONNECTING: Final = frozenset(
    (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", errno.EAGAIN))
)
_T = TypeVar("_T")


class TimeIsUp(httpcore2.ReadTimeout):
    """The answer took longer than it may as a whole, although bytes kept coming."""


class CancelFlag:
    """Set by a signal handler, looked at wherever the main thread waits.

    ``deadline`` is the :func:`time.monotonic` from which every wait for a byte raises TimeIsUp.
    """

    def __init__(self) -> None:
        self.deadline = float("inf")
        self._cancelled = False

    def set(self) -> None:
        """Make every later :meth:`check` raise; safe in a signal handler."""
        self._cancelled = True

    def clear(self) -> None:
        """Forget an earlier :meth:`set`."""
        self._cancelled = False

    def check(self) -> None:
        """Raise GenerationCancelled if the flag is set."""
        if self._cancelled:
            raise GenerationCancelled

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``. Raises GenerationCancelled within POLL_S of a :meth:`set`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL_S))
        self.check()


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout


class _TcpStream(httpcore2.NetworkStream):
    """A connected socket; all waiting is in :meth:`_wait`."""

    def __init__(self, sock: socket.socket, flag: CancelFlag) -> None:
        self._sock = sock
        self._flag = flag
        sock.settimeout(POLL_S)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        receive = partial(self._sock.recv, max_bytes)
        return self._wait(receive, timeout, httpcore2.ReadTimeout, httpcore2.ReadError)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            send = partial(self._sock.send, view)
            view = view[self._wait(send, timeout, httpcore2.WriteTimeout, httpcore2.WriteError) :]

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _TlsStream(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._sock if info == "socket" else None

    def _wait(
        self,
        operation: Callable[[], _T],
        timeout: float | None,
        timed_out: type[Exception],
        failed: type[Exception],
    ) -> _T:
        deadline = _deadline(timeout)
        while True:
            self._flag.check()
            if time.monotonic() >= self._flag.deadline:
                raise TimeIsUp
            try:
                return operation()
            except TimeoutError as exc:
                if time.monotonic() >= deadline:
                    raise timed_out(exc) from exc
            except OSError as exc:
                raise failed(exc) from exc


class _TlsStream(httpcore2.NetworkStream):
    """TLS over another stream, so that its waits are cut too; works inside a proxy's TLS as well."""

    def __init__(
        self,
        inner: httpcore2.NetworkStream,
        context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float | None,
    ) -> None:
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            self._pump(self._tls.do_handshake, timeout)
        except ssl.SSLError as exc:
            self.close()
            raise httpcore2.ConnectError(exc) from exc
        except httpcore2.ReadTimeout as exc:
            self.close()
            raise httpcore2.ConnectTimeout(exc) from exc
        except BaseException:
            self.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._pump(partial(self._tls.read, max_bytes), timeout)
        except ssl.SSLError as exc:
            raise httpcore2.ReadError(exc) from exc

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        try:
            while view:
                view = view[self._pump(partial(self._tls.write, view), timeout) :]
        except ssl.SSLError as exc:
            raise httpcore2.WriteError(exc) from exc

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _TlsStream(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._inner.get_extra_info(info)

    def _pump(self, operation: Callable[[], _T], timeout: float | None) -> _T:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                received = self._inner.read(_CHUNK, timeout)
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            else:
                self._flush(timeout)
                return result

    def _flush(self, timeout: float | None) -> None:
        if data := self._outgoing.read():
            self._inner.write(data, timeout)


class CancellableBackend(httpcore2.NetworkBackend):
    """Opens connections that look at ``flag`` while they wait."""

    def __init__(self, flag: CancelFlag) -> None:
        self._flag = flag

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of ``host`` that accepts; ``local_address`` is not supported."""
        deadline = min(_deadline(timeout), self._flag.deadline)
        failure: OSError | None = None
        try:
            for family, kind, protocol, _name, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            ):
                sock = socket.socket(family, kind, protocol)
                try:
                    self._connect(sock, address, deadline)
                except OSError as exc:
                    sock.close()
                    failure = exc
                except GenerationCancelled:
                    sock.close()
                    raise
                else:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return _TcpStream(sock, self._flag)
        except OSError as exc:
            failure = exc
        except UnicodeError:  # a label that no name can have, such as an empty one
            failure = socket.gaierror(socket.EAI_NONAME, "not a host name")
        if isinstance(failure, TimeoutError) and time.monotonic() >= deadline:
            raise httpcore2.ConnectTimeout(failure) from failure
        raise httpcore2.ConnectError(failure) from failure

    def sleep(self, seconds: float) -> None:
        """Wait between two tries."""
        self._flag.sleep(seconds)

    def _connect(self, sock: socket.socket, address: Any, deadline: float) -> None:
        sock.setblocking(False)
        error = sock.connect_ex(address)
        while error in _CONNECTING:
            self._flag.check()
            if time.monotonic() >= deadline:
                raise TimeoutError
            _readable, writable, failed = select.select([], [sock], [sock], POLL_S)
            if writable or failed:
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                break
        if error:
            raise OSError(error, os.strerror(error))
