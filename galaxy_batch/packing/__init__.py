"""Many small cutout files into few large Parquet shards."""
