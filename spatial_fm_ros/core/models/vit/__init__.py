"""Building blocks of vision transformers and dense prediction heads, shared by the foundation models.

Plain PyTorch without fast paths: these modules can be trained and are the oracle of every faster twin.
"""
