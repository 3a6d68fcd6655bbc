"""Headers on every answer: pages run only the hub's own scripts and are framed by nobody else. A script or style is
asked for anew with every page: left to themselves, browsers keep one for a tenth of its age, over a new release too.

Plain ASGI, because middleware that wraps the body would hold back event streams.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SafeHeaders:
    """`framed_url`: the one foreign page the hub shows in a frame, a demo's simulated line controller."""

    def __init__(self, app: ASGIApp, framed_url: str | None) -> None:
        self._app = app
        frames = "'none'"
        if framed_url:
            parts = urlsplit(framed_url)
            frames = f"{parts.scheme}://{parts.netloc}"
        self._policy = (
            "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
            f"base-uri 'none'; form-action 'self'; frame-ancestors 'self'; frame-src {frames}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "same-origin")
                if scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
