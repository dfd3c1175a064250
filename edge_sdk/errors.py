"""Every error the SDK raises on purpose, split by what the caller does next.

EdgeError                     a defect of ours, or of the machine                      exit 1
├── ConfigError               fix the device file or the arguments                     exit 3
├── BundleError               export the bundle again, or update this runtime          exit 4
│   └── BundleIntegrityError  do not trust this copy: fetch it again                   exit 5
├── CaptureError              look at the camera; may come back by itself              exit 6
├── LineError                 look at the wiring of an input or output; the same       exit 6
├── EngineError               choose another engine or device                          exit 7
├── GateError                 the exported graph is not faithful: do not ship it       exit 8
├── SelfTestError             this box does not compute what the exporter computed     exit 9
├── InputError                fix the pictures, references or checkpoint               exit 11
├── SpoolError                make room on the disk, or mend it                        exit 1
├── PublishError              try again later; the message is still in the spool       exit 75
└── BusyError                 another process holds it: try again later                exit 75

A message names the file or key it is about, what was expected, and what came.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeError(Exception):
    """Base of all errors the SDK raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(EdgeError):
    """A device file or an argument is wrong."""

    exit_code = 3


class BundleError(EdgeError):
    """A bundle is malformed, or made for another runtime."""

    exit_code = 4


class BundleIntegrityError(BundleError):
    """A bundle is not what its manifest says: a digest, a size or the list of files differs."""

    exit_code = 5


class CaptureError(EdgeError):
    """A source gives no frames."""

    exit_code = 6


class LineError(EdgeError):
    """A trigger input or an output line cannot be used."""

    exit_code = 6


class EngineError(EdgeError):
    """An inference engine cannot be loaded or cannot run a graph."""

    exit_code = 7


class GateError(EdgeError):
    """A parity or accuracy gate failed."""

    exit_code = 8


class SelfTestError(EdgeError):
    """The golden frames of a bundle came out differently on this machine."""

    exit_code = 9


class InputError(EdgeError):
    """Pictures, references or a checkpoint cannot be used."""

    exit_code = 11


class SpoolError(EdgeError):
    """The spool cannot store a message durably."""


class PublishError(EdgeError):
    """The broker did not acknowledge; what was to be published is kept."""

    exit_code = 75


class BusyError(EdgeError):
    """Another process holds the resource."""

    exit_code = 75
