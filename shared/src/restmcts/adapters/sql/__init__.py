"""The truth in SQL: runs, problems, trees, nodes, requests, outbox, checkpoints, datasets, dead
letters (PostgreSQL or SQLite).
"""
