"""The whole configuration: the packages' own sections composed, loaded from YAML, `.env` and the environment.

Every section is declared beside what it configures. Whatever is wrong is reported at once, each line with its place:
`config.yml:12:7 collectors.sources[0].symbol unknown key; did you mean 'symbols'?`. The environment wins over `.env`,
which wins over the file, which wins over the defaults (see `daemon.environment`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from api.config import ServeConfig
from collectors.config import CollectorsConfig
from collectors.files.archive.config import ArchivesConfig
from compactor.config import BackupConfig, CompactorConfig, ScrubConfig
from daemon import environment, problems, yaml_file
from daemon.environment import Override
from daemon.errors import ConfigError, NoConfig
from daemon.yaml_file import Document, KeyPath
from lake.refused import cure
from lake.space import Limits
from runtime.addresses import is_loopback
from runtime.redaction import HIDDEN, redacted
from transformer.config import TransformerConfig

_MB = 1024 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkersConfig(_Section):
    """Processes that transform and merge, beside the one that collects."""

    processes: int = Field(default=1, ge=1, le=64, description="Worker processes; each may need 300 MB.")
    recycle_after: int = Field(
        default=500, ge=1, description="Jobs after which idle worker processes are replaced, to give memory back."
    )


class HttpConfig(_Section):
    """Health, metrics and status, on this machine only."""

    enabled: bool = Field(default=True, description="Whether /health, /ready, /metrics and /status are served.")
    host: str = Field(default="127.0.0.1", description="Loopback address to listen on.")
    port: int = Field(default=8571, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if not is_loopback(value):
            raise ValueError(f"{value!r} is no loopback address; status is served on this machine only")
        return value


class LogsConfig(_Section):
    """What is said, and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level shown on the console; the file always has everything."
    )
    file: bool = Field(
        default=True, description="Write JSON lines to logs/ in the lake, a new file at 00:00 UTC, kept 14 days."
    )


class SafeModeConfig(_Section):
    """When the daemon collects raw data only, because it has failed again and again."""

    failed_starts: int = Field(
        default=3, ge=0, le=100, description="Starts that failed in a row, after which the next one is safe; 0: never."
    )
    steady_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="A start is no failed one once it has run for this long."
    )
    leave_minutes: float = Field(
        default=10.0,
        gt=0,
        le=10_080,
        description="Safe mode is left after so many minutes without a failure; `dl resume` leaves it at once.",
    )


class DiskConfig(_Section):
    """What to do as the lake's disk fills up. Each level is left once a quarter more than its threshold is free."""

    low_percent: float = Field(
        default=10.0, ge=0, le=50, description="Free part of the disk below which compaction waits; 0: only `low_mb`."
    )
    low_mb: int = Field(default=2048, ge=0, le=1_000_000, description="Free space below which compaction waits.")
    critical_mb: int = Field(
        default=512,
        ge=0,
        le=1_000_000,
        description="Free space below which the transformer waits too and kinds are stopped one group after the other,"
        " books first and trades never, each as a recorded gap.",
    )
    full_mb: int = Field(
        default=32,
        ge=0,
        le=100_000,
        description="Free space below which no data are written: what memory cannot hold is a gap until there is room.",
    )
    ballast_mb: int = Field(
        default=64,
        ge=0,
        le=10_000,
        description="Set aside while there is room, and released when there is none, so that ledger and manifest can"
        " still say what is lost; 0 for none.",
    )
    check_seconds: float = Field(default=1.0, ge=0.1, le=60, description="How often the disk is looked at.")

    @model_validator(mode="after")
    def _in_order(self) -> DiskConfig:
        if not self.full_mb <= self.critical_mb <= self.low_mb:
            raise ValueError(
                f"full_mb ({self.full_mb}) <= critical_mb ({self.critical_mb}) <= low_mb ({self.low_mb}) must hold"
            )
        return self

    def limits(self) -> Limits:
        """The thresholds in bytes."""
        return Limits(
            low=self.low_mb * _MB, critical=self.critical_mb * _MB, full=self.full_mb * _MB,
            low_share=self.low_percent / 100, ballast=self.ballast_mb * _MB,
        )  # fmt: skip


class RepairConfig(_Section):
    """Closing of open gaps by asking for what is missing, after everything else that a venue is asked for."""

    enabled: bool = Field(
        default=True, description="Whether the daemon does it by itself; `dl gaps --repair` works anyway."
    )
    every_seconds: float = Field(default=60.0, ge=10, le=86_400, description="How often it looks at all open gaps.")
    gaps_at_once: int = Field(default=50, ge=1, le=10_000, description="Gaps of a market that are asked for at a look.")
    longest_hours: float = Field(
        default=24.0, gt=0, le=8_760, description="A longer gap is left to `dl gaps --repair` or `dl backfill`."
    )
    archives: bool = Field(
        default=True,
        description="Whether a venue's published files are fetched for what its REST routes do not give (`archives`).",
    )


