"""A wire to a server that keeps all that the server sends, so that a test can look for what must not be on it."""

import socket
import threading
from contextlib import contextmanager, suppress


class Wire:
    """A TCP relay on a port of its own.

    Attributes:
        url: where the relay listens.
        log: all bytes that came from the server.
    """

    def __init__(self, host, port):
        self.target = (host, port)
        self.log = bytearray()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.door.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with suppress(OSError):
            while True:
                near, _ = self.door.accept()
                far = socket.create_connection(self.target)
                threading.Thread(target=self._relay, args=(near, far, None), daemon=True).start()
                threading.Thread(target=self._relay, args=(far, near, self.log), daemon=True).start()

    def _relay(self, source, sink, log):
        with suppress(OSError):
            while data := source.recv(2**16):
                if log is not None:
                    log += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def tapped(url):
    """A `Wire` to a server on this machine."""
    host, port = url.rstrip("/").removeprefix("http://").split(":")
    wire = Wire(host, int(port))
    try:
        yield wire
    finally:
        wire.door.close()
