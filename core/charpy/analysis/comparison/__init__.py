"""Several models, defences and attacks side by side, from one or more run files (Kotyan & Vargas 2020, section V)."""
