"""Export of rows of a catalog as FITS, VOTable, CSV or Parquet."""
