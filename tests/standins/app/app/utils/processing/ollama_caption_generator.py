"""Captions from Ollama (contract, section 7)."""

from __future__ import annotations

import asyncio
import base64
import logging
import typing as t
from pathlib import Path

import httpx
from config import OllamaConfig

logger = logging.getLogger(__name__)

_PROMPT = "Describe this image for someone who cannot see it, in one or two sentences."
_ATTEMPTS = 3


class CaptionError(Exception):
    """No model gave a caption."""


class OllamaCaptionGenerator:
    """Asks the configured model, then the backup model."""

    def __init__(self, config: OllamaConfig) -> None:
        self.config = config
        self._base = config.url.rstrip("/")

    async def initialize(self) -> None:
        """Check that the model is there; a missing one is only worth a warning."""
        async with httpx.AsyncClient(timeout=self.config.timeout) as client:
            for _ in range(2):  # upstream asks twice
                tags = (await client.get(f"{self._base}/api/tags")).raise_for_status().json()
        names = [model["name"] for model in tags["models"]]
        if self.config.model_name not in names:
            logger.warning("Model %s not found in Ollama: %s", self.config.model_name, names)

    async def generate_caption(self, image_path: str) -> str:
        """Return a caption for an image file."""
        image = base64.b64encode(Path(image_path).read_bytes()).decode()
        for model in filter(None, (self.config.model_name, self.config.backup_model)):
            caption = await self._ask(model, image)
            if caption:
                return caption
        msg = "Ollama gave no caption"
        raise CaptionError(msg)

    async def _ask(self, model: str, image: str) -> str | None:
        body: dict[str, t.Any] = {
            "model": model,
            "prompt": _PROMPT,
            "images": [image],
            "stream": False,
            "options": {"num_ctx": self.config.context_size},
        }
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(2.0 ** (attempt - 1))
            try:
                async with httpx.AsyncClient(timeout=self.config.timeout) as client:
                    response = await client.post(f"{self._base}/api/generate", json=body)
            except httpx.TransportError as exc:
                logger.warning("Ollama request failed: %s", type(exc).__name__)
                continue
            if response.status_code < 500:
                break
        else:
            return None
        if response.status_code != 200:
            logger.warning("Ollama answered %s for model %s", response.status_code, model)
            return None
        return str(response.json().get("response", "")).strip() or None
