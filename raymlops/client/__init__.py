"""Clients of an endpoint, blocking and asynchronous. Know nothing of how it is served."""

from raymlops.client.async_client import AsyncClient
from raymlops.client.client import Client
from raymlops.client.conversation import Prediction
from raymlops.client.rows import Rows

__all__ = ["AsyncClient", "Client", "Prediction", "Rows"]
