"""The page at / for administrators: its three files, served from beside this one. And /docs.

Both name what they load relative to themselves: a proxy may have put them below a path.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

PATHS = ("/", "/page.css", "/page.js")
"""Open without a key: nothing but the page itself."""

_FOLDER = Path(__file__).parent
# Own files only; marks get their colour by script.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src 'self'; "
    "style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


def _file(name: str, media_type: str) -> Response:
    return Response((_FOLDER / name).read_bytes(), media_type=media_type, headers=_HEADERS)


@router.get("/")
async def page() -> Response:
    """Paste or drop a message, see verdict, words and what was read."""
    return _file("index.html", "text/html; charset=utf-8")


@router.get("/page.css")
async def style() -> Response:
    """How it looks."""
    return _file("page.css", "text/css; charset=utf-8")


@router.get("/page.js")
async def script() -> Response:
    """What it does."""
    return _file("page.js", "text/javascript; charset=utf-8")


@router.get("/docs")
async def docs() -> Response:
    """Every endpoint, to try."""
    return get_swagger_ui_html(
        title="spamgate",
        openapi_url="openapi.json",
        swagger_js_url="static-offline-docs/swagger-ui-bundle.js",
        swagger_css_url="static-offline-docs/swagger-ui.css",
        swagger_favicon_url="static-offline-docs/favicon.png",
    )
