"""The stores, one module a URL scheme; each offers `open_url(url) -> Store`. Nothing else lives in this folder."""
