"""An authority of the plant's own, and certificates by it, made with openssl."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, final

import pytest

_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def need_openssl() -> None:
    """Skip, or fail with CI set, where there is none."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing; with CI set this is a failure")
        pytest.skip("openssl is missing")


@final
class Authority:
    """Signs certificates; its own is ``certificate``.

    Args:
        folder: where all of its files are.
        name: of the authority.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.pem"
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-days", "9", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip

    def issue(self, name: str, alternative: str = "", *, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key.

        Args:
            name: its common name, and that of its files.
            alternative: for whom, as ``DNS:localhost`` or ``IP:127.0.0.1``; of a device: nothing.
            days: until it ends; negative: it has ended.
        """
        stem = f"{self._name}-{name}"
        self._openssl(
            "req", *_NEW_KEY, "-subj", f"/CN={name}",
            "-keyout", f"{stem}.key", "-out", f"{stem}.csr",
        )  # fmt: skip
        extensions = self._folder / f"{stem}.ext"
        lines = [
            "basicConstraints=CA:FALSE",
            *([f"subjectAltName={alternative}"] * bool(alternative)),
        ]
        extensions.write_text("\n".join(lines) + "\n", encoding="ascii")
        self._openssl(
            "x509", "-req", "-in", f"{stem}.csr", "-CA", f"{self._name}.pem",
            "-CAkey", f"{self._name}.key", "-CAcreateserial", "-days", str(days),
            "-extfile", extensions.name, "-out", f"{stem}.pem",
        )  # fmt: skip
        (self._folder / f"{stem}.key").chmod(0o600)
        return self._folder / f"{stem}.pem", self._folder / f"{stem}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
