"""Forecasters: features to quantiles, training, evaluation, and the shipped ONNX model."""
