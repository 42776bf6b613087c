"""Network architectures, one a file. Called without arguments, each builds the network that the zoo has weights for.

Every architecture takes float32 images `(N, in_channels, H, W)` in [0, 1], normalises them itself
(`mean` and `std` are stored with the weights) and returns logits `(N, num_classes)`.
"""
