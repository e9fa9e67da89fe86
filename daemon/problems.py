"""What is wrong with a configuration, as lines that name the place, the key and the nearest right spelling."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from collectors import exchanges, transports, venues
from collectors.ccxt.venue import SPELLED
from collectors.config import SourceConfig
from daemon.yaml_file import Document, KeyPath
from market.errors import MarketError
from market.instruments import MARKET_TYPES
from market.session import Exchange

_PLACE = re.compile(r"^(\S+):(\d+):(\d+) ")


class Reporter:
    """Says what is wrong with one document; `origins` names the place of every value, wherever it came from."""

    def __init__(self, name: str, document: Document, origins: dict[KeyPath, str], model: type[BaseModel]) -> None:
        self._name = name
        self._document = document
        self._origins = origins
        self._model = model

    def of_document(self) -> list[str]:
        """Defects of the YAML itself."""
        return [
            f"{self._name}:{d.place.line}:{d.place.column} {dotted(d.path)} {d.message}".replace("  ", " ")
            for d in self._document.defects
        ]

    def of_validation(self, error: ValidationError) -> list[str]:
        """Everything pydantic found, unknown keys with the nearest known one."""
        broken = [defect.path for defect in self._document.defects if defect.path]
        found = error.errors(include_url=False)
        # What could not be read stands as None in the values: its defect has been said.
        return [self._validation_line(f) for f in found if f["input"] is not None or f["loc"] not in broken]

    def of_sources(self) -> list[str]:
        """Exchanges, markets, kinds, endpoints and transports that do not exist; looks at values of any type."""
        collectors = _get(self._document.values, "collectors")
        said = []
        transport = _get(_get(collectors, "connections"), "transport")
        if isinstance(transport, str) and transport not in transports.names():
            path: KeyPath = ("collectors", "connections", "transport")
            said.append(self.line(path, _unknown("transport", transport, transports.names())))
        sources = _get(collectors, "sources")
        for index, source in enumerate(sources if isinstance(sources, list) else []):
            said += self._of_source(("collectors", "sources", index), source)
        return said

    def line(self, path: KeyPath, message: str, *, at_key: bool = False) -> str:
        """One problem with its place: that of the value, of its key, or of the nearest value that encloses it."""
        place = self._document.keys.get(path) if at_key else None
        if place is not None and path not in self._origins:
            place = None  # an override replaced what stands there
        where = f"{self._name}:{place.line}:{place.column}" if place is not None else self._origin(path)
        return f"{where} {dotted(path)} {message}"

    def _origin(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            origin = self._origins.get(path[:length])
            if origin is not None:
                return origin
        return f"{self._name}:1:1"

    def _validation_line(self, found: ErrorDetails) -> str:
        path: KeyPath = found["loc"]
        if found["type"] == "extra_forbidden":
            known = sorted(fields_at(self._model, path[:-1]))
            return self.line(path, _unknown("key", str(path[-1]), known, quote=False), at_key=True)
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "missing":
            message = "is required"
        elif found["type"] != "value_error":
            plain = isinstance(found["input"], str | int | float | bool | None)
            message = message[0].lower() + message[1:] + (f", not {found['input']!r}" if plain else "")
        return self.line(path, message)

    def _of_source(self, path: KeyPath, source: Any) -> list[str]:
        name, market = _get(source, "exchange"), _get(source, "market_type")
        if not isinstance(name, str):
            return []
        try:
            venue = venues.load(name)
        except exchanges.UnknownExchange:
            known = [*exchanges.names(), f"{SPELLED}<id>"]
            return [self.line((*path, "exchange"), _unknown("exchange", name, known))]
        except MarketError as error:
            return [self.line((*path, "exchange"), str(error))]
        if market not in MARKET_TYPES:
            return []  # the section's own validation has said so
        if market not in venue.OFFERS:
            message = f"{name} has no market {market!r} here; it has {', '.join(sorted(venue.OFFERS))}"
            return [self.line((*path, "market_type"), message)]
        return [*self._of_kinds(path, source, venue, market), *self._of_endpoint(path, source, venue, market)]

    def _of_kinds(self, path: KeyPath, source: Any, venue: Exchange, market: str) -> Iterable[str]:
        kinds = _get(source, "kinds")
        offered = sorted(venue.OFFERS[market])
        for index, kind in enumerate(kinds if isinstance(kinds, list) else []):
            if isinstance(kind, str) and kind not in offered:
                lacking = venue.EVIDENCE[market].get(kind)
                why = f" ({lacking.note})" if lacking is not None and lacking.basis == "absent" else ""
                message = f"{venue.NAME} {market} does not offer {kind!r}{why}; it offers {', '.join(offered)}"
                yield self.line((*path, "kinds", index), message)
        chosen = _get(source, "channels")
        for kind, channel in chosen.items() if isinstance(chosen, dict) else ():
            if kind in offered and isinstance(channel, str):
                try:
                    venue.streams(market, [kind], [], {kind: channel})
                except MarketError as error:
                    yield self.line((*path, "channels", kind), str(error).removeprefix("malformed "))

    def _of_endpoint(self, path: KeyPath, source: Any, venue: Exchange, market: str) -> Iterable[str]:
        given = _get(_get(source, "endpoint"), "ws")
        known = sorted(venue.ENDPOINTS[market].ws)
        for name in given if isinstance(given, dict) else {}:
            if name not in known:
                yield self.line(
                    (*path, "endpoint", "ws", name), _unknown("WebSocket path", str(name), known), at_key=True
                )


def refused(sources: Iterable[SourceConfig]) -> list[str]:
    """What a start will refuse and the file alone does not show: kinds that a venue by ccxt has not. Imports ccxt."""
    said = []
    for index, source in enumerate(sources):
        try:
            venues.check(source)
        except MarketError as error:
            said.append(f"collectors.sources[{index}].kinds {str(error).removeprefix('malformed ')}")
    return said


def fields_at(model: type[BaseModel], path: KeyPath) -> dict[str, Any]:
    """The declared fields of the section that `path` leads to; {} where that is no section."""
    section: Any = model
    for step in path:
        if isinstance(step, str) and isinstance(section, type) and issubclass(section, BaseModel):
            field = section.model_fields.get(step)
            section = section_of(field.annotation) if field is not None else None
    return dict(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else {}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation: `Section`, `list[Section]`, `Section | None`; None for plain values."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_of(argument) for argument in typing.get_args(annotation))
    return next((section for section in found if section is not None), None)


def dotted(path: KeyPath) -> str:
    """`collectors.sources[0].symbols`; "" for the whole document."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def in_order(lines: Sequence[str]) -> list[str]:
    """Each line once, by place in the file; what has no place there comes last."""

    def key(line: str) -> tuple[int, int, int]:
        match = _PLACE.match(line)
        return (0, int(match[2]), int(match[3])) if match else (1, 0, 0)

    return sorted(dict.fromkeys(lines), key=key)


def _unknown(what: str, name: str, known: Sequence[str], *, quote: bool = True) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {what}{f' {name!r}' if quote else ''}; {hint}"


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
