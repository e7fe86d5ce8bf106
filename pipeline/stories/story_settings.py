"""Settings of the provider ``openai``: ``GPUCAPT_STORY_<NAME>``, else the variables of OpenAI's library."""

from __future__ import annotations

import os

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import WrongUsage


class StorySettings(BaseSettings):
    """An endpoint that speaks OpenAI's protocol, and how it shall tell stories."""

    model_config = SettingsConfigDict(env_prefix="GPUCAPT_STORY_", env_ignore_empty=True, extra="ignore")

    base_url: str | None = None
    """Such as ``http://localhost:11434/v1``; None is ``OPENAI_BASE_URL``, else OpenAI itself."""
    api_key: SecretStr | None = None
    """None is ``OPENAI_API_KEY``, but only where ``base_url`` is not set: keys go where they belong."""
    model: str | None = None
    """The language model; None is the only one that the endpoint has."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """How freely it tells: 0 always says what is likeliest."""
    length: int = Field(default=180, ge=10, le=5000)
    """About how many words a turn shall have."""
    context: int = Field(default=4096, ge=1024)
    """Tokens that the model can see, question and answer together."""
    timeout: float = Field(default=120.0, gt=0, le=10.0**6)
    """Seconds that a turn may take, repetitions included."""
    retries: int = Field(default=4, ge=0, le=100)
    """How often a request that fails for a passing reason is repeated."""

    @property
    def where(self) -> str:
        """The endpoint's address."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"

    @property
    def key(self) -> str | None:
        """The key for it, if there is one."""
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        return None if self.base_url else os.environ.get("OPENAI_API_KEY") or None

    @property
    def is_configured(self) -> bool:
        """Whether the environment says anything about an endpoint."""
        return self.key is not None or self.where != "https://api.openai.com/v1"


def require_endpoint(settings: StorySettings) -> None:
    """Raise WrongUsage where nothing says which endpoint to ask, or what is said is no address."""
    if not settings.is_configured:
        raise WrongUsage(
            "the provider openai wants an endpoint: set GPUCAPT_STORY_BASE_URL to its address,"
            " or OPENAI_API_KEY to a key of OpenAI's"
        )
    if not settings.where.startswith(("http://", "https://")):
        name = "GPUCAPT_STORY_BASE_URL" if settings.base_url else "OPENAI_BASE_URL"
        raise WrongUsage(f"{name} must begin with http:// or https://, such as http://localhost:11434/v1")


def story_settings() -> StorySettings:
    """The settings as the environment has them now. Raises WrongUsage for what makes no sense."""
    try:
        return StorySettings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "GPUCAPT_STORY_" + "_".join(map(str, wrong["loc"])).upper()
        raise WrongUsage(f"{name} is {wrong['input']!r}: {wrong['msg'].lower()}") from error
