"""Anomalies of recorded series, found step by step as the job finds them."""