class SimulateConfig(_Section):
    """What `--simulate` does: a local exchange in place of the real ones, on the evening of yesterday."""

    lake: Path = Field(default=Path("simulated-lake"), description="Folder of the simulated lake.")
    rate: float = Field(default=200.0, gt=0, le=100_000, description="Events per second of the whole exchange.")
    seed: int = Field(default=1, ge=0, description="The same seed makes the same market.")
    seconds_before_midnight: float = Field(
        default=45.0, ge=0, le=86_000, description="How long before 00:00 UTC (of today) the simulated clock starts."
    )
    close_delay_seconds: float = Field(
        default=5.0, ge=0, le=3600, description="In place of compactor.close_delay_seconds, so that a day closes soon."
    )
    seal_seconds: int = Field(default=15, ge=1, le=3600, description="In place of collectors.writing.seal_seconds.")


class Config(_Section):
    """Everything the daemon and `dl` can be told."""

    lake: Path = Field(
        default=Path("data"), description="Folder of the lake; relative to the configuration file's folder."
    )
    shutdown_seconds: float = Field(
        default=10.0, ge=2, le=600, description="A stop takes at most this long; what has not ended then is cancelled."
    )
    collectors: CollectorsConfig = Field(default_factory=CollectorsConfig, description="What is collected.")
    transformer: TransformerConfig = Field(
        default_factory=TransformerConfig, description="From sealed segments to Parquet and bars."
    )
    compactor: CompactorConfig = Field(
        default_factory=lambda: CompactorConfig.model_validate({}), description="From parts to certified daily files."
    )
    backup: BackupConfig = Field(
        default_factory=lambda: BackupConfig.model_validate({}), description="Copies of the manifest."
    )
    scrub: ScrubConfig = Field(
        default_factory=lambda: ScrubConfig.model_validate({}), description="Stored files, read and hashed again."
    )
    archives: ArchivesConfig = Field(
        default_factory=lambda: ArchivesConfig.model_validate({}), description="History as files, which venues publish."
    )
    repair: RepairConfig = Field(default_factory=RepairConfig, description="Closing of open gaps.")
    disk: DiskConfig = Field(default_factory=DiskConfig, description="What happens as the disk fills up.")
    workers: WorkersConfig = Field(default_factory=WorkersConfig, description="Processes for CPU work.")
    http: HttpConfig = Field(default_factory=HttpConfig, description="Health, metrics, status.")
    serve: ServeConfig = Field(
        default_factory=lambda: ServeConfig.model_validate({}), description="The REST API, a process of its own."
    )
    logs: LogsConfig = Field(default_factory=LogsConfig, description="Console and log files.")
    safe_mode: SafeModeConfig = Field(default_factory=SafeModeConfig, description="After failed starts.")
    simulate: SimulateConfig = Field(default_factory=SimulateConfig, description="The `--simulate` mode.")


class Loaded(msgspec.Struct):
    """A valid configuration and where each value came from (key path -> `config.yml:3:9`, `environment LAKE__X`)."""

    config: Config
    origins: dict[KeyPath, str]


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in `path` under `environ` (default: the process's). Raises NoConfig, ConfigError."""
    return load(path, environ).config


def load(path: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    """As `load_config`, with the origin of every value."""
    document = _read(path)
    found, said = environment.overrides(os.environ if environ is None else environ, path.parent / ".env")
    origins = {key: f"{path.name}:{place.line}:{place.column}" for key, place in document.places.items()}
    for override in found:
        try:
            at = environment.apply(document.values, override)
        except ValueError as error:
            said.append(str(error))
            continue
        origins = {key: origin for key, origin in origins.items() if key[: len(at)] != at}
        origins[at] = override.origin
    reporter = problems.Reporter(path.name, document, origins, Config)
    said += reporter.of_document()
    config: Config | None = None
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        said += reporter.of_validation(error)
    said += reporter.of_sources()
    if said or config is None:
        raise ConfigError([_discreet(line, found) for line in problems.in_order(said)])
    simulate = config.simulate.model_copy(update={"lake": _beside(path, config.simulate.lake)})
    placed = config.model_copy(update={"lake": _beside(path, config.lake), "simulate": simulate})
    return Loaded(placed, origins)


def _discreet(line: str, given: Sequence[Override]) -> str:
    """A line without what only the environment knows, which is where secrets are kept, and without passwords."""
    for override in given:
        if override.origin in line:
            for text in environment.texts(override.value):
                line = line.replace(repr(text), HIDDEN)
                if len(text) >= 2 * environment.SECRET and text not in override.origin:
                    line = line.replace(text, HIDDEN)
    return redacted(line)


def _read(path: Path) -> Document:
    try:
        return yaml_file.read(path)
    except FileNotFoundError as error:
        raise NoConfig(f"there is no configuration file {path}") from error
    except OSError as error:
        fix = f" ({cure(error)})" if cure(error) else ""
        raise NoConfig(f"{path} cannot be read: {error.strerror}{fix}") from error


def _beside(config: Path, given: Path) -> Path:
    """`given` as seen from the configuration file's folder."""
    return config.parent / given.expanduser()
