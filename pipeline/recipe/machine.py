"""What can be known of the machine without torch: whether a GPU may be there."""

import sys
from pathlib import Path

# NVIDIA; Windows' own GPU in WSL; AMD.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def may_have_gpu() -> bool:
    """Whether a GPU may be there; False is certain. What torch can use of it is torch's to say."""
    return sys.platform == "darwin" or any(Path(name).exists() for name in _DEVICE_FILES)
