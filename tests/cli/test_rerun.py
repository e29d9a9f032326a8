"""`tidemill rerun` and `results --chain` over real HTTP."""

import json
from collections.abc import Callable

import pytest

from .conftest import Ended, Reply, WireServer

ORIGIN = "11111111-1111-4222-8333-944455556666"
ID = "7f3c2a9e-1111-4222-8333-944455556666"
POST = f"POST /v0/jobs/etl/executions/{ORIGIN}/rerun"
CREATED = Reply(body={"executionId": ID, "jobId": "etl"})
FOUND = Reply(body={"metadata": {"id": ORIGIN, "job": "etl"}, "status": "failed"})

Tidemill = Callable[..., Ended]


def body(wire: WireServer) -> object:
    return json.loads(wire.find(POST)[0].body)


def test_an_id_alone_is_enough_and_means_what_failed(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on("GET /v0/executions/11111111", FOUND)
    wire.on(POST, CREATED)
    ended = tidemill("rerun", "11111111")
    assert (ended.code, ended.out) == (0, f"{ID}\n")
    assert body(wire) == {"select": "failed"}
    assert wire.find(POST)[0].headers["idempotency-key"]


@pytest.mark.parametrize(
    ("words", "select"),
    [
        (("--not-succeeded",), "not_succeeded"),
        (("--status", "cancelled"), {"status": ["cancelled"]}),
        (("--exit-code", "3", "--exit-code", "4"), {"exitCode": [3, 4]}),
        (("--failed", "--reason", "OutOfMemory"), {"reason": ["OutOfMemory"], "status": ["failed"]}),
        (("--indices", "1,5-9"), {"indices": ["1", "5-9"]}),
    ],
)
def test_filters_become_a_selection(
    wire: WireServer, tidemill: Tidemill, words: tuple[str, ...], select: object
) -> None:
    wire.on(POST, CREATED)
    assert tidemill("rerun", "etl", ORIGIN, *words).code == 0
    assert body(wire) == {"select": select}


def test_what_differs_is_sent_and_wait_shows_how_it_ends(wire: WireServer, tidemill: Tidemill) -> None:
    wire.on(POST, CREATED)
    ended = {"metadata": {"id": ID, "job": "etl"}, "status": "succeeded", "stats": {"total": 2, "success": 2}}
    wire.on(f"GET /v0/jobs/etl/executions/{ID}", Reply(body=ended))
    how = ("--revision", "latest", "--memory", "4096", "--timeout", "60", "--env", "FIXED=1")
    done = tidemill("rerun", ORIGIN, "--job", "etl", *how, "--wait")
    assert done.code == 0
    assert "2 of 2 tasks succeeded" in done.out
    assert body(wire) == {
        "select": "failed",
        "revision": "latest",
        "memory": 4096,
        "timeout": 60,
        "env": {"FIXED": "1"},
    }


def test_words_that_contradict_each_other_are_a_usage_error(wire: WireServer, tidemill: Tidemill) -> None:
    assert tidemill("rerun", ORIGIN, "--failed", "--status", "cancelled").code == 2
    assert tidemill("rerun", "etl", ORIGIN, "--job", "etl").code == 2
    assert tidemill("results", ORIGIN, "--chain", "--follow").code == 2
    assert wire.seen == []


def test_results_of_a_chain_are_asked_for(wire: WireServer, tidemill: Tidemill) -> None:
    results = f"GET /v0/jobs/etl/executions/{ORIGIN}/results"
    wire.on(results, Reply(body=b'{"index":0,"status":"succeeded","executionId":"x","result":1}\n'))
    assert '"executionId":"x"' in tidemill("results", "etl", ORIGIN, "--chain").out.replace(": ", ":")
    assert wire.find(results)[0].query == {"chain": "true"}
