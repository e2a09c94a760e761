"""A decoder of transformers: hidden states, logits where they are read, and prefixes computed once."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gecko_core.errors import ModelError
from gecko_fret.llm import traits

_PREFIXES_KEPT = 32
_LOGIT_ROWS = 512  # rows of a logits block: 512 x 50k x 4 bytes = 100 MB
#: Layers whose attention a mask decides alone. Others (linear attention, state spaces) carry a state along the row.
_MASKED_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
#: What the argument that holds keys, values and states is called: since transformers 5.24 (which says that the second
#: name goes in 5.40), before it, and by models of state spaces.
_CACHES = ("cache", "past_key_values", "cache_params")
#: Entries of a configuration by which logits are multiplied after the output layer; -1: divided.
_SCALES = {"logit_scale": 1, "lm_head_multiplier": 1, "logits_scaling": -1}


class Decoder:
    """The network of a causal language model.

    Args:
        model: a causal language model of transformers.
        name: the model's name, for messages.
        encode: token ids of a prefix, with a begin mark where the model has one.

    Raises:
        ModelError: the model's logits are not those of its output layer, or its states cannot be carried on in batches.
    """

    def __init__(self, model: Any, name: str, encode: Callable[[str], list[int]]):
        self._model, self._encode = model.eval(), encode
        self._decoder = _network(model)
        parameters = inspect.signature(self._decoder.forward).parameters
        self._cache = next((name for name in _CACHES if name in parameters), "")
        kinds = {parameter.kind for parameter in parameters.values()}
        self._takes_positions = "position_ids" in parameters or inspect.Parameter.VAR_KEYWORD in kinds
        self._head = model.get_output_embeddings()
        self._prefixes: OrderedDict[str, tuple[int, list[tuple[Tensor, Tensor]]]] = OrderedDict()
        self.prefix_tokens = 0
        self._scale = _scale(model.config.get_text_config())
        if not traits.head_is_whole(self, model):
            raise ModelError(f"LLM {name!r}: its logits are not its output layer's; use the vllm or openai backend")
        if self.recurrent and not traits.states_bear_padding(self):
            raise ModelError(
                f"LLM {name!r}: its layers carry a state along the text in a way in which rows of several lengths "
                "cannot share a batch here; use the vllm or openai backend"
            )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return self._model.dtype

    def end_ids(self) -> set[int]:
        """Tokens that end a completion by the model's own configuration."""
        ends = self._model.generation_config.eos_token_id if self._model.generation_config else None
        return {end for end in (ends if isinstance(ends, list | tuple) else [ends]) if end is not None}

    def forget_prefixes(self) -> None:
        """Release the prefixes' keys and values."""
        self._prefixes.clear()

    def forward(
        self,
        ids: Tensor,  # (B, L)
        mask: Tensor,  # (B, P + L), 1 where a token is; or (B, 1, L, P + L), True where a token sees another
        positions: Tensor,  # (B, L)
        cache: Any,
    ) -> Tensor:  # (B, L, D)
        """Last hidden states; ``cache`` holds keys and values of the P tokens before and receives those of ``ids``."""
        options = {self._cache: cache, "use_cache": True} if cache is not None else {"use_cache": False}
        if self._takes_positions:
            options["position_ids"] = positions
        return self._decoder(input_ids=ids, attention_mask=mask, **options).last_hidden_state

    def logits(
        self, hidden: Tensor, rows: list[int] | None = None, *, exact: bool = False
    ) -> Tensor:  # (..., D) -> (..., V), fp32
        """Logits over the vocabulary, or over the tokens in ``rows`` alone, then with ``exact`` multiplied in fp32.

        A logit of 16 in bf16 is a multiple of 1/8, which leaves the log-odds of two labels a handful of values.
        """
        if rows is None:
            logits = self._head(hidden).float()
        else:
            weight, bias = self._head.weight[rows], getattr(self._head, "bias", None)
            bias = None if bias is None else bias[rows]
            if exact:
                hidden, weight, bias = hidden.float(), weight.float(), None if bias is None else bias.float()
            logits = torch.nn.functional.linear(hidden, weight, bias).float()
        if self._scale != 1:
            logits = logits * self._scale
        cap = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if not cap else torch.tanh(logits / cap) * cap

    def logprobs(self, states: Tensor, targets: Tensor) -> Tensor:  # (T, D), (T,) -> (T,)
        """Log-probabilities of the target tokens after these hidden states; logits are made in blocks."""
        values = []
        for block, tokens in zip(states.split(_LOGIT_ROWS), targets.split(_LOGIT_ROWS), strict=True):
            logits = self.logits(block)
            values.append(logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1))
        return torch.cat(values)

    def logprobs_of(
        self,
        states: Tensor,  # (S, D)
        targets: Tensor,  # (T,)
        after: Tensor,  # (T,), numbers of states
    ) -> Tensor:  # (T,)
        """Log-probabilities of the target tokens, several of which may follow the same hidden state."""
        values = torch.empty(len(targets), device=states.device)
        for start in range(0, len(states), _LOGIT_ROWS):
            logits = self.logits(states[start : start + _LOGIT_ROWS])
            here = ((after >= start) & (after < start + _LOGIT_ROWS)).nonzero()[:, 0]
            rows = after[here] - start
            values[here] = logits[rows, targets[here]] - logits.logsumexp(-1)[rows]
        return values

    def prefix_ids(self, prefix: str) -> list[int]:
        """Token ids of a prefix, for rows that read it themselves."""
        return self._encode(prefix)

    def minds_gaps(self, prefix: str, length: int) -> bool:
        """Whether padding between a row's prefix and what follows would change what its tokens see.

        Padded rows that grow have such gaps. Within windows a model counts the keys between two tokens, padding among
        them, and so do some whose attention decays with the distance (ALiBi).

        Args:
            prefix: the shared prefix.
            length: most tokens after it.
        """
        return self.recurrent or self._counts_keys or not self._fits_windows(self._prefix(prefix)[0] + length)

    @cached_property
    def _counts_keys(self) -> bool:
        return traits.counts_keys(self)

    def _fits_windows(self, length: int) -> bool:
        config = self._model.config.get_text_config()
        windows = [value for name in _WINDOWS if isinstance(value := getattr(config, name, None), int)]
        return all(length <= window for window in windows)

    def keep_rows(self, cache: Any, rows: Tensor) -> None:
        """Leave in a cache the rows (K,) alone, which ascend."""
        if self.recurrent:
            cache.reorder_cache(rows)  # what layers with states have instead
        else:
            cache.batch_select_indices(rows)

    @cached_property
    def recurrent(self) -> bool:
        """Whether layers carry a state along the text (linear attention, convolutions, state spaces).

        A token then needs more of those before it than keys and values: no prefix is kept, no mask sets texts apart.
        """
        kinds = getattr(self._model.config.get_text_config(), "layer_types", None)
        if not self._cache or (kinds and not _MASKED_LAYERS.issuperset(kinds)):
            return True
        with torch.inference_mode():
            output = self._decoder(input_ids=torch.arange(2, device=self.device)[None], use_cache=True)
        layers = getattr(getattr(output, self._cache, None), "layers", None)
        return layers is None or any(not hasattr(one, "keys") or hasattr(one, "recurrent_states") for one in layers)

    def continued(self, cache: Any, rows: Tensor) -> Any:
        """A cache that goes on from these rows of ``cache``, which stays as it is."""
        from gecko_fret.llm.selected import SelectedRows

        return SelectedRows(cache, rows)

    def takes_blocks(self, prefix: str, length: int) -> bool:
        """Whether a mask of four dimensions decides alone what a token of this model sees.

        Within a sliding window, or a chunk, every token sees all tokens before it, as in full attention. Beyond it the
        model counts the keys between two tokens, which are not their distance where texts stand side by side.

        Args:
            prefix: the shared prefix.
            length: tokens after it, up to the end of the longest text.
        """
        return not self.recurrent and self._obeys_masks and self._fits_windows(self._prefix(prefix)[0] + length)

    @cached_property
    def _obeys_masks(self) -> bool:
        return traits.obeys_masks(self)

    def prefix_cache(self, prefixes: Sequence[str | None]) -> tuple[Any, Tensor]:
        """Keys and values of every row's prefix, shorter ones padded on the left, and their mask (B, P).

        Rows without a prefix have None; all rows of a recurrent model do.
        """
        from transformers import DynamicCache

        distinct = {prefix: self._prefix(prefix) for prefix in dict.fromkeys(prefixes)}
        width = max(length for length, _ in distinct.values())
        lengths = torch.tensor([distinct[prefix][0] for prefix in prefixes], device=self.device)
        mask = (torch.arange(width, device=self.device) >= width - lengths[:, None]).long()
        cache = DynamicCache(config=self._model.config) if self.recurrent else DynamicCache()
        if not width:
            return cache, mask
        order = list(distinct)
        which = torch.tensor([order.index(prefix) for prefix in prefixes], device=self.device)
        for layer in range(max(len(layers) for _, layers in distinct.values())):
            pairs = [layers[layer] if layers else None for _, layers in distinct.values()]
            keys, values = (_padded([pair and pair[kind] for pair in pairs], width) for kind in (0, 1))
            cache.update(keys[which], values[which], layer)
        return cache, mask

    def _prefix(self, prefix: str | None) -> tuple[int, list[tuple[Tensor, Tensor]]]:
        """Number of tokens of a prefix, and its keys and values, (1, H, P, D) each, by layer; computed once."""
        if prefix is None:
            return 0, []
        if prefix not in self._prefixes:
            ids = self._encode(prefix)
            layers: list[tuple[Tensor, Tensor]] = []
            if ids:
                output = self._decoder(input_ids=torch.tensor([ids], device=self.device), use_cache=True)
                layers = [(layer.keys, layer.values) for layer in getattr(output, self._cache).layers]
                self.prefix_tokens += len(ids)
            self._prefixes[prefix] = (len(ids), layers)
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(prefix)
        return self._prefixes[prefix]


def _padded(states: Sequence[Tensor | None], width: int) -> Tensor:
    """Keys or values (1, H, P, D) of several prefixes, padded on the left: (prefixes, H, width, D).

    A prefix without tokens has None.
    """
    example = next(state for state in states if state is not None)
    padded = example.new_zeros(len(states), example.shape[1], width, example.shape[3])
    for row, state in enumerate(states):
        if state is not None:
            padded[row, :, width - state.shape[2] :] = state[0]
    return padded


def _network(model: Any) -> Any:
    """What makes hidden states of tokens: the part of a causal language model before its output layer."""
    decoder = model.get_decoder()
    if decoder.get_output_embeddings() is None:
        return decoder
    # transformers 4 knows no decoder of GPT-2's kind, and gives the model itself; so do models that are a part of one
    # for images.
    if model.base_model is not model:
        return model.base_model
    words = model.get_input_embeddings()
    return next(part for part in model.children() if any(module is words for module in part.modules()))


def _scale(config: Any) -> float:
    """What a configuration has logits multiplied by."""
    scale = 1.0
    for name, power in _SCALES.items():
        value = getattr(config, name, None)
        if isinstance(value, int | float):
            scale *= value**power
    return scale
