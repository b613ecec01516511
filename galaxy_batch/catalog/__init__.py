"""The catalog: layout, manifest, parts, sorting, publication and verification."""
