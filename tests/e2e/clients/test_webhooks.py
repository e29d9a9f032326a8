"""Official SDKs, unmodified from their registries, verify what receivers of callbacks are sent."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.clients import install
from tidemill.model.execution import Stats
from tidemill.model.states import ExecutionState
from tidemill.outgoing import webhook
from tidemill.outgoing.webhook import Told

# the first test of a fresh checkout installs the clients
pytestmark = pytest.mark.timeout(600)

SECRET: Final = "tmc_" + "s" * 43
PYTHON: Final = str(install.HERE / "python" / "webhook.py")
VERIFIERS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "python": lambda: [sys.executable, "-W", "ignore", PYTHON],
    "python-0.2.39": lambda: [str(install.python("python-0.2.39")), "-W", "ignore", PYTHON],
    "typescript": lambda: script("typescript"),
    "typescript-0.2.89": lambda: script("typescript-0.2.89"),
}


def script(name: str) -> list[str]:
    node, lifecycle = install.typescript(name)
    return [node, str(Path(lifecycle).with_name("webhook.mjs"))]


def sent(at: int, execution: str = "1b4e28ba-2fa1") -> dict[str, object]:
    stats = Stats(total=3, pending=0, running=0, succeeded=2, failed=1, cancelled=0, retried=4)
    data = webhook.body(Told(execution=execution, status=ExecutionState.FAILED, code=500, stats=stats), at)
    headers = {name.lower(): value for name, value in webhook.headers(data, SECRET, at).items()}
    return {"body": data.decode(), "headers": headers, "secret": SECRET}


@pytest.mark.parametrize("name", VERIFIERS)
def test_what_is_sent_is_verified_and_what_was_changed_is_not(name: str) -> None:
    now = int(time.time())
    good = sent(now)
    other = sent(now, "another-one")
    cases = [
        (good, True),
        (sent(now - 250), True),
        ({**good, "secret": f"{SECRET}x"}, False),
        ({**good, "body": str(good["body"]).replace("500", "200")}, False),
        ({**good, "headers": other["headers"]}, False),
        (sent(now - 1_000), False),
        (sent(now + 1_000), False),
    ]
    done = subprocess.run(
        VERIFIERS[name](),
        input=json.dumps([case for case, _ in cases]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [right for _, right in cases]
