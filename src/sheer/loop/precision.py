"""Lower precision: the network runs under autocast, and everything around it sees float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def autocast(model: nn.Module, device: torch.device, dtype: torch.dtype) -> list[RemovableHandle]:
    """Run each forward pass of `model` in `dtype` where that is safe (torch.autocast), with a float32 result.

    Removing the two handles makes it plain again. The loss, the update and the weights stay float32.
    Where the model is compiled, the two switches are left out of what is compiled.
    """
    open_now: list[torch.autocast] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        open_now.append(torch.autocast(device.type, dtype=dtype))
        open_now[-1].__enter__()

    def leave(module: nn.Module, inputs: Any, output: Any) -> Any:
        open_now.pop().__exit__(None, None, None)
        return output.float() if isinstance(output, torch.Tensor) else output

    switches = torch.compiler.disable(enter), torch.compiler.disable(leave)
    return [model.register_forward_pre_hook(switches[0]), model.register_forward_hook(switches[1], always_call=True)]
