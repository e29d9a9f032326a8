"""A server's end of the channel: one connection, a question and an answer at a time."""

import socket
from pathlib import Path
from typing import Any, Final

from tidemill.model.errors import EngineUnavailable, StaleTerm
from tidemill.node.channel.frames import BadFrame, Document, Frame, FrameReader, encode

READ_BYTES: Final = 1 << 20
CONNECT_TIMEOUT_S: Final = 5.0


class Connection:
    """An open connection to a node. After an OSError or EngineUnavailable it is to be closed."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when nobody listens there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader = FrameReader()
        try:
            self._socket.settimeout(CONNECT_TIMEOUT_S)
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def call(self, name: str, timeout_s: float, **question: Any) -> Frame:
        """Ask, and return the answer.

        Raises OSError (a TimeoutError included) when the connection cannot go on, and StaleTerm or EngineUnavailable
        when the node says so.
        """
        document: Document = {"call": name, **question}
        self._socket.settimeout(timeout_s)
        self._socket.sendall(encode(Frame(document)))
        answer = self._receive()
        match answer.document:
            case {"error": StaleTerm.error_code, "message": str(message)}:
                raise StaleTerm(message)
            case {"error": _, "message": str(message)}:
                raise EngineUnavailable(message)
            case _:
                return answer

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> Frame:
        while True:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the node has closed the connection")
            try:
                frames = self._reader.feed(data)
            except BadFrame as error:
                raise ConnectionError(str(error)) from error
            if frames:
                return frames[0]
