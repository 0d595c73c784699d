"""Calls to the platforms (contract, section 8)."""

from __future__ import annotations

import asyncio
import typing as t

import httpx
from config import RetryConfig
from models import PlatformConnection

_RETRIED = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_PAGE = 40


class ActivityPubClient:
    """Talks to one platform with one user's token."""

    def __init__(self, platform: PlatformConnection, retry: RetryConfig | None = None) -> None:
        self.platform_type = platform.platform_type
        self.base_url = platform.instance_url.rstrip("/")
        self.retry = retry or RetryConfig()
        token = platform.access_token
        if not token:
            msg = "The access token of the platform connection cannot be read"
            raise ValueError(msg)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "User-Agent": "Vedfolnir/1.0",
        }

    async def _request(self, method: str, url: str, **options: t.Any) -> httpx.Response:
        """Send a request, again with growing pauses when the platform is busy or broken."""
        for attempt in range(self.retry.max_attempts):
            if attempt:
                pause = self.retry.base_delay * self.retry.backoff_factor ** (attempt - 1)
                await asyncio.sleep(min(pause, self.retry.max_delay))
            try:
                async with httpx.AsyncClient(timeout=30, follow_redirects=True) as client:
                    response = await client.request(method, url, **options)
            except httpx.TransportError:
                if attempt + 1 == self.retry.max_attempts:
                    raise
                continue
            if response.status_code not in _RETRIED:
                break
        return response

    async def _api(self, method: str, path: str, **options: t.Any) -> httpx.Response:
        return await self._request(method, self.base_url + path, headers=self._headers, **options)

    async def get_user_posts(self, limit: int) -> list[dict[str, t.Any]]:
        """Return up to ``limit`` statuses of the token's account, newest first."""
        account = (await self._api("GET", "/api/v1/accounts/verify_credentials")).raise_for_status()
        path = f"/api/v1/accounts/{account.json()['id']}/statuses"
        params: dict[str, str | int] = {"limit": _PAGE}
        if self.platform_type == "mastodon":
            params |= {"only_media": "true", "exclude_replies": "true", "exclude_reblogs": "true"}
        posts: list[dict[str, t.Any]] = []
        while len(posts) < limit:
            page = (await self._api("GET", path, params=params)).raise_for_status().json()
            posts += page
            if len(page) < _PAGE:
                break
            params["max_id"] = page[-1]["id"]
        return posts[:limit]

    async def download_image(self, url: str) -> tuple[bytes, str]:
        """Return the bytes and the content type of an image; no token is sent."""
        response = (await self._request("GET", url)).raise_for_status()
        content_type = response.headers.get("content-type", "").partition(";")[0]
        if not content_type.startswith("image/"):
            msg = f"Not an image: {content_type}"
            raise ValueError(msg)
        return response.content, content_type

    async def update_media_caption(self, media_id: str, caption: str) -> bool:
        """Set the description of a media attachment; Mastodon has no such call for old posts."""
        if self.platform_type == "mastodon":
            return False
        response = await self._api(
            "PUT", f"/api/v1/media/{media_id}", json={"description": caption}
        )
        # A medium that is gone counts as done.
        return response.status_code in (200, 404)
