"""No file that the SDK reads can make it run code."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.code_loaders import find_code_loaders
from contract.tree import ROOT, python_files


@pytest.mark.parametrize(
    ("source", "find"),
    [
        ("import pickle", "1: imports pickle"),
        ("def load():\n    from pickle import loads", "2: imports pickle"),
        ("import joblib.numpy_pickle as j", "1: imports joblib.numpy_pickle"),
        ("import marshal", "1: imports marshal"),
        ("from shelve import open as open_shelf", "1: imports shelve"),
        ("import importlib\nimportlib.import_module('dill')", "2: imports dill"),
        ("from pickle import UnpicklingError, load", "1: imports pickle"),
        ("eval(text)", "1: calls eval"),
        ("import builtins\nbuiltins.exec(text)", "2: calls builtins.exec"),
        ("import numpy as np\nnp.load(p)", "2: calls numpy.load without allow_pickle=False"),
        (
            "import numpy as np\nnp.load(p, allow_pickle=flag)",
            "2: calls numpy.load without allow_pickle=False",
        ),
        ("from numpy import load\nload(p)", "2: calls numpy.load without allow_pickle=False"),
        ("import torch\ntorch.load(p)", "2: calls torch.load without weights_only=True"),
        (
            "import torch\ntorch.load(p, weights_only=False)",
            "2: calls torch.load without weights_only=True",
        ),
        ("from torch import jit\njit.load(p)", "2: calls torch.jit.load"),
        ("import yaml\nyaml.load(text, yaml.SafeLoader)", "2: calls yaml.load"),
        ("import yaml\nyaml.compose(text, Loader=yaml.Loader)", "2: uses yaml.Loader"),
    ],
)
def test_a_planted_loader_is_found(source: str, find: str) -> None:
    assert find_code_loaders(source) == [find]


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "import torch\ntorch.load(p, weights_only=True)",
        "import yaml\nyaml.compose(text, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.safe_load(text)",
        "from pickle import UnpicklingError",
        "model.eval()",
        "import json\njson.load(file)",
    ],
)
def test_a_safe_reader_is_let_through(source: str) -> None:
    assert find_code_loaders(source) == []


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_run_code_out_of_a_file(path: Path) -> None:
    assert find_code_loaders(path.read_text("utf-8")) == []
