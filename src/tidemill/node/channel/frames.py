"""A frame: two big-endian lengths of 32 bits, that many bytes of JSON, that many bytes as they are."""

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME_BYTES: Final = 512 << 20
_LENGTHS: Final = struct.Struct(">II")
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Document = dict[str, Any]
"""JSON where it enters: nothing is known of it before the codec has read it."""


class BadFrame(ValueError):
    """What came is no frame, or too long for one; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Frame:
    document: Document
    tail: bytes = b""


def encode(frame: Frame) -> bytes:
    text = _to_json(frame.document).encode("utf-8", "surrogatepass")
    return _LENGTHS.pack(len(text), len(frame.tail)) + text + frame.tail


class FrameReader:
    """Puts frames together from the pieces that a socket gives."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Raises BadFrame."""
        self._data += data
        frames: list[Frame] = []
        while len(self._data) >= _LENGTHS.size:
            text_size, tail_size = _LENGTHS.unpack_from(self._data)
            end = _LENGTHS.size + text_size + tail_size
            if end > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {end} bytes; at most {MAX_FRAME_BYTES} are taken")
            if len(self._data) < end:
                break
            middle = _LENGTHS.size + text_size
            frames.append(Frame(_parse(bytes(self._data[_LENGTHS.size : middle])), bytes(self._data[middle:end])))
            del self._data[:end]
        return frames


def _parse(text: bytes) -> Document:
    try:
        document = json.loads(text.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise BadFrame(f"a frame without JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadFrame("a frame whose JSON is no object")
    return document
