"""A local exchange that speaks the venues' wire protocols, with a log of what it really sent."""
