"""Image filters that defences are made of: batched, on the images' device, one a file."""
