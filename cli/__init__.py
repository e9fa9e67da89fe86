"""The command `dl`: what a person or a timer asks of a lake, and how the answer is printed."""
