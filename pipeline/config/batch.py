"""How a global batch is split over devices and forward passes (gradient accumulation)."""

_LARGEST_DEFAULT_PER_DEVICE = 16


def split_batch(batch_size: int, *, per_device: int | None, world_size: int) -> tuple[int, int]:
    """Return (sequences per device and forward pass, passes per optimizer step).

    per_device: by default the largest divisor of a device's share up to 16. Raises ValueError when
    the global batch cannot be split evenly: it would silently become a different batch size.
    """
    share, rest = divmod(batch_size, world_size)
    if rest:
        raise ValueError(f"batch_size {batch_size} is not a multiple of {world_size} processes")
    if per_device is None:
        limit = min(share, _LARGEST_DEFAULT_PER_DEVICE)
        per_device = next(size for size in range(limit, 0, -1) if share % size == 0)
    steps, rest = divmod(share, per_device)
    if rest:
        raise ValueError(
            f"batch_size {batch_size} is not a multiple of {per_device} per device "
            f"x {world_size} processes"
        )
    return per_device, steps
