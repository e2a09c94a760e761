"""The operations on CPUs: strips of the logit matrix, one walk over the width."""
