"""The instruments of a market as its venue lists them now: asked for once, page by page; nothing is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from collectors.http import Fetching, HttpFailed
from market.kinds import Contract
from market.session import Endpoint, Exchange, Fetch, Output, Polled, Rejected

MOST_REQUESTS = 200
NOTHING = "no instruments in its answer"


async def instruments(
    venue: Exchange,
    market_type: str,
    endpoint: Endpoint,
    http: Fetching,
    now: int,
    symbols: Sequence[str] = (),
    pay: Callable[[int], Awaitable[None]] | None = None,
) -> tuple[list[Contract], str]:
    """Those of `symbols`, or all; and why there are no more, "" where all were told. The first answer without any ends
    it. `pay` waits for the turn of a request of that weight.
    """
    session = venue.poller(market_type, "n-1-1", Polled("contract", tuple(symbols)), endpoint)
    found: dict[str, Contract] = {}
    said: Sequence[Output] = session.start(now)
    for _ in range(MOST_REQUESTS):
        asked = next((out for out in said if isinstance(out, Fetch)), None)
        if asked is None:
            break
        if pay is not None:
            await pay(asked.weight)
        try:
            answer = await http.fetch(asked.method, asked.url)
        except HttpFailed as error:
            return list(found.values()), str(error)
        said = session.respond(asked.tag, answer.status, answer.headers, answer.body, now)
        contracts = [out for out in said if isinstance(out, Contract)]
        found |= {one.symbol: one for one in contracts}
        if not contracts and (wrong := next((out for out in said if isinstance(out, Rejected)), None)) is not None:
            return list(found.values()), wrong.reason
        if not any(isinstance(out, Fetch) for out in said):
            said = session.tick(now)
    return list(found.values()), "" if found else NOTHING
