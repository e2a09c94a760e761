"""The vllm backend: vLLM's offline engine inside this process, with prefix caching."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Sequence
from typing import Any

from gecko_core.encode import plan_batches
from gecko_core.errors import BackendError, ModelError, first_line
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.loading import plain_folder, weights_fingerprint
from gecko_fret.llm.protocol import Completion, Dialogue, Sampling, Scored, ScoreRequest, Usage, WriteRequest
from gecko_fret.llm.sampling import end_tokens
from gecko_fret.llm.segments import LabelTokens, SegmentTokenizer, Tokenised, by_context, in_order, softmax

_CALL_TOKENS = 8_192


class VllmLLM:
    """vLLM behind the protocol.

    Prompt log-probabilities take memory for every token of a call, so calls are cut to ``batch_tokens`` tokens. Labels
    are read from the log-probabilities of a step that may only choose among their tokens. The engine runs in this
    process: when the process is killed, nothing of it stays behind.

    Args:
        engine: a ``vllm.LLM``.
        config: its configuration section.
        fingerprint: see ``LLM``.
    """

    def __init__(self, engine: Any, config: LLMConfig, fingerprint: str):
        self.name, self.fingerprint, self.usage = config.model, fingerprint, Usage()
        self._engine, self._batch_tokens = engine, config.batch_tokens or _CALL_TOKENS
        self._row_seeds = config.send_seed
        self._tokenizer = SegmentTokenizer(engine.get_tokenizer(), config.model)

    @classmethod
    def load(cls, config: LLMConfig, seed: int = 0) -> VllmLLM:
        """Start the engine; see ``Backend``.

        Raises:
            ModelError: vLLM is not installed.
            BackendError: the engine does not start.
        """
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # read when vllm is imported
        try:
            import vllm
        except ImportError as error:
            raise ModelError(
                f"llm.backend vllm: vLLM cannot be imported ({error}); pip install 'gecko-fret[vllm]'"
            ) from None
        try:
            engine = vllm.LLM(
                model=plain_folder(config.model),
                dtype=config.dtype,
                seed=seed,
                max_model_len=config.max_model_len,
                gpu_memory_utilization=config.gpu_memory_utilization,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise BackendError(f"llm.backend vllm: the engine did not start ({first_line(error)})") from None
        return cls(engine, config, cls.fingerprint_of(config))

    @classmethod
    def fingerprint_of(cls, config: LLMConfig) -> str:
        """Weights and dtype; see ``Backend``."""
        return f"vllm:{weights_fingerprint(config.model)}:{config.dtype}"

    def close(self) -> None:
        """Release the engine."""
        self._engine = None
        gc.collect()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """See ``LLM``."""
        return self._tokenizer.truncate(texts, max_tokens)

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """See ``ChatLLM``."""
        return self._tokenizer.chat(dialogue)

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """See ``LLM``."""
        from vllm import SamplingParams

        ends = sorted(end_tokens(self._tokenizer.tokenizer))
        params = [
            SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                stop=list(sampling.stop),
                stop_token_ids=ends,
                skip_special_tokens=False,  # one that is no end must be seen, to be rejected
                logprobs=0,
                seed=request.seed % 2**31 if self._row_seeds else None,
            )
            for request in requests
        ]
        outputs = self._run(self._tokenizer.write(requests), params)
        return [_completion(output.outputs[0]) for output in outputs]

    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        """See ``LLM``; in blocks, requests of one prefix and context follow one another.

        The engine's prefix cache then serves them, where labels alone are asked for: vLLM computes a prompt whose own
        log-probabilities are wanted in full.
        """
        if blocks:
            order = by_context(requests)
            return in_order(order, self.score([requests[number] for number in order], labels))
        from vllm import SamplingParams

        tokens = self._tokenizer.labels(labels) if labels else None
        rows = self._tokenizer.score(requests, tokens.lead if tokens else ())
        results: list[Scored] = []
        lengths = [len(row.ids) for row in rows]
        for numbers in plan_batches(lengths, self._batch_tokens, padded=False, longest_first=False):
            chunk = [rows[number] for number in numbers]
            wanted = any(row.end > row.start for row in chunk)
            params = SamplingParams(
                max_tokens=1,
                temperature=0,
                prompt_logprobs=0 if wanted else None,
                allowed_token_ids=tokens.ids if tokens else None,
                logprobs=len(tokens.ids) if tokens else None,
            )
            outputs = self._run([row.ids for row in chunk], [params] * len(chunk))
            results += [_scored(output, row, tokens) for output, row in zip(outputs, chunk, strict=True)]
        return results

    def _run(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        from vllm import TokensPrompt

        if not prompts:
            return []
        outputs = self._engine.generate(
            [TokensPrompt(prompt_token_ids=ids) for ids in prompts], list(params), use_tqdm=False
        )
        self.usage.requests += len(outputs)
        self.usage.prompt_tokens += sum(len(ids) for ids in prompts)
        self.usage.generated_tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
        return outputs


def _completion(output: Any) -> Completion:
    values = [step[token].logprob for step, token in zip(output.logprobs or [], output.token_ids, strict=False)]
    mean = sum(values) / len(values) if values else 0.0
    return Completion(output.text, mean, len(output.token_ids), output.finish_reason == "stop")


def _scored(output: Any, row: Tokenised, labels: LabelTokens | None) -> Scored:
    values = []
    if row.end > row.start:
        values = [output.prompt_logprobs[at][row.ids[at]].logprob for at in range(row.start, row.end)]
    probabilities: tuple[float, ...] = ()
    if labels is not None:
        step = output.outputs[0].logprobs[0]
        probabilities = softmax([step[token].logprob if token in step else -1e9 for token in labels.ids])
    return Scored(sum(values) / len(values) if values else math.nan, len(values), probabilities)
