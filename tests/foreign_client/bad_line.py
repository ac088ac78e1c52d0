"""Runs a program on a line that is cut at every call: when the request has arrived, and before its answer does.

Usage: bad_line.py PROGRAM

The program uses `grpc.secure_channel` as if nothing were. Each of its calls is cut once; it has to make it again by itself. Then
each goes through twice, and both must give the same operation. Streams are cut behind their third answer.
"""

import collections
import contextlib
import pathlib
import socket
import sys
import threading
import time

import grpc

# A TLS record with an answer in it: longer than those that HTTP/2 needs for itself.
ANSWER_BYTES = 100


class Line:
    """Hands what it gets to a server and back, record by record of TLS, until it is told to cut."""

    def __init__(self, server):
        self._server, self._listener = server, socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._cut_at_answer, self._pairs = threading.Event(), []
        self.cuts = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at_answer(self):
        """The next answer won't arrive."""
        self._cut_at_answer.set()

    def cut(self):
        """Cuts all connections."""
        self.cuts.append(time.time_ns())
        while self._pairs:
            for end in self._pairs.pop():
                with contextlib.suppress(OSError):  # it may have come to its end just now
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            client, server = self._listener.accept()[0], socket.create_connection(self._server)
            self._pairs.append((client, server))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        try:
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was cut

    def _answers(self, server, client):
        stream = server.makefile("rb")
        try:
            while len(header := stream.read(5)) == 5:
                length = int.from_bytes(header[3:])
                if length > ANSWER_BYTES and self._cut_at_answer.is_set():
                    self._cut_at_answer.clear()
                    return self.cut()
                client.sendall(header + stream.read(length))
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was cut


class BadLine(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sees to it that each call is cut once, and made twice."""

    def __init__(self, line):
        self._line, self._cut_at = line, {}
        self.calls = collections.Counter()

    def intercept_unary_unary(self, proceed, details, request):
        what = (details.method, request.SerializeToString())
        if what not in self._cut_at:
            self._line.cut_at_answer()
            failed = proceed(details, request)
            assert failed.code() == grpc.StatusCode.UNAVAILABLE, (details.method, failed)
            self._cut_at[what] = self._line.cuts[-1]
            self.calls["cut"] += 1
            return failed
        first = proceed(details, request)
        if first.code() == grpc.StatusCode.UNAVAILABLE:
            return first  # it was sent before the cut was noticed
        second = proceed(details, request)
        self.calls["twice"] += 1
        assert first.code() == second.code(), (details.method, first, second)
        if first.code() == grpc.StatusCode.OK and getattr(request, "request_id", ""):
            one, other = first.result().operation, second.result().operation
            assert one.id == other.id and one.request_id == request.request_id, (one, other)
            assert one.create_time.ToNanoseconds() < self._cut_at[what], "the request did not arrive before the cut"
            self.calls["changes"] += 1
        return second

    def intercept_unary_stream(self, proceed, details, request):
        for count, answer in enumerate(proceed(details, request), 1):
            yield answer
            if count == 3 and details.method not in self._cut_at:
                self._line.cut()
                self._cut_at[details.method] = self._line.cuts[-1]
                self.calls["streams cut"] += 1


def main(program):
    secure_channel = grpc.secure_channel
    bad_lines = []

    def bad_channel(address, credentials):
        host, port = address.rsplit(":", 1)
        line = Line((host, int(port)))
        bad_lines.append(BadLine(line))
        channel = secure_channel(line.address, credentials, options=[("grpc.ssl_target_name_override", host)])
        return grpc.intercept_channel(channel, bad_lines[-1])

    grpc.secure_channel = bad_channel
    exec(compile(pathlib.Path(program).read_text(), program, "exec"), {"__name__": "__main__"})
    (bad_line,) = bad_lines
    print(*(f"{what}: {count}" for what, count in bad_line.calls.items()), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
