"""Response headers: a content security policy with a nonce and the usual company."""

from __future__ import annotations

import secrets

from flask import Flask, Response, g, request

_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), camera=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "unsafe-none",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CDN = "https://cdn.jsdelivr.net https://cdnjs.cloudflare.com"


def _policy(nonce: str) -> str:
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}' {_CDN} https://cdn.socket.io https://unpkg.com",
            f"style-src 'self' 'nonce-{nonce}' {_CDN} https://fonts.googleapis.com",
            f"font-src 'self' {_CDN} https://fonts.gstatic.com",
            "img-src 'self' data: https:",
            "connect-src 'self' https://vedfolnir.org wss://vedfolnir.org ws: wss:",
            "frame-ancestors 'none'",
            "upgrade-insecure-requests",
        )
    )


def install(app: Flask) -> None:
    """Give every request a nonce and every response the headers."""

    @app.before_request
    def make_nonce() -> None:
        g.csp_nonce = secrets.token_urlsafe(16)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in _FIXED.items():
            response.headers[name] = value
        response.headers["Content-Security-Policy"] = _policy(g.get("csp_nonce", ""))
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        return response
