"""What the frozen layers make of a text, computed once: they have no dropout, so it is the same in every step.

The states are in the dtype of the products (bf16 where these are), in a file without a name in the stage's folder: the
system keeps of it in memory what has room there, and it is gone with the process, however that ends. On a CPU every
text runs by itself, so that its states are the same bits whatever came before it, also after a resume.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gecko_core import Gecko
from gecko_core.encode import plan_batches
from gecko_core.io import make_folder, unwritable
from gecko_train.loop.frozen import transformer_layers

_SHARE_OF_DISK = 2  # checkpoints need the rest


class FrozenStates:
    """Outputs of the lowest layers by text, and forward passes that begin with them.

    Args:
        model: in training, its lowest layers frozen.
        count: how many of them; at least one.
        folder: of the stage; made where it is missing.
        dtype: that states are kept in.
        autocast: under which the model runs.
        together: tokens of texts that run as one batch; less than a text has: each by itself.

    Raises:
        DataError: nothing can be written in ``folder``.
    """

    def __init__(
        self,
        model: Gecko,
        count: int,
        folder: Path,
        *,
        dtype: torch.dtype,
        autocast: Callable[[], AbstractContextManager[Any]],
        together: int = 1,
    ):
        self._model, self._dtype, self._autocast, self._together = model, dtype, autocast, together
        self._layers = list(transformer_layers(model.backbone)[:count])
        make_folder(folder)
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this object lives
        except OSError as error:
            raise unwritable(folder, error) from None
        self._left = shutil.disk_usage(folder).free // _SHARE_OF_DISK
        self._end = 0
        self._places: dict[bytes, tuple[int, int]] = {}  # of a text: where its states begin, and how many bytes
        self._unkept: dict[bytes, Tensor] = {}  # of this step, where there is no room
        self._unfit = False  # for being kept: every pass is a whole one

    def prepare(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """Compute the states of the texts that have none yet.

        Args:
            rows: token ids of a step's texts.

        Returns:
            The numbers of tokens of the texts that were computed.
        """
        if self._unfit:
            return [len(row) for row in rows]
        self._unkept = {}
        missing = list({name: row for row in rows if (name := _name(row)) not in self._places}.values())
        for group in plan_batches([len(row) for row in missing], self._together):
            chosen = [missing[index] for index in group]
            states = self._computed(chosen)
            if states is None:
                self._unfit = True
                return [len(row) for row in rows]
            for row, state in zip(chosen, states, strict=True):
                self._keep(_name(row), state)
        return [len(row) for row in missing]

    @contextmanager
    def given(self, rows: Sequence[Sequence[int]]) -> Iterator[None]:
        """Within, a forward pass of these texts takes the states in place of computing the frozen layers.

        Args:
            rows: token ids of texts that :meth:`prepare` has seen in this step.
        """
        if self._unfit:
            yield
            return
        states = [self._read(_name(row)) for row in rows]

        def last(hidden: Tensor, *_: Any, **__: Any) -> Any:
            return self._as_output(_laid_out(states, hidden))

        def below(hidden: Tensor, *_: Any, **__: Any) -> Any:
            return self._as_output(hidden)

        with ExitStack() as stack:
            for layer in self._layers[:-1]:
                stack.enter_context(_forward_of(layer, below))
            stack.enter_context(_forward_of(self._layers[-1], last))
            yield

    def _computed(self, rows: Sequence[Sequence[int]]) -> list[Tensor] | None:
        """States (L, D) of each text; None where they change, or layers hand on more than them (T5: its bias)."""
        layer = self._layers[-1]
        forward = layer.forward

        def stop(*args: Any, **options: Any) -> Any:
            raise _Reached(forward(*args, **options))

        with self._autocast(), _forward_of(layer, stop):
            try:
                self._model(rows=rows)
            except _Reached as reached:
                output = reached.output
        # Before transformers 5 layers return tuples, with None where attention is not asked for.
        self._beside = output[1:] if isinstance(output, tuple) else None
        hidden: Tensor = output if self._beside is None else output[0]
        if hidden.requires_grad or any(value is not None for value in self._beside or ()):
            return None
        lengths = [len(row) for row in rows]
        if len(hidden) == len(rows):
            return [hidden[place, :length] for place, length in enumerate(lengths)]
        return list(hidden[0, : sum(lengths)].split(lengths))

    def _as_output(self, hidden: Tensor) -> Any:
        return hidden if self._beside is None else (hidden, *self._beside)

    def _keep(self, name: bytes, states: Tensor) -> None:
        states = states.detach().to("cpu", self._dtype).contiguous()
        content = states.view(torch.uint8).numpy().tobytes()
        if len(content) <= self._left:
            with suppress(OSError):  # others have filled the disk
                self._width = states.shape[-1]
                if os.pwrite(self._file.fileno(), content, self._end) == len(content):
                    self._places[name] = (self._end, len(content))
                    self._end += len(content)
                    self._left -= len(content)
                    return
            self._left = 0
        self._unkept[name] = states

    def _read(self, name: bytes) -> Tensor:
        if name in self._unkept:
            return self._unkept[name]
        place, size = self._places[name]
        content = bytearray(os.pread(self._file.fileno(), size, place))
        return torch.frombuffer(content, dtype=self._dtype).unflatten(0, (-1, self._width))


class _Reached(Exception):
    """The last frozen layer has this output; the layers above need not run."""

    def __init__(self, output: Any):
        self.output = output


@contextmanager
def _forward_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a layer do something else; its attributes, which models look at, stay."""
    before = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = before


def _laid_out(states: Sequence[Tensor], like: Tensor) -> Tensor:
    """States of texts as the batch has them: padded (B, L, D), or end to end (1, T, D) with padding behind."""
    if len(like) != len(states) or len(states) == 1:
        states = [torch.cat(list(states))]
    laid = pad_sequence(list(states), batch_first=True).to(like.device, like.dtype)
    return nn.functional.pad(laid, (0, 0, 0, like.shape[1] - laid.shape[1]))


def _name(row: Sequence[int]) -> bytes:
    return blake2b(array("q", row).tobytes(), digest_size=16).digest()
