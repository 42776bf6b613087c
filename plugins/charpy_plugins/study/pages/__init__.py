"""What a reader sees of an analysis: one offline page, and tables for a terminal."""
