"""Model versions: their registry, the gate before a promotion, and what is announced to the running jobs."""
