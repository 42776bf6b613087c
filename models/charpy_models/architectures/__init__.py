"""Network architectures, one a file, sized by keywords.

Every architecture takes float32 images `(N, in_channels, H, W)` in [0, 1], normalises them itself (`mean` and `std` are
stored with the weights) and returns scores `(N, num_classes)`: `classifier(features(normalise(images)))`. One that is
not trained with the cross-entropy has a `loss(scores, labels)` of its own, of what it answers with in train mode. One
that is trained for its embedding gives it as `embed(images) -> (N, D)`.
"""
