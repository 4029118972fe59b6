"""Tests on a Dask cluster: what travels to its workers, what they answer, and how that is judged."""
