"""A device's certificate in a TLS connection; its key never touches a disk."""

import os
import ssl
from collections import OrderedDict
from typing import Final

KEPT: Final = 50  # contexts; with the system's authorities in it each takes almost a megabyte


class Identities:
    """TLS contexts by certificate. trust_file: what signs FDMS's own; empty: the system's."""

    def __init__(self, trust_file: str = "") -> None:
        self._trust_file = trust_file
        self._made: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def anonymous(self) -> ssl.SSLContext:
        """Without a certificate, for the public calls."""
        return self._get("", "")

    def of(self, certificate: str, key: str) -> ssl.SSLContext:
        """With the device's, both PEM. The same one each time, as connections belong to it."""
        return self._get(certificate, key)

    def _get(self, certificate: str, key: str) -> ssl.SSLContext:
        context = self._made.get(certificate)
        if context is None:
            context = ssl.create_default_context(cafile=self._trust_file or None)
            if certificate:
                _load(context, f"{certificate}\n{key}".encode())
            self._made[certificate] = context
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(certificate)
        return context


def _load(context: ssl.SSLContext, chain: bytes) -> None:
    """Python loads certificates from files only; this one exists in memory."""
    memory = os.memfd_create("device", os.MFD_CLOEXEC)
    try:
        os.write(memory, chain)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
