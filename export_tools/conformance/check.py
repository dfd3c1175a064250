"""All checks of a golden set, in the order of the data."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from export_tools.conformance.encoded import encode_inputs, encoder_answers
from export_tools.conformance.golden_set import (
    ARRAY_FILES,
    GoldenSet,
    build_adapters,
    build_towers,
    read_golden_set,
)
from export_tools.conformance.judged import judgement_answers
from export_tools.conformance.ledger import Answer, Row, compare
from export_tools.conformance.measured import expected_values, metric_answers
from export_tools.conformance.read import (
    config_answers,
    expected_config,
    expected_samplings,
    input_answers,
    picture_answers,
    sampling_answers,
    weight_answers,
)
from export_tools.conformance.trained import training_answers


def check_golden_set(folder: Path) -> list[Row]:
    """Compare everything in a folder.

    Returns:
        One row an array, and one for each figure and sampling in a JSON file.

    Raises:
        InputError: a file is missing or cannot be read, or the weights do not fit.
    """
    golden = read_golden_set(folder)
    answers = answer_golden_set(golden)
    expected = expected_config(golden)
    for file in ARRAY_FILES:
        expected |= {(file, key): value for key, value in golden.arrays[file].items()}
    expected |= expected_values(golden) | expected_samplings(golden)
    return list(compare(expected, answers))


def answer_golden_set(golden: GoldenSet) -> list[Answer]:
    """What this implementation says of everything in a set.

    Raises:
        InputError: an input is missing, or the weights do not fit.
    """
    towers = build_towers(golden)
    adapters = build_adapters(golden, towers)
    answers: list[Answer] = [
        *config_answers(golden, towers, adapters),
        *weight_answers(golden, towers, adapters),
        *input_answers(golden),
        *picture_answers(golden),
        *sampling_answers(golden),
        *metric_answers(golden),
    ]
    with torch.no_grad():
        encoded = encode_inputs(golden, towers, adapters)
        answers += encoder_answers(golden, towers, adapters, encoded)
        answers += judgement_answers(golden, towers, adapters, encoded)
    return answers + list(training_answers(golden, towers, copy.deepcopy(adapters), encoded))
