"""Fixtures with a real Postgres."""
