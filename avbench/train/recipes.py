"""The recipes by name. A recipe is a function that returns a config; its docstring's first line is what `avbench list recipes` shows."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from avbench.errors import unknown_name
from avbench.generate import training as generate
from avbench.tokenizers.avtok.train import recipes as avtok
from avbench.tokenizers.larp.train import recipes as larp
from avbench.train.codecs import recipes as codecs
from avbench.train.config import TrainConfig

Recipe = Callable[[], TrainConfig]
C = TypeVar("C", bound=TrainConfig)

RECIPES: dict[str, Recipe] = {**avtok.RECIPES, **larp.RECIPES, **codecs.RECIPES, **generate.RECIPES}


def shortened(config: C, clips: int) -> C:
    """The recipe over `clips` clips in all, every stage in proportion (whole batches, at least one); "-CLIPS" goes on its name.

    Two schedules of one recipe stay comparable: lengths that divide alike see the same clips in the same order.
    """
    share, batch = clips / config.clips, config.batch_size
    stages = tuple(replace(stage, clips=max(1, round(stage.clips * share / batch)) * batch) for stage in config.stages)
    return replace(config, stages=stages).renamed(f"{config.name}-{sum(stage.clips for stage in stages)}")


def config(recipe: str | TrainConfig) -> TrainConfig:
    """A recipe's config by name; a config as it is. Raises UsageError for an unknown name."""
    if isinstance(recipe, TrainConfig):
        return recipe
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    return RECIPES[recipe]()
