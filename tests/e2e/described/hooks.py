"""What Schemathesis has to be told of this API: how a source archive looks, where its address leads, what may pass.

Schemathesis imports this module itself (schemathesis.toml).
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import RejectedPositiveData

Case: TypeAlias = "schemathesis.Case[Any]"
IMAGE: Final = "job/origin"

# how messages begin that refuse what the description allows, and why no schema can say it
REFUSALS: Final[Mapping[str, str]] = {
    # what the server holds
    r"spec\.runtime\.image is .*; workspace 'default' has no such image": "images come and go",
    r"spec\.runtime\.dockerConfig .*": "credentials for the image's registry",
    r"job .* has no image: deploy its source": "a first deploy brings bytes or names an image",
    r"spec\.region is .*; the regions are": "a setting of the server",
    r"spec\.revision\.(active|canary) is .*": "revisions come and go",
    r"spec\.runtime\.memory is .*, what the biggest node has for tasks": "nodes come and go",
    r"memory is .*; it must be 16 ": "the most is what the execution's job, or for a rerun the biggest node has",
    r"spec\.runtime\.envs\[\d+\]\.value is the mask": "it stands for a value that is there already",
    r"select names no task of execution": "how its tasks ended",
    r"select\.indices has \d+; the tasks of execution": "how many tasks it has",
    r"spec\.triggers\[\d+\]\.configuration\.callbackUrl is .*": "a public host, on a port of HTTP or a free one",
    r"spec\.triggers\[\d+\]\.configuration\.schedule is .*": "each field has bounds of its own",
    r"cursor does not belong to this query": "only what a page gave is a cursor",
    r"execution '.{8,}' is not unique": "several begin with it",
    # two members of one request that must fit each other
    r"metadata\.name is .*, but the path says": "a job keeps its name",
    r"spec\.runtime\.envs has .* twice": "of two entries one would be lost",
    r"spec\.volumes\[\d+\]\.mountPath is .*; each path may be there once": "the second would hide the first",
    r"spec\.runtime\.retryPolicy\.maxSeconds is .*; it must be initialSeconds": "the longest wait is no shorter",
    r"unknown members: ": "only with strict=true",
    r"anchor is 'end'; it may only be 'end', with a sort by createdAt": "the end of an order by time",
    r"chain and follow are both true": "a chain is told as it is now",
    r"select\.indices has ' *\d+-\d+ *'": "a range goes up",
}
# what one range of versions knows and the other one leaves unread (docs/wire.md, Versions and lists)
OF_NEW_VERSIONS: Final = frozenset({"sort", "q", "anchor", "cursor"})
OF_OLD_VERSIONS: Final = frozenset({"offset"})
LAST_OLD_VERSION: Final = "2026-04-27"


@schemathesis.hook
def filter_failure(ctx: schemathesis.HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether a failure counts."""
    if isinstance(failure, RejectedPositiveData):
        return not _is_refused_for_a_reason(response)
    if isinstance(failure, AcceptedNegativeData):
        return not (_is_left_unread(case, response) or _is_an_image_beside_bytes(case))
    return True


def _is_refused_for_a_reason(response: Response) -> bool:
    message = json.loads(response.content)["message"] if response.status_code == 400 else ""
    return any(re.match(pattern, message, re.DOTALL) for pattern in REFUSALS)


def _is_left_unread(case: Case, response: Response) -> bool:
    """Whether nothing is wrong but parameters that the version of the request does not know."""
    sent = response.request.headers.get("Blaxel-Version") or ""
    unread = OF_NEW_VERSIONS if str(sent) <= LAST_OLD_VERSION else OF_OLD_VERSIONS
    return case.path.endswith(("/jobs", "/executions")) and bool(wrong := _wrong_parameters(case)) and wrong <= unread


def _is_an_image_beside_bytes(case: Case) -> bool:
    """Whether nothing is wrong but an image that is not read: with ``upload=true`` the bytes are it."""
    data = case.meta.phase.data if case.meta is not None else None
    wrong = getattr(data, "description", None) or ""
    return (
        str(case.query.get("upload")).lower() == "true"
        and re.search(r"runtime\W+(properties\W+)?image\b", wrong) is not None
    )


def _wrong_parameters(case: Case) -> set[str]:
    """The names of what was made wrong on purpose."""
    data = case.meta.phase.data if case.meta is not None else None
    names = {getattr(each, "parameter", None) for each in getattr(data, "mutations", ())}
    return {name for name in {*names, getattr(data, "parameter", None)} if name}


@schemathesis.hook
def before_load_schema(ctx: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """The address of an upload is a header of the answer to a deploy; standard links cannot take it apart."""
    expression = r"$response.header.X-Blaxel-Upload-Url#regex:/uploads/(.+)"
    link = {"operationId": "put_uploads_capability", "parameters": {"capability": expression}}
    for path, method in (("/v0/jobs", "post"), ("/v0/jobs/{name}", "put")):
        if operation := raw_schema["paths"].get(path, {}).get(method):
            operation["responses"]["200"]["links"]["upload"] = link


@schemathesis.hook
def map_body(ctx: schemathesis.HookContext, body: Any) -> Any:
    """A job that would have none names an image: it runs, and what it leads to can be asked for.

    What was made wrong on purpose stays so: only what is absent or null is filled.
    """
    if ctx.operation is None or ctx.operation.label != "POST /v0/jobs" or not isinstance(body, dict):
        return body
    spec = {} if body.get("spec") is None else body["spec"]
    if not isinstance(spec, dict):
        return body
    runtime = {} if spec.get("runtime") is None else spec["runtime"]
    if not isinstance(runtime, dict) or runtime.get("image") is not None:
        return body
    return {**body, "spec": {**spec, "runtime": {**runtime, "image": IMAGE}}}


def _archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("blaxel.toml", '[entrypoint]\nprod = "/bin/true"\n')
    return packed.getvalue()


schemathesis.openapi.media_type("application/zip", st.just(_archive()))
