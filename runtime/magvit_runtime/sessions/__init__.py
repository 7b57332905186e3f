"""Sessions: a bundle's graph in a backend, and the choice of the backend."""

from magvit_runtime.sessions.protocol import Capabilities, DeviceSession, Session
from magvit_runtime.sessions.selection import Backend, open_encoder, open_graph

__all__ = [
    "Backend",
    "Capabilities",
    "DeviceSession",
    "Session",
    "open_encoder",
    "open_graph",
]
