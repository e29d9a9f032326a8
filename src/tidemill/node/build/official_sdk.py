"""A Python image that contains the official SDK points it at the server that runs it, without a word in the program.

Contract 1.4: the SDK reads no address from the environment, so what a task calls would be the hosted service. A
``.pth`` file beside the installed package is read by every start of the image's interpreter and loads
``tidemill/blaxel.py``, of which the image has a copy: it contains no tidemill, and moves from place to place.
See docs/decisions/0097.
"""

import sys
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).parents[2] / "blaxel.py"
_MODULE: Final = "_tidemill_blaxel"
# outside a task, where nobody names a server, the SDK stays as it is
_LINE: Final = f"import os; os.environ.get('BL_API_URL') and __import__({_MODULE!r})\n"


def point_sdk(environment: Path) -> None:
    """Write the two files into the virtual ``environment`` if the package ``blaxel`` is installed in it."""
    for package in environment.glob("lib/python3*/site-packages/blaxel/__init__.py"):
        folder = package.parents[1]
        (folder / f"{_MODULE}.py").write_bytes(_SOURCE.read_bytes())
        (folder / f"{_MODULE}.pth").write_text(_LINE, encoding="utf-8")
        sys.stdout.write("blaxel is installed: it is pointed at the server that BL_API_URL names\n")
