"""Runs and trees as objects, for notebooks and scripts: read from a work folder or a stack's
database, never changed.

    import restmcts
    run = restmcts.load_run("demo", "demo-out")
    pandas.DataFrame(run.curves)  # what is listed is made of dataclasses

pandas and matplotlib (restmcts[notebook]) are imported by what needs them alone.
"""
