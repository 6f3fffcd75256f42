"""What tests and users need to check an implementation: scripted models, tree builders,
contracts, conformance.
"""
