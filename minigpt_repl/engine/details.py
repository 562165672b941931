"""What samplers weighed, read off a step: candidates and drafts.

Recomputed in numpy from what a step left behind, because KerasHub's samplers
keep their scores to themselves.
"""

from collections.abc import Mapping

import numpy as np

from minigpt_repl.engine.inspection import probabilities, temperature_of
from minigpt_repl.engine.one_step import State, Step
from minigpt_repl.engine.request import CandidatesWeighed, DraftVerified
from minigpt_repl.sampling.parameters import Value


def candidates_weighed(
    number: int, index: int, before: State, step: Step, values: Mapping[str, Value]
) -> CandidatesWeighed:
    """The candidates of one step of contrastive search, best first.

    Score = (1 - alpha) * probability - alpha * the largest cosine similarity of
    the candidate's hidden state with an earlier one (Su et al. 2022, "A
    Contrastive Framework for Neural Text Generation", arXiv:2202.06417,
    equation 5).

    Args:
        number: of the new token, from 0.
        index: its position.
        before: the loop variables before the step: prompt, cache, index, logits
            `(1, vocabulary)`, hidden states `(1, context, hidden)`.
        step: the step.
        values: the sampler's parameters.
    """
    logits, hidden_states = (tensor.numpy()[0] for tensor in before[3:5])
    earlier = hidden_states[:index]  # (index, hidden)
    candidates = step.look.hidden_states.numpy()  # (k, hidden)
    ids = step.look.prompt.numpy()[:, index]
    shares = probabilities(logits, temperature_of(values))[ids]
    lengths = np.linalg.norm(candidates, axis=1)[:, None]
    lengths = lengths * np.linalg.norm(earlier, axis=1)[None]
    likeness = (candidates @ earlier.T / lengths).max(axis=1)
    alpha = float(values["alpha"] or 0.0)
    scores = (1 - alpha) * shares - alpha * likeness
    order = (-scores).argsort(kind="stable")
    return CandidatesWeighed(
        number,
        tuple(
            (int(ids[i]), float(shares[i]), float(likeness[i]), float(scores[i]))
            for i in order
        ),
    )


def draft_verified(number: int, index: int, step: Step) -> DraftVerified:
    """One round of speculative decoding.

    Args:
        number: of the round's first token, from 0.
        index: its position.
        step: the round.
    """
    drafts = step.look.logits.shape[1] - 1
    drafted = step.look.prompt.numpy()[0, index : index + drafts].tolist()
    chosen = step.text.numpy()[0, index : int(step.index)].tolist()
    accepted = 0
    for draft, own in zip(drafted, chosen, strict=False):
        if draft != own:
            break
        accepted += 1
    return DraftVerified(number, tuple(drafted), accepted, chosen[-1])
