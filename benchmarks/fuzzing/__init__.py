"""Fuzzing of the front doors: spec files, run files, images and arrays, ONNX files. See `benchmarks/fuzz.py`."""
