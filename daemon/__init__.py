"""The process: composes everything and runs it."""
