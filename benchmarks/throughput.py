"""Pictures a second, forward and backward of the whole network, by side, batch size and memory format.

python benchmarks/throughput.py [--model tf_efficientnet_lite0] [--sizes 96 128 160] [--batches 16 32 64] [--turns 3]
"""

import argparse
import statistics
import time

import timm
import torch


def seconds(model: torch.nn.Module, size: int, batch: int, layout: torch.memory_format) -> float:
    """One step on pictures of zeros, in seconds."""
    inputs = torch.zeros(batch, 3, size, size).to(memory_format=layout)
    model.to(memory_format=layout)
    started = time.perf_counter()
    model(inputs).square().mean().backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 128, 160])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    model = timm.create_model(args.model).train()
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for size in args.sizes:
        for batch in args.batches:
            rows = {
                name: [batch / seconds(model, size, batch, layout) for _ in range(args.turns + 1)][1:] for name, layout in layouts.items()
            }
            shown = ", ".join(f"{name} {statistics.median(row):.0f} ({min(row):.0f} to {max(row):.0f})" for name, row in rows.items())
            print(f"{size} px, batches of {batch}: {shown} pictures a second")


if __name__ == "__main__":
    main()
