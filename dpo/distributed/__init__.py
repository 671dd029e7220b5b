"""The only importer of accelerate, deepspeed and torch.distributed.

`world` starts and ends the process group; `placement` puts weights where they belong; `plain` and `zero` are the two
engines that run forward, backward and step over them.
"""
