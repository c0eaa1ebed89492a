"""What runs a network: PyTorch itself, or on CPUs a faster inference library when one is installed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment_trainer.learning.precision import has_bfloat16

BACKENDS: Final = ("auto", "eager", "openvino", "onnxruntime")
"""`auto` takes OpenVINO, else ONNX Runtime, else eager PyTorch; on a GPU always PyTorch."""

_LOG = logging.getLogger(__name__)
_TOLERANCE: Final = 2e-5
"""Of logits, relative to the largest, against eager PyTorch. At a logit of 20, which is certainty, that is 4e-4; a
probability changes by a quarter of that at most, so that they agree within 1e-4.
"""
_HELD_PIXELS: Final = 6 << 20
"""Pixels of the windows that networks are kept ready for, at some 100 bytes each: inner and border tiles."""
_COMPILE_AFTER: Final = 4 << 30
"""Working pixels on a GPU after which compiling has a chance to pay: about as long as it takes itself."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

Answer = tuple[Tensor, ...]


class Backend(Protocol):
    """Answers for batches of windows."""

    @property
    def name(self) -> str:
        """One of `BACKENDS`, but not `auto`."""
        ...

    def __call__(self, images: Tensor) -> Answer:
        """The module's answer, float32; the tensors may be overwritten by the next call.

        Args:
            images: float32 (N, channels, spatial), on the module's device.
        """
        ...


def open_backend(
    module: nn.Module, name: str, device: torch.device, example: Tensor | None = None
) -> Backend:
    """Make a module ready to run.

    Args:
        module: In evaluation mode; answers a tensor with a tuple of tensors. It belongs to the backend from then on.
        name: One of `BACKENDS`.
        device: Where the module lies.
        example: A small input, if the module does the same for inputs of any size; None if its way depends on that.

    Raises:
        InvalidArgument: UNKNOWN_BACKEND.
        FailedPrecondition: BACKEND_MISSING when it is asked for by name and not installed.
    """
    if name not in BACKENDS:
        raise InvalidArgument("UNKNOWN_BACKEND", f"backend {name!r} is unknown; known: {list(BACKENDS)}")
    eager = Eager(module, device)
    if device.type != "cpu" or name == "eager":
        return eager
    for candidate, kind in _LIBRARIES.items():
        if name in (candidate, "auto") and importlib.util.find_spec(candidate) is not None:
            return Accelerated(kind, eager, example)
    if name != "auto":
        raise FailedPrecondition(
            "BACKEND_MISSING",
            f"{name} is not installed; install biosegment[accel] or use the backend `eager`",
        )
    return eager


class Eager:
    """PyTorch, with what costs nothing: channels last, bfloat16 where a GPU has it, compiled there when it pays."""

    name = "eager"

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self._device = device
        self._mixed = has_bfloat16(device)
        self._pixels = 0
        self._run: Callable[[Tensor], Answer] = self.module
        self._layout = torch.contiguous_format
        if device.type == "cpu":
            _keep_memory()

    def __call__(self, images: Tensor) -> Answer:
        layout = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
        if layout != self._layout:
            self.module.to(memory_format=layout)  # type: ignore[call-overload]
            self._layout = layout
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            answer = self._run(images.contiguous(memory_format=layout))
        if self._device.type == "cuda":
            self._compile_when_it_pays(images.numel())
        return tuple(tensor.float() for tensor in answer)

    def _compile_when_it_pays(self, pixels: int) -> None:
        """How much is to come is not known: compile when so much has come that it would have been worth it."""
        before, self._pixels = self._pixels, self._pixels + pixels
        if before < _COMPILE_AFTER <= self._pixels:
            _LOG.info("compiling the network for the GPU after %d pixels", self._pixels)
            self._run = self.compiled(torch.compile(self.module, dynamic=True))

    def compiled(self, module: Callable[[Tensor], Answer]) -> Callable[[Tensor], Answer]:
        """A compiled module that gives way to the plain one when it fails, as compilers do for odd networks."""

        def run(images: Tensor) -> Answer:
            try:
                return module(images)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a compiler may raise
                _LOG.warning("the network runs uncompiled: %s", str(error)[:300])
                self._run = self.module
                return self.module(images)  # type: ignore[no-any-return]

        return run


def _keep_memory() -> None:
    """Let the C library keep freed memory of up to 512 MiB, in pieces of up to 64 MiB, instead of giving it back.

    It hands out the intermediate results of every window anew, and clearing their pages takes a tenth of the time.
    """
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such switch
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)


class Session(Protocol):
    """A network that a library made ready."""

    def run(self, images: Tensor) -> Answer:
        """As `Backend`."""
        ...


