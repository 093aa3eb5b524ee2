"""Is there, and empty: see torch.py."""
