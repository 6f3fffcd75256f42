"""The policy generator: claims batches of requests for steps and answers them with a policy."""
