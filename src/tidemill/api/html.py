"""The few pages that are made here: text, forms, one style. No scripts; the policy allows none."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from starlette.responses import Response

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; display: grid; place-items: center; min-height: 100vh; }
main { width: min(24rem, calc(100vw - 3rem)); padding: 2rem 0; }
h1 { font-size: 1.4rem; }
label { display: block; margin: 1rem 0; }
input, select { display: block; box-sizing: border-box; width: 100%; margin-top: .25rem; }
input, select { padding: .5rem; font: inherit; }
button { margin: .5rem .5rem .5rem 0; padding: .5rem 1rem; font: inherit; cursor: pointer; }
.button { display: inline-block; padding: .5rem 1rem; border: 1px solid; color: inherit; text-decoration: none; }
.told { border-left: .25rem solid currentColor; padding-left: .75rem; }
code { font-size: 1.1em; }
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page(title: str, body: Iterable[str], status: int = 200, onward: str = "") -> Response:
    """A page of these pieces of HTML, which are escaped already. ``onward`` is a path that the browser asks for next.

    Unlike a redirect that is a step of our own, whichever site the browser came from: Strict cookies go with it.
    """
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(onward)}">\n' if onward else ""
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)} · Tidemill</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n'
        f"{refresh}</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n{''.join(body)}</main>\n</body>\n</html>\n"
    )
    return Response(text, status_code=status, media_type="text/html", headers=dict(_HEADERS))


def told(text: str) -> str:
    """A sentence that must not be overlooked."""
    return f'<p class="told" role="alert">{escape(text)}</p>\n'


def line(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def link(label: str, path: str, kind: str = "") -> str:
    """``kind``: "button" for one that looks like that."""
    looks = f' class="{escape(kind)}"' if kind else ""
    return f'<p><a href="{escape(path)}"{looks}>{escape(label)}</a></p>\n'


def form(action: str, fields: Iterable[str], hidden: Mapping[str, str]) -> str:
    """A form that is posted to ``action``."""
    kept = "".join(f'<input type="hidden" name="{escape(n)}" value="{escape(v)}">\n' for n, v in hidden.items())
    return f'<form method="post" action="{escape(action)}">\n{kept}{"".join(fields)}</form>\n'


def field(label: str, name: str, *, kind: str = "text", complete: str = "off", value: str = "") -> str:
    return (
        f'<label>{escape(label)}<input name="{escape(name)}" type="{escape(kind)}" value="{escape(value)}" '
        f'autocomplete="{escape(complete)}" required></label>\n'
    )


def choice(label: str, name: str, values: Iterable[tuple[str, str]]) -> str:
    """``values``: what is sent, and what is shown for it."""
    options = "".join(f'<option value="{escape(sent)}">{escape(shown)}</option>' for sent, shown in values)
    return f'<label>{escape(label)}<select name="{escape(name)}">{options}</select></label>\n'


def button(label: str, name: str = "", value: str = "") -> str:
    what = f' name="{escape(name)}" value="{escape(value)}"' if name else ""
    return f'<button type="submit"{what}>{escape(label)}</button>\n'
