"""The Zarr store of one take and one encoder."""
