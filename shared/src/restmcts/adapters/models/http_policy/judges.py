"""Language models that judge solutions, each opened once."""

from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import ClosableProposer, open_policy
from restmcts.ports import StepProposer
from restmcts.settings import PolicyServerSettings


class Judges:
    """The judges of a process, by address.

    Args:
        settings: how servers are called.
    """

    def __init__(self, settings: PolicyServerSettings) -> None:
        self._settings = settings
        self._opened: dict[str, ClosableProposer] = {}

    def open(self, address: str) -> StepProposer:
        """Return the model at an address.

        Raises:
            InputError: if the address is malformed.
        """
        if address not in self._opened:
            self._opened[address] = open_policy(parse_address(address), self._settings)
        return self._opened[address]

    def close(self) -> None:
        """Give up all connections."""
        for judge in self._opened.values():
            judge.close()
        self._opened.clear()
