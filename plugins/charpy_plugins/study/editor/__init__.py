"""Stimuli painted by hand: a local page with a pixel canvas, the model's live scores, and a save that is judged."""
