"""From an export of anomalib to a bundle on the disk: read, compare, refuse or write, and prove."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.bundle import ManifestDraft, write_bundle
from edge_sdk.bundle.paths import REPORT_NAME
from export_tools.anomalib.compare import (
    Comparison,
    compare_with_file,
    engines_for,
    manifest_rows,
)
from export_tools.anomalib.contract import Contract, read_contract
from export_tools.anomalib.files import ModelFile, read_model_file
from export_tools.anomalib.golden import make_golden
from export_tools.anomalib.words import (
    ImportOptions,
    describe,
    extractor_id,
    graph_files,
    graph_spec,
    input_spec,
    model_spec,
    scorer_spec,
    threshold_spec,
)
from export_tools.faithful import Listener
from export_tools.golden import Golden
from export_tools.package import REQUIRES_RUNTIME, Exported, StepClock, check_destination, prove
from export_tools.parity import as_bound, check_gate
from export_tools.parity_rows import MapParity
from export_tools.pictures import clip_pictures, folder_pictures
from export_tools.report import write_report


def import_bundle(
    path: Path,
    destination: Path,
    options: ImportOptions,
    *,
    pictures: Path | None,
    listener: Listener,
) -> Exported:
    """Wrap an export. Nothing is written unless the device half answers as the file itself does.

    Args:
        path: ``.onnx`` or ``.xml``; their weights are looked for beside them.
        destination: the folder; an older bundle there is replaced.
        options: what the file does not say.
        pictures: folder of the parts it was trained on, the first four by name known-good; None:
            the clip that comes along.
        listener: is told how far it is.

    Raises:
        ConfigError: nothing can be written at the destination, or it holds something else.
        InputError: the file's contract cannot be kept, or the pictures cannot be used.
        EngineError: an engine cannot run the graph.
        GateError: the device half and the file disagree.
        SelfTestError: the bundle does not give its own golden answers.
        EdgeError: the disk is full.
    """
    check_destination(destination)
    created = datetime.now(timezone.utc)
    clock = StepClock(listener)
    with clock.step("contract", f"reading {path.name}"):
        file = read_model_file(path)
        contract = read_contract(file, size=options.size)
        for line in contract_lines(file, contract):
            listener.stage(line)
    with clock.step("pictures", "reading pictures"):
        compared = clip_pictures() if pictures is None else folder_pictures(pictures)
    with clock.step("parity", f"comparing with the file itself on {compared.source}"):
        comparison = compare_with_file(
            file, contract, options, pictures=compared, listener=listener
        )
        check_gate(comparison.findings.rows)
    with clock.step("golden", "asking the file for golden answers"):
        golden = make_golden(
            file, contract, options, pictures=compared.judged, comparison=comparison
        )
    draft = _draft(file, contract, options, comparison=comparison, golden=golden)
    files = {**graph_files(file), **golden.files}
    with clock.step("proof", "testing the bundle as a device does"):
        self_tests = prove(draft, files, created, engines=engines_for(file))
    report = write_report(
        created=created,
        pictures=compared.source,
        findings=comparison.findings,
        self_tests=self_tests,
        seconds=clock.seconds,
    )
    manifest = write_bundle(destination, draft, {**files, REPORT_NAME: report}, created)
    return Exported(
        manifest=manifest,
        findings=comparison.findings,
        self_tests=self_tests,
        seconds=clock.seconds,
    )


def contract_lines(file: ModelFile, contract: Contract) -> list[str]:
    """The contract, for people."""
    said = describe(file, contract)
    inside = "none found at the input"
    if contract.mean is not None:
        inside = f"inside: mean {_numbers(contract.mean)}"
        inside += f", std {_numbers(contract.std)}" if contract.std else ", std inside the weights"
    scores = "raw, as the model has them"
    if contract.is_normalised:
        scores = "normalised inside and cut off at 0 and 1"
    cut = "none of its own: fit one on good pictures (edge-enroll)"
    if contract.threshold is not None:
        cut = f"{contract.threshold:g}, baked in"
    return [
        f"  input         {said['input']}",
        f"  outputs       {', '.join(said['outputs'])}",
        f"  normalisation {inside}",
        f"  scores        {scores}",
        f"  threshold     {cut}",
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _draft(
    file: ModelFile,
    contract: Contract,
    options: ImportOptions,
    *,
    comparison: Comparison,
    golden: Golden,
) -> ManifestDraft:
    rows = [row for row in comparison.findings.rows if isinstance(row, MapParity)]
    scorer = scorer_spec(contract)
    largest = {str(scorer.parameters["map"]): max(as_bound(row.max_abs) for row in rows)}
    notes: dict[str, Any] = {"x_anomalib": describe(file, contract)}
    return ManifestDraft(
        requires_runtime=REQUIRES_RUNTIME,
        licence=options.licence,
        commercial_use=options.commercial_use,
        training_data=options.training_data,
        model=model_spec(file, options),
        extractor_id=extractor_id(file, contract, options),
        input=input_spec(contract, options),
        graphs=(graph_spec(file, contract, largest),),
        scorers=(scorer,),
        threshold=threshold_spec(contract),
        parity=manifest_rows(comparison.findings),
        golden=golden.spec,
        **notes,
    )
