"""ALFWorld: household tasks in text, from generated or official games."""

import os
import tempfile

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
