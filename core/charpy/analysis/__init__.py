"""Pure functions from outcomes to figures."""
