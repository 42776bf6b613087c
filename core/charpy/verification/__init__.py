"""Checking a run file without the attacks that made it: bytes, records, plan, data, models, witnesses."""
