"""How far the images of a class are from each other and from those of other classes, and radii chosen from that."""
