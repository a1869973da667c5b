"""Scores under given conditions: here, in worker processes, or on a Dask cluster."""
