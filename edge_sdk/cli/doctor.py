"""``edge-doctor``: what is missing on this box, and how to get it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, run_command

_EXAMPLES = """exit codes: 0 nothing failed, otherwise that of the first failure
  3 settings, state folder or lines · 4, 5 bundle · 6 camera · 7 engine · 9 self-test ·
  11 references · 75 broker · 1 anything else
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-doctor",
        description="Check Python, engines, bundle, state folder, disk, clock, cameras, references "
        "and broker, and say how to mend what is wrong. Nothing is changed or published.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="as for edge-run; beside --config also a camera's name",
    )
    parser.add_argument("--references", metavar="SET", help="reference set (default: default)")
    parser.add_argument("--mqtt", metavar="HOST[:PORT]", help="broker (default: localhost:1883)")
    add_common_arguments(
        parser, "config", "bundle", "state", "engine", "device", "precision", "json", "verbose"
    )
    add_common_arguments(parser, "allow-untrained")
    return run_command(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from edge_sdk.doctor.examination import Examination

    examination = Examination(
        lambda: resolve_settings(options),
        bundle=options.bundle,
        enroll=lambda camera: _enroll_command(options, camera),
        allow_untrained=options.allow_untrained,
    )
    findings = []
    for finding in examination.findings():
        findings.append(finding)
        if not options.json:
            mark = finding.status.upper() if finding.status == "fail" else finding.status
            print(f"{mark:4}  {finding.name:20}  {_indented(finding.detail)}", flush=True)
            if finding.fix is not None:
                print(f"{'':4}  {'':20}  fix: {_indented(finding.fix)}", flush=True)
    counts = {
        status: sum(finding.status == status for finding in findings)
        for status in ("ok", "warn", "fail")
    }
    exit_code = next((found.exit_code for found in findings if found.status == "fail"), 0)
    if options.json:
        checks = [asdict(finding) for finding in findings]
        for check in checks:
            del check["exit_code"]
        print_json({"exit_code": exit_code, "counts": counts, "checks": checks})
    else:
        print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed")
    return exit_code


def _enroll_command(options: argparse.Namespace, camera: str) -> str:
    """Shows a camera good parts, with the options that the doctor was called with."""
    from edge_sdk.config.source import shown_source

    words = ["edge-enroll"]
    if options.config is not None:
        words += ["--config", str(options.config)]
    if options.camera is not None:
        words += ["--camera", shown_source(options.camera)]  # a password is said to nobody
    elif options.config is not None:
        words += ["--camera", camera]
    for name in ("state", "bundle", "references"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join(words)


def _indented(text: str) -> str:
    """Later lines below the first one."""
    return text.replace("\n", "\n" + " " * 28)


if __name__ == "__main__":
    sys.exit(main())
