"""`python -m cli` is `dl`."""

from cli.app import main

main()
