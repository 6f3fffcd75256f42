"""One of several processes, started by torchrun: it prints how many numbers it has of a model after
a step of training, and whether its part of the gradients is of their sum over the processes.
"""

import json
import os
import sys

import torch
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import load_policy
from restmcts.modeling.training.optimizers import build_optimizer
from restmcts.modeling.training.sharding import part, part_of, shard_model
from torch.distributed.tensor import DTensor

model = load_policy(sys.argv[1]).model
whole = sum(parameter.numel() for parameter in model.parameters())
ids = model.dummy_inputs["input_ids"]
model(input_ids=ids, labels=ids).loss.backward()
alone = [parameter.grad for parameter in model.parameters()]
model.zero_grad()
sharded = shard_model(model)
optimizer = build_optimizer(model, TrainingSettings())
sharded(lambda: model(input_ids=ids, labels=ids).loss).backward()
num_processes = torch.distributed.get_world_size()
are_sums = all(
    torch.allclose(part(one.grad), num_processes * part_of(gradient, one), rtol=1e-4, atol=1e-6)
    for one, gradient in zip(model.parameters(), alone, strict=True)
)
optimizer.step()
parameters = list(model.parameters())
states = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, DTensor)]
sizes = {
    "whole": whole,
    "are_sums": are_sums,
    "parameters": sum(part(one).numel() for one in parameters),
    "gradients": sum(part(one.grad).numel() for one in parameters),
    "states": sum(part(one).numel() for one in states),
}
os.write(1, f"{json.dumps(sizes)}\n".encode())  # at once: the processes share their output
