"""Reproduce "DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks" (2017)."""

__version__ = "0.1.0"
