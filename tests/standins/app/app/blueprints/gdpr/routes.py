"""GDPR pages: most show something, three answer 500, and no action works (contract, 10)."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app.core.web_context import login_required

gdpr_bp = Blueprint("gdpr", __name__, url_prefix="/gdpr")

_PAGES = (
    "data-export",
    "data-rectification",
    "data-erasure",
    "consent-management",
    "privacy-request",
    "rights-overview",
    "privacy-policy",
)
_BROKEN = ("data-portability", "compliance-report", "data-processing-info")


def _rule(pages: tuple[str, ...]) -> str:
    names = ",".join(f"'{page}'" for page in pages)
    return f"/<any({names}):page>"


@gdpr_bp.get(_rule(_PAGES))
@login_required
def show(page: str) -> ResponseReturnValue:
    """Show a page."""
    return render_template("gdpr.html", page=page)


@gdpr_bp.get(_rule(_BROKEN))
@gdpr_bp.post("/<page>")
@login_required
def broken(page: str) -> ResponseReturnValue:
    """Fail, as upstream does."""
    msg = f"session_scope is not defined for {page}"
    raise AttributeError(msg)
