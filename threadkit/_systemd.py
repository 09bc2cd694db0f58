"""What a service tells systemd, where systemd wants to know: that it is up, that it stops, and that it is alive.

The protocol is datagrams of ``KEY=value`` lines to the socket that the environment names (``sd_notify(3)``). Telling is
a courtesy: a socket that is gone, or full, neither harms the service nor holds it up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_logger = logging.getLogger("threadkit")


class Systemd:
    """The manager of this process, as the environment describes it; without ``NOTIFY_SOCKET`` nothing has any effect.

    Args:
        environment: where the variables are looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A leading "@" stands for the zero byte of an abstract address, which no file belongs to.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        self._has_failed = False
        self._status = ""
        self.watchdog_interval: float | None = self._interval(environment) if name else None

    def tell(self, status: str, **fields: int) -> None:
        """Send one datagram.

        Args:
            status: a text for ``systemctl status``; only its first line is sent, and only where it is news.
            **fields: other fields, such as ``READY=1``.
        """
        if not self._address:
            return
        lines = [f"{name}={value}" for name, value in fields.items()]
        status = status.partition("\n")[0]
        if status != self._status:
            lines.append(f"STATUS={status}")
        if not lines:
            return
        try:
            self._open().sendto("\n".join(lines).encode(errors="replace"), self._address)
            self._status, self._has_failed = status, False
        except (OSError, AttributeError) as error:  # it is gone or full; or this system has no such sockets
            if not self._has_failed:  # once is enough: the next one would be told to nobody either
                _logger.warning("systemd cannot be told %s: %s", lines, error)
            self._has_failed = True

    def close(self) -> None:
        """Tell nothing more."""
        self._address = ""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is None:
            import socket

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        return self._socket

    @staticmethod
    def _interval(environment: Mapping[str, str]) -> float | None:
        """Return how often to say that all is well: twice as often as the watchdog asks for, if it watches us."""
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        try:
            microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        except ValueError:
            return None
        return microseconds / 2e6 if microseconds > 0 else None
