"""The longest run that two sequences have in common, in linear time."""

from __future__ import annotations

from collections.abc import Sequence


def longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest run of words that stands in both sequences.

    By the suffix automaton of ``first`` (Blumer et al., Theoretical Computer Science 40, 1985): linear in the lengths
    of both, where comparing all pairs of places takes minutes on an answer of some ten thousand words.

    Args:
        first: words; the automaton has at most twice as many states.
        second: words.
    """
    moves, links, lengths = _suffix_automaton(first)
    best = state = length = 0
    for word in second:
        while state and word not in moves[state]:
            state = links[state]
            length = lengths[state]
        if word in moves[state]:
            state, length = moves[state][word], length + 1
            best = max(best, length)
    return best


def _suffix_automaton(words: Sequence[str]) -> tuple[list[dict[str, int]], list[int], list[int]]:
    """Of every state: where a word leads, the state of its longest suffix of another class, its longest run."""
    moves: list[dict[str, int]] = [{}]
    links, lengths = [-1], [0]
    last = 0
    for word in words:
        new = len(moves)
        moves.append({})
        lengths.append(lengths[last] + 1)
        links.append(0)
        state = last
        while state >= 0 and word not in moves[state]:
            moves[state][word] = new
            state = links[state]
        if state >= 0:
            target = moves[state][word]
            if lengths[target] == lengths[state] + 1:
                links[new] = target
            else:
                copy = len(moves)
                moves.append(dict(moves[target]))
                lengths.append(lengths[state] + 1)
                links.append(links[target])
                while state >= 0 and moves[state].get(word) == target:
                    moves[state][word] = copy
                    state = links[state]
                links[target] = links[new] = copy
        last = new
    return moves, links, lengths