class Library(Protocol):
    """Turns a module into sessions for one shape of input each, all in float32 and with as many threads as PyTorch."""

    name: str

    def __init__(self, module: nn.Module, example: Tensor) -> None: ...

    def session(self, shape: torch.Size) -> Session:
        """Ready for inputs of `shape`."""
        ...


class Accelerated:
    """A library, watched by eager PyTorch: its first answer is compared, and a network that cannot be converted, or
    that answers otherwise, runs eagerly. Why is logged.

    Args:
        library: What to convert the network for.
        eager: The network.
        example: As for `open_backend`. Without one, every shape of input has a conversion and a comparison of its own:
            a conversion follows the way that the network took for its example.
    """

    def __init__(self, library: type[Library], eager: Eager, example: Tensor | None = None) -> None:
        self._kind = library
        self._eager = eager
        self._example = example
        self._sessions: dict[torch.Size, Session] = {}
        self._libraries: dict[torch.Size | None, Library | None] = {}

    @property
    def name(self) -> str:
        """`eager` once the conversion has failed."""
        failed = self._libraries and not any(self._libraries.values())
        return "eager" if failed else self._kind.name

    def __call__(self, images: Tensor) -> Answer:
        key = images.shape if self._example is None else None
        if key not in self._libraries:
            self._libraries[key] = self._checked(images if self._example is None else self._example)
        library = self._libraries[key]
        return (
            self._session(library, images.shape).run(images) if library is not None else self._eager(images)
        )

    def _session(self, library: Library, shape: torch.Size) -> Session:
        found = self._sessions.pop(shape, None)
        if found is None:
            while self._sessions and sum(s.numel() for s in self._sessions) + shape.numel() > _HELD_PIXELS:
                del self._sessions[next(iter(self._sessions))]
            found = library.session(shape)
        self._sessions[shape] = found  # the newest comes last
        return found

    def _checked(self, images: Tensor) -> Library | None:
        """The library, if it answers as eager PyTorch does."""
        try:
            library = self._kind(self._eager.module, images)
            if _agree(library.session(images.shape).run(images), self._eager(images)):
                return library
            reason = "its answers differ from PyTorch's"
        except Exception as error:  # whatever a library of this size may raise
            reason = f"{type(error).__name__}: {str(error)[:300]}"
        _LOG.warning("%s does not run the network, PyTorch does: %s", self._kind.name, reason)
        return None


def _agree(found: Answer, expected: Answer) -> bool:
    if len(found) != len(expected):
        return False
    for one, other in zip(found, expected, strict=True):
        spread = float(other.abs().max().clamp(min=1.0))
        if one.shape != other.shape or not float((one - other).abs().max()) <= _TOLERANCE * spread:
            return False
    return True


class OpenVino:
    """Intel's library, also fast on AMD."""

    name = "openvino"

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        # It would report its use to its makers; unpublished data is nobody's business.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        self._openvino: Any = importlib.import_module("openvino")
        root = logging.getLogger()
        level, filters, handlers = root.level, root.filters[:], root.handlers[:]
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about tracing
                self._model = self._openvino.convert_model(module, example_input=example)
        finally:
            # After a failure it leaves everybody's log at ERROR, with its own handler.
            root.setLevel(level)
            root.filters, root.handlers = filters, handlers

    def session(self, shape: torch.Size) -> Session:
        model = self._model.clone()
        model.reshape(list(shape))
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # several workers share the machine
        }
        return _OpenVinoSession(self._openvino, self._openvino.Core().compile_model(model, "CPU", settings))


class _OpenVinoSession:
    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._tensor = openvino.Tensor
        self.compiled = compiled
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))

    def run(self, images: Tensor) -> Answer:
        pixels = np.ascontiguousarray(images.numpy())
        self._request.infer({0: self._tensor(pixels, shared_memory=True)}, share_outputs=True)
        return tuple(torch.from_numpy(self._request.get_output_tensor(i).data) for i in self._outputs)


class OnnxRuntime:
    """Microsoft's library, through ONNX."""

    name = "onnxruntime"

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self._runtime: Any = importlib.import_module("onnxruntime")
        target = io.BytesIO()
        axes = {0: "n"} | {axis: f"axis{axis}" for axis in range(2, example.ndim)}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about tracing, and that there is a newer exporter with more to install
            torch.onnx.export(
                module,
                (example,),
                target,  # type: ignore[arg-type]
                input_names=["images"],
                dynamic_axes={"images": axes},
                dynamo=False,
            )
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session: Any = self._runtime.InferenceSession(
            target.getvalue(), options, providers=["CPUExecutionProvider"]
        )

    def session(self, shape: torch.Size) -> Session:
        return self  # one takes all shapes

    def run(self, images: Tensor) -> Answer:
        found = self._session.run(None, {"images": np.ascontiguousarray(images.numpy())})
        return tuple(torch.from_numpy(array) for array in found)


_LIBRARIES: Final[dict[str, type[Library]]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}
