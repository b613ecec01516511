"""A TCP proxy in its own process: `python -m tests.faults.tcp_proxy FROM_PORT TO_PORT`.

Killing it looks to clients like killing the server, whose state survives.
"""

import contextlib
import socket
import socketserver
import sys
import threading

__all__: list[str] = []


class TcpProxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as server:
            threading.Thread(target=_pass, args=(server, self.request), daemon=True).start()
            _pass(self.request, server)


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    with TcpProxy(("127.0.0.1", int(sys.argv[1])), Handler) as proxy:
        proxy.serve_forever()
