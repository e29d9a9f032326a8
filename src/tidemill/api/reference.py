"""/docs: the served description as a page. All that it needs comes from this server, and its policy allows no more."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from tidemill.model.errors import NotFound

router = APIRouter()


def _bundle() -> Path:
    """Where the files of Swagger UI lie: fastapi-offline ships them; nothing of its code is used, or even imported."""
    spec = find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"


_FILES: Final[Mapping[str, str]] = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_BUNDLE: Final = _bundle()
_HEADERS: Final[Mapping[str, str]] = {
    # Swagger UI sets styles on elements and has its icons as data; scripts and requests are this server's alone
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidemill: the HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs scripts; <a href="/v0/openapi.json">/v0/openapi.json</a> says the same.</noscript>
<main id="api"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# no validator: it would send the document to another site
_START: Final = """SwaggerUIBundle({
  url: "/v0/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  filter: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
});
"""


@router.get("/docs")
async def get_page() -> Response:
    return Response(_PAGE, media_type="text/html", headers=dict(_HEADERS))


@router.get("/docs/{file}")
async def get_file(file: str) -> Response:
    """What the page is made of, by name. Raises NotFound for any other name, so that no path leads elsewhere."""
    if file == "start.js":
        return Response(_START, media_type="text/javascript", headers=dict(_HEADERS))
    if file in _FILES:
        return FileResponse(_BUNDLE / file, media_type=_FILES[file], headers=dict(_HEADERS))
    raise NotFound("there is nothing at this path")
