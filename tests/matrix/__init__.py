"""Every stage on every kind of architecture, against plain forward passes of transformers."""
