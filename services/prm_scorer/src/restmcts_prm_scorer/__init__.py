"""The PRM scorer: claims batches of partial solutions and scores them with a value model."""
