"""`python -m daemon`: the command line and the configuration in, an exit code out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from daemon import arguments, place
from daemon.config import load
from daemon.errors import ConfigError, DaemonError, code_of
from lake.errors import LakeError
from runtime import streams
from runtime.service import EXIT_INTERRUPTED, EXIT_OK


def main(given: Sequence[str]) -> int:
    """Run the process; returns its exit code."""
    streams.hold()
    options = arguments.parse(given)
    try:
        loaded = load(options.config)
        if options.explain:
            from daemon.explain import explain  # noqa: PLC0415 - a start does not wait for what only --explain needs

            sys.stdout.write(explain(loaded))
        elif options.check:
            from daemon.problems import refused  # noqa: PLC0415 - only --check asks the libraries of venues

            if said := refused(loaded.config.collectors.sources):
                raise ConfigError(said)
            sources = len(loaded.config.collectors.sources)
            sys.stdout.write(f"{options.config} is right: {sources} source{'s' if sources != 1 else ''}\n")
        else:
            config = loaded.config.model_copy(update={"lake": place.free_root(loaded.config, options)})
            from daemon import lifecycle  # noqa: PLC0415 - a refused start does not wait for the engines

            return lifecycle.run(config, options)
    except (DaemonError, LakeError) as error:
        sys.stderr.write(f"{error}\n")
        return code_of(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
