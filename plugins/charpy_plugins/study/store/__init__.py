"""The answers database: who joined, what was shown and answered; SQLite beside the study, or PostgreSQL by URL."""
