"""Serves the page: the files of this folder, held in memory, with what browsers need to trust and to keep them."""

import hashlib
from pathlib import Path
from typing import Any

from litestar import HttpMethod, MediaType, Request, Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from gateways.api.errors import ApiError

FOLDER = Path(__file__).parent
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Of the files that are served, and no others."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text can then not become markup, whatever a script does with it
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # keep it, but ask each time: its ETag tells whether it is still so
}


class Asset(Struct, frozen=True):
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str


def assets() -> dict[str, Asset]:
    """The page's files by name."""
    return {path.name: _asset(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def page_routes() -> list[HTTPRouteHandler]:
    """`/`, `/docs`, and the files that they name."""
    files = assets()

    @route("/", http_method=[HttpMethod.GET, HttpMethod.HEAD], include_in_schema=False)
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _served(files["index.html"], request)

    @route("/docs", http_method=[HttpMethod.GET, HttpMethod.HEAD], include_in_schema=False)
    async def docs(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _served(files["docs.html"], request)

    @route("/web/{name:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD], include_in_schema=False)
    async def file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        if name not in files:
            raise ApiError(404, "not_found", f"the page has no file {name}")
        return _served(files[name], request)

    return [page, docs, file]


def _served(asset: Asset, request: Request[Any, Any, Any]) -> Response[bytes]:
    headers = {**HEADERS, "ETag": asset.etag}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if asset.etag in known:
        return Response(b"", status_code=304, headers=headers, media_type=MediaType.TEXT)
    if request.method == HttpMethod.HEAD:
        headers["Content-Length"] = str(len(asset.content))
        return Response(b"", headers=headers, media_type=asset.media_type)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
