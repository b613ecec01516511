"""A door: a process that passes connections on from one port to another, until it is killed.

    python -m tests.faults.door FROM_PORT TO_PORT

To those who go through it, it is the server: killed, it takes their connections along, and nobody answers there. What
is behind it keeps its state, as a server's disk does.
"""

import contextlib
import socket
import socketserver
import sys
import threading

__all__: list[str] = []


class Door(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


class Passage(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as behind:
            threading.Thread(target=_pass, args=(behind, self.request), daemon=True).start()
            _pass(self.request, behind)


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    with Door(("127.0.0.1", int(sys.argv[1])), Passage) as door:
        door.serve_forever()
