"""The benchmark: rates of each stage, of the whole job, and its memory."""
