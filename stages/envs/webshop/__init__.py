"""WebShop (arXiv 2207.01206) without Java: search, pages, action dialects and reward of the official code.

A task's category is its product's department; its skill is `options` when the goal wants one chosen, else `plain`.
"""

from pathlib import Path

from stages.core.spec import EnvSpec, Interface

ENVIRONMENT = EnvSpec(
    name="webshop",
    title="WebShop",
    interface=Interface(
        setting="You shop on a website through text.",
        actions="search[words] or click[something in brackets]",
        state={"Selection": "the product you are at and the options you chose"},
    ),
    environment="stages.envs.webshop.environment:WebShopEnvironment",
    settings="stages.panelling.webshop.settings:WebshopPanels",
    panels="stages.panelling.webshop:build",
    categories_read="stages.envs.webshop.department:category_reader",
    demonstrations="stages.demonstrations.webshop:demonstrate",
    hint_rules="stages.hinting.webshop:RULES",
    same_goal=("asin",),
    alike={
        "product": ("asin",),
        "text": ("instruction",),
        "goal": ("asin", "instruction", "attributes", "options"),
    },
    skills=("plain", "options"),
    graded=True,
    examples=Path(__file__).with_name("examples.json"),
    oracle=Path(__file__).with_name("oracle.yaml"),
)
