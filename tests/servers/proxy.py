from __future__ import annotations

import contextlib
import enum
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.servers.s3 import S3Server


class Weather(enum.Enum):
    """How a network is."""

    FAIR = "fair"
    STALLED = "connections are taken and nothing comes through"
    CUT = "connections break off and new ones are closed at once"


@dataclass
class Proxy:
    """Stands between a client and a server and misbehaves when told to; in threads of its own."""

    target: tuple[str, int]
    port: int = 0
    weather: Weather = Weather.FAIR
    connections: int = 0
    _open: set[socket.socket] = field(default_factory=set)
    _fair: threading.Condition = field(default_factory=threading.Condition)

    def set(self, weather: Weather) -> None:
        with self._fair:
            self.weather = weather
            self._fair.notify_all()
        if weather is Weather.CUT:
            self._close_all()

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.weather is Weather.CUT:
                client.close()
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        self.set(Weather.CUT)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._open |= {client, server}
        threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                with self._fair:
                    self._fair.wait_for(lambda: self.weather is not Weather.STALLED)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _close_all(self) -> None:
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def bad_network(server: S3Server) -> Iterator[tuple[Proxy, S3Server]]:
    """A proxy in front of a server, and the server as it is seen through it."""
    parts = urlsplit(server.endpoint_url)
    assert parts.hostname is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy((parts.hostname, parts.port or 80), listener.getsockname()[1])
        thread = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield (
                proxy,
                S3Server(f"http://127.0.0.1:{proxy.port}", server.access_key_id, server.secret_access_key),
            )
        finally:
            proxy.close()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
