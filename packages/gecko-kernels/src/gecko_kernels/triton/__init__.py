"""The operations on GPUs: Triton kernels, their launches, tile choices per architecture."""
