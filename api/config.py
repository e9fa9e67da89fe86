"""The `serve` section: where the REST API listens, and what one request may take."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServeConfig(BaseModel):
    """The REST API, a process of its own (`dl serve`). Other machines reach it with a token only (`dl token`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False, description="Whether the daemon runs it, as a process that it starts again where it fails."
    )
    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; any but loopback asks for a token."
    )
    port: int = Field(default=8572, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names under which other machines reach it (the Host header), beside addresses: lake.example.org.",
    )
    max_rows: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Rows of one answer in JSON; other formats are streamed.",
    )
    reads_at_once: int = Field(
        default=4, ge=1, le=64, description="Answers that are read at the same time; further ones are refused (429)."
    )
    upload_mb: int = Field(
        default=512, ge=1, le=100_000, description="Size of a file that may be sent; it is kept in /tmp until read."
    )
    sql: bool = Field(
        default=False,
        description="Whether SQL may be asked over HTTP, with a token: each query in a process of its own.",
    )
    answer_seconds: float = Field(
        default=300.0, ge=1, le=86_400, description="How long one answer may take; what takes longer is cut off."
    )
