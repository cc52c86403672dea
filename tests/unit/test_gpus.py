"""Which GPUs there are, as a process would see them: counted and named, whole and in parts."""

from pathlib import Path

from pipeline.machine import mig_names, num_gpus, visible_gpus


def test_gpus_are_counted_as_a_process_would_see_them(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    seen = {"0": 1, "0,1": 2, "": 0, "-1": 0, "GPU-0a,GPU-1b": 2, "0,1,2": 2, "1,-1,0": 1, "9": 0}
    assert num_gpus({}, tmp_path) == 2
    assert {text: num_gpus({"CUDA_VISIBLE_DEVICES": text}, tmp_path) for text in seen} == seen


def test_gpus_have_the_names_that_the_user_gave_them(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia5", "nvidiactl"):
        (tmp_path / name).touch()
    parts = "MIG-1f,MIG-2e,MIG-3d"
    for text, names in {
        " 1, 0": ["1", "0"],
        "GPU-0a,GPU-0a": ["GPU-0a"],
        parts: parts.split(","),
    }.items():
        assert visible_gpus({"CUDA_VISIBLE_DEVICES": text}, tmp_path) == names
    assert visible_gpus({}, tmp_path) == ["0", "1"], "CUDA counts those that it is shown"
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}, tmp_path / "none") == []


LISTED = """\
GPU 0: NVIDIA H100 (UUID: GPU-aa)
  MIG 3g.40gb     Device  0: (UUID: MIG-01)
  MIG 3g.40gb     Device  1: (UUID: MIG-02)
GPU 1: NVIDIA H100 (UUID: GPU-bb)
GPU 2: NVIDIA H100 (UUID: GPU-cc)
  MIG 7g.80gb     Device  0: (UUID: MIG-03)
"""


def test_a_gpu_in_parts_is_named_by_its_parts() -> None:
    assert mig_names(LISTED) == ["MIG-01", "MIG-02", "GPU-bb", "MIG-03"]
    assert mig_names("") == []
