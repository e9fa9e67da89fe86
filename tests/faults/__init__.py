"""The catalogue of faults: each is caused on purpose, seen to have struck, and survived as promised."""
