"""The human study (Sharif et al. 2018, section 4): from a run to images before people, and back to an analysis."""
