"""``edge-bundle``: look at a bundle, check it, pack it into one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle, BundleManifest
    from edge_sdk.config import EngineConfig
    from edge_sdk.conformance import ConformanceRow

_ENGINE_OPTIONS = {"engine": "name", "device": "device", "precision": "precision"}
"""Option -> key of the device file's ``engine``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None: from the command line.

    Returns:
        0 done · 1 unexpected · 3 wrong place to write · 4 bundle malformed or incompatible ·
        5 bundle damaged or tampered with · 7 the engine or device is not to be had ·
        8 a graph is not the published method · 9 this machine does not compute what the
        exporter computed.
    """
    return run_command(_build_parser(), _run, arguments)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-bundle",
        description="Look at a bundle, check it, pack it into one file.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="info|verify|pack")
    info = commands.add_parser("info", help="show what a bundle holds (checks it first)")
    verify = commands.add_parser("verify", help="check every file of a bundle")
    pack = commands.add_parser("pack", help="write a bundle as one .edgebundle file")
    for command, run in ((info, _info), (verify, _verify), (pack, _pack)):
        command.set_defaults(run=run, refuse=command.error)
        # Both spellings: the plain one for people, the option because all commands have it.
        command.add_argument(
            "source", nargs="?", type=Path, metavar="BUNDLE", help="the same as --bundle"
        )
        add_common_arguments(command, "bundle", "json", "verbose")
    verify.add_argument(
        "--run",
        dest="run_self_test",  # ``run`` is the subcommand's function
        action="store_true",
        help="also run its self-test: do the golden frames come out here as at the exporter's?",
    )
    verify.add_argument(
        "--conformance",
        type=Path,
        metavar="DIR",
        help="also run a golden set of the published method through the graphs, which were "
        "exported from its weights",
    )
    add_common_arguments(verify, "engine", "device", "precision")
    pack.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .edgebundle file to write"
    )
    pack.add_argument(
        "--for-device",
        action="store_true",
        help="leave out what no device uses: graphs of format torch and the report",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.source is not None and options.bundle is not None:
        options.refuse("expected BUNDLE or --bundle, got both")
    options.run(options.bundle if options.source is None else options.source, options)
    return 0


def _info(path: Path | None, options: argparse.Namespace) -> None:
    from edge_sdk.bundle import open_bundle

    bundle = open_bundle(path)
    if options.json:
        print_json({"location": str(bundle.location), "manifest": bundle.manifest.document()})
        return
    manifest = bundle.manifest
    print(_table([("bundle", str(bundle.location)), *_facts(manifest)]))
    sizes = {entry.path: entry.size for entry in manifest.files}
    print("\n" + _table(_graph_rows(manifest, sizes)))
    print("\n" + _table(_scorer_rows(manifest)))
    if manifest.parity:
        print("\n" + _table(_parity_rows(manifest)))
    print("\n" + _table(_file_rows(manifest)))


def _verify(path: Path | None, options: argparse.Namespace) -> None:
    from edge_sdk.bundle import open_bundle

    given = [f"--{name}" for name in _ENGINE_OPTIONS if getattr(options, name) is not None]
    if given and not (options.run_self_test or options.conformance):
        options.refuse(f"expected --run or --conformance beside {', '.join(given)}")
    bundle = open_bundle(path)
    manifest = bundle.manifest
    total_bytes = sum(entry.size for entry in manifest.files)
    self_test = _self_test(bundle, options) if options.run_self_test else None
    rows = [] if options.conformance is None else _conformance(bundle, options)
    if options.json:
        print_json(
            {
                "verified": True,
                "location": str(bundle.location),
                "bundle_id": manifest.bundle_id,
                "files": len(manifest.files),
                "bytes": total_bytes,
                "graphs": len(manifest.graphs),
                "signature": _signature(manifest),
                "self_test": self_test,
                "conformance": [asdict(row) | {"passed": row.passed} for row in rows],
            }
        )
        _check_rows(rows)
        return
    print(
        f"ok: {bundle.location}\n"
        f"{manifest.bundle_id}\n"
        f"{len(manifest.files)} files, {_size(total_bytes)}: sizes and digests are those of the "
        "manifest, nothing is missing or undeclared\n"
        f"{len(manifest.graphs)} graphs: none keeps data in other files, operators and versions "
        "are allowed\n"
        f"signature: {_signature(manifest)}"
    )
    if self_test is not None:
        print(
            f"self-test: engine {self_test['engine']} on {self_test['device']}, "
            f"{self_test['precision']}, {self_test['frames']} frames"
        )
        print(_table(_difference_rows(self_test)))
    for row in rows:
        verdict = "ok" if row.passed else "FAIL"
        print(f"{row.key:32} {row.error:.1e} <= {row.limit:.0e}  {verdict}")
    _check_rows(rows)


def _conformance(bundle: Bundle, options: argparse.Namespace) -> list[ConformanceRow]:
    from edge_sdk.conformance import check_conformance

    return check_conformance(bundle, options.conformance, _engine(options))


def _check_rows(rows: Sequence[ConformanceRow]) -> None:
    from edge_sdk.errors import GateError

    failed = [row.key for row in rows if not row.passed]
    if failed:
        raise GateError(f"conformance: {len(failed)} of {len(rows)} arrays differ: {failed[0]}")
    if rows:
        print(f"conformance: {len(rows)} arrays agree", file=sys.stderr)


def _engine(options: argparse.Namespace) -> EngineConfig:
    from edge_sdk.config import default_config, override_config

    changes: dict[tuple[str | int, ...], Any] = {
        ("engine", key): getattr(options, name)
        for name, key in _ENGINE_OPTIONS.items()
        if getattr(options, name) is not None
    }
    return override_config(default_config(), changes).engine


def _self_test(bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    """Run the golden frames through the engine asked for; what was found and what is allowed."""
    from edge_sdk.model import load_model
    from edge_sdk.selftest import run_self_test

    engine = _engine(options)
    model = load_model(bundle, engine)
    found = asdict(run_self_test(model))
    return {
        "engine": engine.name,
        "device": engine.device,
        "precision": model.precision,
        "frames": found.pop("frames"),
        "differences": found,
        "tolerance": bundle.manifest.golden.tolerance[model.precision].model_dump(),
    }


def _difference_rows(self_test: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield "COMPARED", "LARGEST DIFFERENCE", "TOLERANCE"
    for kind, difference in self_test["differences"].items():
        yield kind, f"{difference:.1e}", f"{self_test['tolerance'][kind]:.1e}"


def _pack(path: Path | None, options: argparse.Namespace) -> None:
    from edge_sdk.bundle import pack_bundle

    manifest = pack_bundle(path, options.out, for_device=options.for_device)
    size = options.out.stat().st_size
    if options.json:
        print_json({"out": str(options.out), "bytes": size, "bundle_id": manifest.bundle_id})
        return
    print(f"{options.out}: {_size(size)}\n{manifest.bundle_id}")


def _facts(manifest: BundleManifest) -> list[tuple[str, str]]:
    model, picture = manifest.model, manifest.input
    height, width = picture.size
    resize = picture.resize
    antialias = " with antialiasing" if resize.antialias else ""
    cut = manifest.threshold
    tokens = "from picture to map by itself, needs no references"
    if model.layers:
        layers = ", ".join(map(str, model.layers))
        tokens = f"{' and '.join(model.streams)} tokens of layers {layers}"
    return [
        ("id", manifest.bundle_id),
        ("created", f"{manifest.created:%Y-%m-%d %H:%M} UTC"),
        ("format", f"{manifest.format_version}, for edge_sdk {manifest.requires_runtime} or newer"),
        ("signature", _signature(manifest)),
        ("model", f"{model.backbone}, {tokens}"),
        ("weights", f"{model.weights_source} (sha256 {model.weights_sha256[:12]}...)"),
        ("trained", ", ".join(model.trained_branches) or "no adapter"),
        ("training data", manifest.training_data),
        ("licence", f"{manifest.licence}, commercial use: {manifest.commercial_use}"),
        ("input", f"{width} x {height} {picture.color}, {resize.mode}, {resize.kernel}{antialias}"),
        ("extractor", manifest.extractor_id),
        (
            "threshold",
            "none, fit one on the site"
            if cut.value is None
            else f"{cut.value:g} ({cut.method}, {cut.n} pictures)",
        ),
        (
            "golden",
            f"{len(manifest.golden.frames)} frames, {len(manifest.golden.references)} references",
        ),
    ]


def _signature(manifest: BundleManifest) -> str:
    return "none" if manifest.signature is None else "not checked by this version"


def _graph_rows(manifest: BundleManifest, sizes: dict[str, int]) -> Iterable[Sequence[str]]:
    yield "GRAPH", "FORMAT", "PRECISION", "OPSET", "SIZE"
    for graph in manifest.graphs:
        size = _size(sum(sizes[path] for path in graph.paths))
        yield graph.role, graph.format, graph.precision, _or_dash(graph.opset), size


def _scorer_rows(manifest: BundleManifest) -> Iterable[Sequence[str]]:
    yield "SCORER", "FUSION", "SIGMA", "PARAMETERS"
    for scorer in manifest.scorers:
        parameters = ", ".join(
            f"{key}={'+'.join(map(str, value)) if isinstance(value, tuple) else value}"
            for key, value in scorer.parameters.items()
        )
        yield scorer.name, _or_dash(scorer.fusion), f"{scorer.sigma:g}", parameters or "-"


def _parity_rows(manifest: BundleManifest) -> Iterable[Sequence[str]]:
    yield (
        "PARITY", "PRECISION", "ENGINE", "COMPARED", "PICTURES", "WEIGHTS",
        "MAX", "MEAN", "RANK", "FLIPS", "VERDICT",
    )  # fmt: skip
    for row in manifest.parity:
        yield (
            row.graph, row.precision, row.engine, row.compared, str(row.pictures), row.weights,
            _or_dash(row.max_abs_map), _or_dash(row.mean_abs_map),
            _or_dash(row.rank_correlation), _or_dash(row.verdict_flips), row.verdict,
        )  # fmt: skip


def _file_rows(manifest: BundleManifest) -> Iterable[Sequence[str]]:
    yield "FILE", "SIZE", "SHA256"
    for entry in manifest.files:
        yield entry.path, _size(entry.size), f"{entry.sha256[:12]}..."


def _or_dash(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
