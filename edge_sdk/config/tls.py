"""The files behind an encrypted connection, checked before the first attempt to connect."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge_sdk.config.model import TlsConfig
from edge_sdk.config.secrets import check_private_file, credential_path
from edge_sdk.errors import ConfigError


def build_tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Build what an encrypted connection needs: TLS 1.2 or newer, host name checked.

    Raises:
        ConfigError: a file is missing or not what it should be, certificate and key are not a
            pair, or others may read the key.
    """
    _check_exists(tls.ca_file, "ca_file")
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except ssl.SSLError:
        raise ConfigError(
            f"mqtt.tls.ca_file: {tls.ca_file}: expected certificates in PEM form, got others"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None and tls.key_file is not None:
        cert_file, key_file = credential_path(tls.cert_file), credential_path(tls.key_file)
        _check_exists(cert_file, "cert_file")
        _check_exists(key_file, "key_file")
        check_private_file(key_file, key_file.stat(), "mqtt.tls.key_file")
        try:
            # A password, though wrong: without one an encrypted key is asked for on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError as error:
            raise ConfigError(
                f"mqtt.tls.cert_file: {cert_file}: expected a certificate in PEM form and "
                f"its unencrypted key in {key_file}, got {error.reason or 'something else'}"
            ) from None
    return context


def _check_exists(path: Path | None, key: str) -> None:
    if path is not None and not path.is_file():
        raise ConfigError(f"mqtt.tls.{key}: {path}: expected a file, got none")
