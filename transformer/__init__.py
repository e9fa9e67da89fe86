"""Sealed segments to typed hot parts and provisional bars."""
