"""ALFWorld: household tasks in text, from generated or official games."""

import os
import tempfile
from pathlib import Path

from stages.core.spec import EnvSpec, Interface

# `import alfworld` makes the folder this names, ~/.cache/alfworld if nothing does. Nothing here reads it: every game is
# given by its path, so a folder that exists anyway will do.
os.environ.setdefault("ALFWORLD_DATA", tempfile.gettempdir())

CATEGORY: dict[str, str] = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_cool_then_place_in_recep": "cool",
    "look_at_obj_in_light": "examine",
    "pick_heat_then_place_in_recep": "heat",
    "pick_and_place_simple": "put",
    "pick_two_obj_and_place": "puttwo",
}
"""ALFWorld's task types and what the paper calls them."""

TASK_TYPE: dict[str, str] = {category: task_type for task_type, category in CATEGORY.items()}

ENVIRONMENT = EnvSpec(
    name="alfworld",
    title="ALFWorld",
    interface=Interface(
        setting="You act in a household through text.",
        state={"Location": "where you are", "Inventory": "what you hold"},
    ),
    environment="stages.envs.alfworld.environment:AlfworldEnvironment",
    settings="stages.panelling.alfworld.settings:AlfworldPanels",
    panels="stages.panelling.alfworld:build",
    categories_read="stages.envs.alfworld.instruction:category_reader",
    demonstrations="stages.demonstrations.alfworld:demonstrate",
    hint_rules="stages.hinting.alfworld:RULES",
    same_goal=("scene", "task_type", "object", "receptacle"),
    categories=tuple(TASK_TYPE),
    skills=tuple(TASK_TYPE),
    examples=Path(__file__).with_name("examples.json"),
    oracle=Path(__file__).with_name("oracle.yaml"),
)
