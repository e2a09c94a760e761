"""The training objective, one file per term."""
