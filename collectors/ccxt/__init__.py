"""Any venue that ccxt knows and that has no adapter here, as the exchange `ccxt-<id>` (`ccxt:<id>` in a configuration).

What ccxt shows is less than what a venue sends (decision 0022): no acknowledgements, no numbering, and its own parsing.
`wire`, `rows`, `session`, `polls`, `tables` and `venue` are pure; `library`, `texts`, `transport` and `carrier` are the
shell around the library, which is imported only where a configuration names such a venue.
"""
