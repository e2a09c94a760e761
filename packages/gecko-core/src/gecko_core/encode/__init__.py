"""From texts to vectors: batches, packing, precision, CPU paths, device pools, streams."""
