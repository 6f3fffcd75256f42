"""Runs as people ask for them: what a document needs before it is stored, from the command line or
over HTTP.
"""
