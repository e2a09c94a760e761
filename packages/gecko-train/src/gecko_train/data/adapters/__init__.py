"""Adapters: records of public data sets, in their natural schemas, to training rows; one file per schema."""
