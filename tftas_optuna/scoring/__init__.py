"""Scoring of candidates: in this process, in worker processes, or on a Dask cluster."""
