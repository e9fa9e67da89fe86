"""The lake over HTTP: REST with OpenAPI, its own process. It reads; what changes a lake it asks the daemon for."""
