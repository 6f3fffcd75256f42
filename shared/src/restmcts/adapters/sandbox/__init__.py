"""Programs of strangers: run apart from everything, bounded, and believed only for what they
return.
"""
