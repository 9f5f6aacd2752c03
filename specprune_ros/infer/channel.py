"""Messages between the node and the process of the model: whole or not at all, and on the node's side never waited
for."""

from __future__ import annotations

import pickle
import socket

MOST_BYTES = 1 << 17
"""Largest size of one message. Images go through shared memory; everything else takes some kilobytes."""


class Closed(ConnectionError):
    """The other end is gone."""


class TooLong(ValueError):
    """A message of more than MOST_BYTES."""


class Channel:
    """One end of a socket pair that keeps messages apart (SOCK_SEQPACKET): a peer that stops in the middle of a
    sentence cannot hold up the reader. What is received is unpickled, so both ends must be ours."""

    def __init__(self, end: socket.socket):
        self._socket = end
        self._buffer = bytearray(MOST_BYTES)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """The two sockets of a new connection."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        return ends

    def fileno(self) -> int:
        """The socket's descriptor, for select and poll."""
        return self._socket.fileno()

    def send(self, message: object) -> None:
        """TooLong, Closed; BlockingIOError on a socket that does not block when the other end does not read."""
        content = pickle.dumps(message, protocol=5)
        if len(content) > MOST_BYTES:
            raise TooLong(f"a message of {len(content)} bytes; at most {MOST_BYTES} fit")
        try:
            self._socket.send(content)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self) -> object:
        """The next message. Closed at the end; BlockingIOError on a socket that does not block while nothing is
        there."""
        while True:
            try:
                count = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                raise
            except ConnectionResetError:  # the other end left with something unread; what it said before is still there
                continue
            except OSError as error:
                raise Closed(str(error)) from error
            if not count:
                raise Closed("the other end was closed")
            return pickle.loads(memoryview(self._buffer)[:count])

    def close(self) -> None:
        """Close this end; the other end gets Closed."""
        self._socket.close()
