"""Lets Schemathesis hold a real server to the description that it serves.

`make fuzz` runs this module for three minutes on a server of its own; test_described.py runs less of it, always alike.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.drive import ROOT, Server, until

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
ST: Final = Path(sys.executable).with_name("st")
GRACE_S: Final = 120
ELSEWHERE: Final = (
    r"^/(login|device|v0/(oauth|login|users|profile|service_accounts|workspaces|keys|audit|\.well-known))"
)
"""Operations that end or change the credential that the requests are sent with, and pages for people: their own tests
(api/test_identity.py, test_tokens.py, test_device_login.py, test_keys.py, test_token_fuzz.py) send them what is odd."""
EVERY_LIMIT: Final = ("coverage",)
DRAWN: Final = ("fuzzing", "stateful")
_SOURCE: Final = {
    "blaxel.toml": 'type = "job"\nname = "origin"\n[entrypoint]\nprod = "sh main.sh"\n[runtime]\nmemory = 64\n',
    "main.sh": 'echo said; [ "$TASK_INDEX" != 1 ]\n',
}
ENDED: Final = "ended-with-a-failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much is tried. ``examples``: cases of each operation; ``most_s``: seconds in all, None for no limit.

    ``methods``: of operations with these only, empty for all.
    """

    seed: int
    examples: int
    phases: tuple[str, ...]
    methods: tuple[str, ...] = ()
    most_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run found. ``checks``: how often each check held and failed; ``said``: all that Schemathesis printed."""

    seed: int
    operations: int
    cases: int
    answers: Counter[int]
    links: str
    checks: Counter[tuple[str, str]]
    excepted: int
    took_s: float
    failures: tuple[str, ...]
    said: str

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.answers.items()))
        lines = [
            f"seed {self.seed}, {self.took_s:.0f} s",
            f"operations {self.operations}, links {self.links}, cases {self.cases}",
            f"answers {statuses}",
            *(
                f"  {name:<32} held {self.checks[name, 'success']:>6}  failed {self.checks[name, 'failure']:>3}"
                for name in sorted({name for name, _ in self.checks})
            ),
            f"let pass for a reason in hooks.py: {self.excepted}",
            f"failures {len(self.failures)}",
            *(f"  {each}" for each in self.failures),
        ]
        return "\n".join(lines)


def prepared(server: Server, folder: Path) -> None:
    """Deploy the job whose image those that Schemathesis makes name, and end an execution that can be run again."""
    source = folder / "origin"
    source.mkdir()
    for name, text in _SOURCE.items():
        (source / name).write_text(text)
    server.cli("deploy", str(source))
    with server.http() as http:
        # a job of its own, which no request names on purpose and so none deletes
        job = {"metadata": {"name": "kept"}, "spec": {"runtime": {"image": "job/origin", "memory": 64}}}
        assert http.post("/jobs", json=job).status_code == 200
        started = http.post("/jobs/kept/executions", json={"executionId": ENDED, "tasks": [{}, {}]})
        assert started.status_code == 200
        until(lambda: http.get(f"/jobs/kept/executions/{ENDED}").json()["status"] == "failed")


def fuzz(server: Server, folder: Path, budget: Budget, *, description: Path | None = None) -> Report:
    """Run Schemathesis on ``server``, which is ``prepared``; its reports go to ``folder``.

    ``description``: a file to hold the server to instead of what it serves.
    """
    events, summary = folder / "events.ndjson", folder / "summary.json"
    words: list[str | Path] = [ST, "--config-file", CONFIG, "run", description or f"{server.url}/v0/openapi.json"]
    words += ["--no-color"] if description is None else ["--no-color", "--url", server.url]
    words += ["--seed", str(budget.seed), "--max-examples", str(budget.examples), "--phases", ",".join(budget.phases)]
    words += ["--report-ndjson-path", events, "--report-json-path", summary]
    words += [word for method in budget.methods for word in ("--include-method", method)]
    words += ["--exclude-path-regex", ELSEWHERE]
    words += [] if budget.most_s is None else ["--max-time", str(budget.most_s)]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "FUZZ_API_KEY": server.credentials["BL_API_KEY"]},
        capture_output=True,
        text=True,
        timeout=(budget.most_s or 0) + 2 * GRACE_S,
        check=False,
    )
    found = json.loads(summary.read_text()) if summary.is_file() else {"complete": False}
    assert found["complete"], (
        f"Schemathesis ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return _report(found, events, done.stdout)


def _report(summary: dict[str, Any], events: Path, said: str) -> Report:
    checks, answers = Counter[tuple[str, str]](), Counter[int]()
    for recorder in _recorded(events):
        checks.update((each["name"], each["status"]) for found in recorder.get("checks", {}).values() for each in found)
        for each in recorder.get("interactions", {}).values():
            answers[each["response"]["status_code"] if each.get("response") else 0] += 1
    covered = next((line.partition(":")[2].strip() for line in said.splitlines() if "API Links:" in line), "none")
    wrong = [f"{each['title']}: {', '.join(each['operations'])}" for each in summary["failures"]]
    return Report(
        seed=summary["seed"],
        operations=summary["operations"]["tested"],
        cases=summary["test_cases"]["generated"],
        answers=answers,
        links=covered,
        checks=checks,
        excepted=summary["filtered"],
        took_s=summary["running_time"],
        failures=(*wrong, *(f"{each['title']} ({each['count']})" for each in summary["errors"])),
        said=said,
    )


def _recorded(events: Path) -> Iterator[dict[str, Any]]:
    with events.open() as lines:
        for line in lines:
            if finished := json.loads(line).get("ScenarioFinished"):
                yield finished["recorder"]


def main() -> int:
    """Fuzz a fresh server; 1 when it did not answer as described."""
    arguments = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    arguments.add_argument("--seconds", type=int, default=180)
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidemill-fuzz-") as name:
        folder = Path(name)
        server = Server(folder / "data", {"TIDEMILL_KILL_GRACE_S": "1"})
        server.start()
        try:
            prepared(server, folder)
            # each limit of each member once, however long that takes; then what is drawn, for the rest of the time
            limits = fuzz(server, folder, Budget(seed=asked.seed, examples=1, phases=EVERY_LIMIT))
            left_s = max(asked.seconds // 3, round(asked.seconds - limits.took_s))
            drawn = fuzz(server, folder, Budget(seed=asked.seed, examples=40, phases=DRAWN, most_s=left_s))
        finally:
            server.stop()
    for report in (limits, drawn):
        if report.failures:
            print(report.said)
    print(f"every limit of every member\n{limits}\n\nwhat is drawn, and what answers lead to\n{drawn}")
    return 1 if limits.failures or drawn.failures else 0


if __name__ == "__main__":
    sys.exit(main())
