"""Torch, files and processes: the fast forward pass, the one training loop, the stores."""
