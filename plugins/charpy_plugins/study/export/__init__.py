"""What leaves a study: tables for other programs, a code book, and labels for `charpy perceive`."""
