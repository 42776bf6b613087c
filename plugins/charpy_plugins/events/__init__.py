"""Listeners to the events of a run: experiment trackers. Each is a plugin of its own, off unless asked for."""
