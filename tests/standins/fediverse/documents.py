"""The JSON documents of the platform's interface, built from the state."""

from __future__ import annotations

import typing as t

from fediverse.state import Medium, Post, State

Json = dict[str, t.Any]


def medium_json(medium: Medium, base: str) -> Json:
    """Return an attachment."""
    url = f"{base}/media/{medium.id}.png"
    return {
        "id": medium.id,
        "type": "image",
        "url": url,
        "preview_url": url,
        "description": medium.description,
        "blurhash": None,
        "meta": {"original": {"width": medium.edge, "height": medium.edge}},
    }


def account_json(state: State, base: str) -> Json:
    """Return the one account there is."""
    return {
        "id": state.account_id,
        "username": state.username,
        "acct": state.username,
        "display_name": state.username,
        "url": f"{base}/@{state.username}",
        "statuses_count": len(state.posts),
    }


def status_json(state: State, post: Post, base: str) -> Json:
    """Return a post."""
    url = f"{base}/p/{state.username}/{post.id}"
    return {
        "id": post.id,
        "uri": url,
        "url": url,
        "content": post.content,
        "text": post.content,
        "created_at": post.created_at,
        "visibility": "public",
        "language": "en",
        "account": account_json(state, base),
        "media_attachments": [medium_json(medium, base) for medium in post.media],
    }


def instance_json(state: State) -> Json:
    """Return the description of the server."""
    return {
        "uri": "fediverse.stand-in",
        "title": "Fediverse stand-in",
        "description": "A fake platform for tests",
        "version": "4.3.0" if state.software == "mastodon" else "3.5.3 (compatible; Pixelfed 0.12)",
    }


def nodeinfo_links(base: str) -> Json:
    """Return the pointer to the node information."""
    rel = "http://nodeinfo.diaspora.software/ns/schema/2.0"
    return {"links": [{"rel": rel, "href": f"{base}/nodeinfo/2.0"}]}


def nodeinfo_json(state: State) -> Json:
    """Return the node information."""
    return {
        "version": "2.0",
        "software": {"name": state.software, "version": "0"},
        "protocols": ["activitypub"],
        "usage": {"users": {"total": 1}, "localPosts": len(state.posts)},
        "openRegistrations": False,
        "metadata": {},
    }
