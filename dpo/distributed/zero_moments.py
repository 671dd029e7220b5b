"""The moments that AdamW keeps of DeepSpeed's flat partitions, made so that a parameter's share can be read and set.

Reaches into DeepSpeed's optimizers (0.19.8): their own moments come to be within the first step, but a checkpoint's
have to be put in their place before it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dpo.optim import MOMENTS


class FlatMoments:
    """Moments of every flat partition on this worker, in float32 or in 8 bits."""

    def __init__(self, sharded: Any, eight_bit: bool):
        self.sharded, self.optimizer, self.eight_bit = sharded, sharded.optimizer, eight_bit
        self._loading = False
        if eight_bit:
            self._compress(step=0)
        else:
            self._begin(step=0)

    def begin_loading(self, step: int) -> None:
        """All moments in float32: values come in one parameter after the other, and parameters share 8-bit blocks."""
        for _, flat in self._flats():
            if not self.eight_bit:
                self.optimizer.state[flat]["step"] = torch.tensor(float(step), device=flat.device)
        if self.eight_bit and not self._loading:
            self._loading = True
            self._begin(step)

    def finish_loading(self) -> None:
        if self._loading:
            self._loading = False
            self._compress(step=int(next(self.optimizer.state[flat]["step"] for _, flat in self._flats()).item()))

    def _flats(self) -> Iterator[tuple[int, Tensor]]:
        """(index of the parameter group, flat partition)."""
        if hasattr(self.sharded, "fp32_partitioned_groups_flat"):  # ZeRO 3, which keeps them apart from the groups
            for i, flat in enumerate(self.sharded.fp32_partitioned_groups_flat):
                yield self.sharded.sub_group_to_group_id[i], flat
        else:  # ZeRO 1 and 2, in bf16 another class than in float32: one partition per group
            groups = self.optimizer.param_groups
            yield from ((i, flat) for i, group in enumerate(groups) for flat in group["params"])

    def _parameters(self, group: int) -> list[Any]:
        """Of ZeRO 1 and 2: the weights that compute."""
        groups = self.sharded.bit16_groups if hasattr(self.sharded, "bit16_groups") else self.sharded.bf16_groups
        return list(groups[group])

    def _begin(self, step: int) -> None:
        """Zero moments in float32. ZeRO 1 and 2 would link a parameter to its part of them after the step of the first
        group only (stage_1_and_2.py, `_optimizer_step`): the second group's would never be found."""
        for _, flat in self._flats():
            start = {"step": torch.tensor(float(step), device=flat.device)}
            self.optimizer.state[flat] = {**start, **{key: torch.zeros_like(flat) for key in MOMENTS}}
        if hasattr(self.sharded, "_lazy_init_hp_params_optimizer_state"):
            self.sharded._hp_optimizer_states_linked = False
            self.sharded._lazy_init_hp_params_optimizer_state()

    def _compress(self, step: int) -> None:
        """Into 8 bits, with readers in the places where DeepSpeed looks for float32 tensors."""
        from dpo.optim_8bit import Moment, compress

        for group, flat in self._flats():
            found = self.optimizer.state.pop(flat, {})
            moments = {key: found[key] for key in MOMENTS if key in found}
            state = compress(self.optimizer, group, flat, moments, step)
            state.update({key: Moment(state, key) for key in MOMENTS})
        if hasattr(self.sharded, "_lazy_init_hp_params_optimizer_state"):
            self.sharded._hp_optimizer_states_linked = True
            for group, flat in self._flats():
                for parameter in self._parameters(group):
                    if mapping := parameter._hp_mapping:
                        mapping.optim_fragment = _Fragment(self.optimizer.state[flat], mapping.hp_fragment_address)


class _Fragment:
    """A parameter's part of 8-bit moments, read when asked for: ZeRO 1 and 2 keep such a mapping per parameter."""

    def __init__(self, state: dict[str, Any], address: Any):
        self.state, self.address = state, address

    def __contains__(self, key: str) -> bool:
        return key in MOMENTS

    def __getitem__(self, key: str) -> Tensor:
        return self.state[key].narrow(0, self.address.start, self.address.numel)
