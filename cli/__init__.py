"""The command dl."""
