"""The tiny models that are pre-trained here, within minutes on a CPU."""
