"""Enhance whole photographs: files, exact inference in bounded memory, and export to ONNX."""
