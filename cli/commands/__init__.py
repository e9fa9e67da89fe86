"""One module a command of `dl`; heavy imports live inside the functions, so that `dl --help` is quick."""
