"""The files of a catalog: how rows are sorted into them, and what describes them."""
