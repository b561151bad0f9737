"""Enhance whole photographs in bounded memory, file by file, or export a network as ONNX."""
