import pytest
import torch

from distilset.hardware import RESIDENT_SHARE, exact_float32, fits, free_device_bytes, send


def flags():
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    return cudnn.conv.fp32_precision, products.fp32_precision, products.allow_tf32


@pytest.fixture
def own_flags():
    """Put the process's own flags back, by the names that they were set with."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


def exact() -> bool:
    return "tf32" not in flags()[:2] and flags()[2] is False


def test_no_tensor_float_32_on_a_gpu_and_the_flags_are_put_back(own_flags):
    before = flags()
    assert before[0] == "tf32"  # PyTorch's default for convolutions, which is the trap

    def fail():
        with exact_float32("cuda"):
            raise KeyError(exact())

    with pytest.raises(KeyError, match="True"):
        fail()
    assert flags() == before


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_what_somebody_set_by_the_old_names_comes_back(own_flags, precision):
    torch.set_float32_matmul_precision(precision)
    before = flags()
    with exact_float32("cuda:0"):
        assert exact()
    assert flags() == before
    assert torch.get_float32_matmul_precision() == precision


def test_what_somebody_set_by_the_new_names_comes_back(own_flags):
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with exact_float32("cuda"):
        assert exact()
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"


def test_a_cpu_is_left_as_it_is(own_flags):
    torch.set_float32_matmul_precision("medium")
    with exact_float32("cpu"):
        assert torch.get_float32_matmul_precision() == "medium"


def test_images_are_kept_on_a_gpu_up_to_a_share_of_its_free_memory(monkeypatch):
    assert free_device_bytes("cpu") is None
    assert not fits(0, "cpu")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 400)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert free_device_bytes("cuda") == 1000
    assert fits(int(1000 * RESIDENT_SHARE), "cuda")
    assert not fits(int(1000 * RESIDENT_SHARE) + 1, "cuda")


def test_sending_goes_through_page_locked_memory_to_a_gpu_only(monkeypatch):
    tensor, calls = torch.arange(3), []
    assert send(tensor, "cpu") is tensor
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: calls.append((a, k)) or self)
    send(tensor, "cuda:1")
    assert calls == ["pinned", (("cuda:1",), {"non_blocking": True})]
