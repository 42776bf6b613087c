"""What a study's answers say: figures of each condition, and tests that keep their level."""
