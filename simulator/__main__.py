"""`python -m simulator`: run the local exchanges until told to stop."""

import asyncio
import sys

from simulator import options, venues
from simulator.server import serve


def main() -> int:
    """Exit code 0 after a stop that was asked for, 2 for a wrong command line, 71 where it cannot listen or log."""
    given = options.parse(sys.argv[1:], {name: venues.load(name).MARKETS for name in venues.names()})
    try:
        asyncio.run(serve(given))
    except OSError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 71
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
