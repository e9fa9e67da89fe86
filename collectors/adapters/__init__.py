"""What the adapters of venues share: reading of payloads, streaming sessions, requests, polls. Pure, as they are.

A venue takes what fits; nothing here knows one.
"""
