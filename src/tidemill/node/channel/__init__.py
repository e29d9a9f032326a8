"""How a server and its node talk: frames over a Unix socket, a question and an answer at a time on each connection.

A question is ``{"call": NAME, ...}``; an answer is ``{"ok": ...}`` or ``{"error": CODE, "message": TEXT}``, CODE being
``STALE_TERM`` or ``ENGINE_UNAVAILABLE``. Calls are those of the Engine protocol, ``drain`` and ``detach`` besides.
"""
