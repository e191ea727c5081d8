"""The recipes by name: entry points of the group `avbench.recipes`, so that a plugin can be trained too.

A recipe is a function that returns a config; its docstring's first line is what `avbench list recipes` shows.
"""

from dataclasses import replace
from typing import TypeVar

from avbench.errors import AvbenchError, unknown_name
from avbench.registry import plugins
from avbench.train.config import TrainConfig

C = TypeVar("C", bound=TrainConfig)


def shortened(config: C, clips: int) -> C:
    """The recipe over `clips` clips in all, every stage in proportion (whole batches, at least one); "-CLIPS" goes on its name.

    Two schedules of one recipe stay comparable: lengths that divide alike see the same clips in the same order.
    """
    share, batch = clips / config.clips, config.batch_size
    stages = tuple(replace(stage, clips=max(1, round(stage.clips * share / batch)) * batch) for stage in config.stages)
    return replace(config, stages=stages).renamed(f"{config.name}-{sum(stage.clips for stage in stages)}")


def config(recipe: str | TrainConfig) -> TrainConfig:
    """A recipe's config by name; a config as it is.

    Raises UsageError for an unknown name, AvbenchError where its plugin cannot be imported or returns something else.
    """
    if isinstance(recipe, TrainConfig):
        return recipe
    known = plugins("recipe")
    if recipe not in known:
        raise unknown_name("recipe", recipe, known)
    made = known[recipe].load()()
    if not isinstance(made, TrainConfig):
        raise AvbenchError(f'recipe "{recipe}" of distribution {known[recipe].distribution} returns no TrainConfig')
    return made
