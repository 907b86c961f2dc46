"""Changes that let megatron-core 0.16.1 and mbridge run on CPU tensors with gloo. None where CUDA is there.

Megatron names the CUDA device in many places. `prepare` gives the modules of Megatron and mbridge, and no others, a
`torch` in which these names mean the CPU:

- `torch.cuda.current_device()` is the CPU; streams, events and synchronisation are no-ops;
- `torch.zeros(…, device="cuda")` and its like make CPU tensors;
- the random number tracker, which would fork CUDA generators, is Megatron's own one for inference, which forks
  nothing; that is right as long as there is no dropout;
- recomputation, which would save and restore CUDA's random state, does so with the CPU's alone;
- groups of the same ranks are one group, as each group of gloo has threads that wake all the time;
- SwiGLU, written for the compiler, calls PyTorch's kernels;
- the rotation by position makes half as many passes over queries and keys.

The process keeps the memory that tensors free.

Two methods of tensors are replaced for all modules: `Tensor.cuda()` returns the tensor itself, and `Tensor.type()`
returns a name that also equals its CUDA spelling, since Megatron's optimizer and gradient clipping compare it with
"torch.cuda.FloatTensor".
"""

import contextlib
import ctypes
import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

# Imported before the names are replaced: a module imported later would hold the real torch.
_MODULES = (
    "megatron.core.models.gpt",
    "megatron.core.pipeline_parallel.p2p_communication",
    "megatron.core.distributed.finalize_model_grads",
    "megatron.core.optimizer.distrib_optimizer",
    "megatron.core.dist_checkpointing.strategies.torch",
    "megatron.core.dist_checkpointing.strategies.fully_parallel",
    "mbridge",
)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_FACTORIES = ("zeros", "ones", "tensor", "empty", "full", "arange", "zeros_like", "ones_like", "empty_like")


def device() -> torch.device:
    """The device of this rank."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def spare_the_compiler() -> None:
    """Let `torch.compile` return functions as they are, on a CPU. Call it before Megatron is imported.

    Megatron passes its fused operations to torch.compile when it is imported. That imports the compiler, a fifth of the
    time that a rank takes to start. On a CPU the trainer uses none of the operations.
    """
    if not torch.cuda.is_available():
        torch.compile = lambda function=None, **_: function or (lambda decorated: decorated)


def prepare() -> None:
    """Make Megatron and mbridge run on this machine. Call it before a model is built."""
    if torch.cuda.is_available() or isinstance(sys.modules.get("aworld.training._torch"), _Torch):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Megatron warns once for every CUDA library that is missing
        for name in _MODULES:
            importlib.import_module(name)
    on_cpu = _Torch("torch")
    sys.modules["aworld.training._torch"] = on_cpu
    for name, module in list(sys.modules.items()):
        if name.startswith(("megatron.core", "mbridge")) and getattr(module, "torch", None) is torch:
            module.torch = on_cpu  # type: ignore[attr-defined]
    keep_freed_memory()
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.Tensor.type = _type(torch.Tensor.type)
    from megatron.core import parallel_state
    from megatron.core.fusions import fused_bias_swiglu
    from megatron.core.tensor_parallel import random
    from megatron.core.transformer import attention

    random.initialize_rng_tracker(inference_rng_tracker=True, force_reset=True)
    random._get_cuda_rng_state = lambda *_, **__: None
    random._set_cuda_rng_state = lambda *_, **__: None
    parallel_state.create_group = _once_for_the_same_ranks(parallel_state.create_group)
    fused_bias_swiglu.swiglu, fused_bias_swiglu.swiglu_back = _swiglu, _swiglu_back
    attention.apply_rotary_pos_emb = _rotated


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensors; of the end of its heap up to 2 GiB.

    By default it returns that of a large tensor to the kernel at once, which clears each page of the next one. This
    takes longer than an addition of two tensors.
    """
    library = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)):
        library.mallopt(option, value)


def _once_for_the_same_ranks(create: Callable) -> Callable:
    made: dict[tuple[Any, ...], Any] = {}

    def create_group(ranks: list[int], **how: Any) -> Any:
        key = (torch.distributed.group.WORLD, *ranks)
        if key not in made:
            made[key] = create(ranks, **how)
        return made[key]

    return create_group


def _swiglu(gate_and_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, [rows, f], for a forward pass that records no gradient."""
    gate, up = gate_and_up.chunk(2, -1)
    return F.silu(gate).mul_(up)


def _swiglu_back(gradient: torch.Tensor, gate_and_up: torch.Tensor) -> torch.Tensor:
    """The gradient of silu(gate) · up with respect to both, [rows, 2f]."""
    gate, up = gate_and_up.chunk(2, -1)
    found = torch.empty_like(gate_and_up)
    of_gate, of_up = found.chunk(2, -1)
    torch.mul(gradient, F.silu(gate), out=of_up)
    torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
    return found


def _rotated(x: torch.Tensor, angles: torch.Tensor, *_: Any, mscale: float = 1.0, **__: Any) -> torch.Tensor:
    """Each pair (x[i], x[i + d/2]) turned by angles[i], and times `mscale`.

    Args:
        x: [T, 1, heads, d].
        angles: float32 [T, 1, 1, d], whose halves are equal.
    """
    cosine, sine = angles.cos().mul_(mscale), angles.sin().mul_(mscale)
    sine[..., : x.shape[-1] // 2].neg_()
    return _Rotation.apply(x, cosine.to(x.dtype), sine.to(x.dtype))


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(gradient, cosine, -sine), None, None


def _turned(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((second, first), -1).mul_(sine).addcmul_(x, cosine)


class _Nothing:
    """A stream or event that accepts every call and does nothing."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _Cuda(types.ModuleType):
    Stream = Event = _Nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def synchronize(self, *_: Any) -> None:
        pass

    def current_stream(self, *_: Any) -> _Nothing:
        return _Nothing()

    def stream(self, *_: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class _Torch(types.ModuleType):
    """`torch`, whose CUDA is the CPU."""

    def __init__(self, name: str):
        super().__init__(name)
        self.cuda = _Cuda("torch.cuda")
        for factory in _FACTORIES:
            setattr(self, factory, _on_cpu(getattr(torch, factory)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _on_cpu(factory: Callable) -> Callable:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return factory(*args, **kwargs)

    return make


class _TypeName(str):
    """A tensor's type name that equals its CUDA spelling."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.replace("torch.cuda.", "torch.") == other.replace(
            "torch.cuda.", "torch."
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.replace("torch.cuda.", "torch."))


def _type(original: Callable) -> Callable:
    def of(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if args or kwargs else _TypeName(original(self))

    return of
