"""The fast engine shows what textworld's own shows, and its cache survives damage."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from stock_alfworld import Shown, walk

from stages.envs.alfworld import CATEGORY
from stages.envs.alfworld.engine import Engine, Frame
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.alfworld.generator import Game, generate_game, write_game
from stages.envs.alfworld.translation import TranslationCache
from stages.envs.base import EnvironmentFault, Task
