"""Every rule of a chain by its name, in the order in which they are shown."""

from minigpt_repl.sampling import bans, choosing, history, shape, truncation
from minigpt_repl.sampling.stage import Stage

MODULES = (truncation, shape, history, bans, choosing)

STAGES: dict[str, Stage] = {
    rule.name: rule
    for module in MODULES
    for rule in vars(module).values()
    if isinstance(rule, Stage)
}
