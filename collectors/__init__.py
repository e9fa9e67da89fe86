"""Sources: exchange frames in, sealed segments out.

Pure: `exchanges/` (venue protocols), `merger` (dedup and gaps), `coverage`, `subscriptions`, `liveness`. The rest
drives them over sockets, HTTP, clocks and files.
"""
