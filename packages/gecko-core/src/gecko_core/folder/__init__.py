"""Model folders: layouts read and written, model card, hub, name resolution."""
