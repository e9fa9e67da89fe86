"""Settings of the transformer: how often it looks, how long a bar waits for late trades, how much it takes at once."""

from pydantic import BaseModel, ConfigDict, Field


class TransformerConfig(BaseModel):
    """From sealed segments to Parquet parts and provisional bars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_seconds: float = Field(default=5.0, gt=0, le=3600, description="How often sealed segments are looked for.")
    lateness_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="How long after a bar's window ends its trades may still arrive; what comes later is counted as "
        "late and reaches the bar when its hour is merged.",
    )
    max_job_mb: int = Field(
        default=64, ge=1, le=1024, description="Most megabytes of segments that one job reads at once."
    )
    max_failures: int = Field(
        default=3, ge=1, le=100, description="After so many failures a segment is set aside with its error and a gap."
    )
