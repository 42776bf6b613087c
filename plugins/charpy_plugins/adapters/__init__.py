"""Adapters that run attacks of other libraries under the oracle and the judge."""
