"""What is traded and what is said about it: kinds, instruments, times, numbers and the sans-I/O contracts.

Pure: msgspec and the standard library only. Everything else in the tree stands on this package.
An exchange adapter turns frames into the events of `market.kinds` through the contracts of `market.session`;
the lake stores those events, and the words used here are the words used everywhere.
"""
