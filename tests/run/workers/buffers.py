"""Loads a model in bf16 under a ZeRO stage and says what became of its rotary frequencies and weights.

buffers.py FOLDER STAGE
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

from dpo.config.schema import OptimConfig, ZeroConfig
from dpo.distributed.placement import Placement
from dpo.distributed.world import start_world
from dpo.model.load import load_causal_lm
from dpo.model.source import ModelSource

folder, stage = sys.argv[1], int(sys.argv[2])
deepspeed = {"zero_optimization": {"stage": stage}} if stage else {}
world = start_world(ZeroConfig(name="x", stage=stage, deepspeed=deepspeed), OptimConfig(lr=1e-6), "bf16")
source = ModelSource(path=folder, revision=None, build=None, trust_remote_code=False, seed=0)
model = load_causal_lm(source, Placement(world, "policy"))
expected = dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_buffers())
if world.is_main:
    wrong = [name for name, b in model.named_buffers() if b.dtype != torch.float32 or (b != expected[name]).any()]
    types = sorted({str(p.dtype) for p in model.parameters()})
    print("FOUND", json.dumps({"buffers": len(expected), "wrong": wrong, "types": types}))
world.close()
