"""Pure functions of tensors: attention vectors, statistics of images, distances of means."""
