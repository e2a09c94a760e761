"""Language models behind one protocol: write completions, score continuations and labels."""

from gecko_fret.llm.protocol import LLM, Completion, Sampling, Scored, ScoreRequest, Usage, WriteRequest

__all__ = ["LLM", "Completion", "Sampling", "ScoreRequest", "Scored", "Usage", "WriteRequest"]
