"""Everything that is under way: prompts, conversations, deposits, and the couriers of them all."""

from scripts.stack.daraja.conversations import Conversations
from scripts.stack.daraja.couriers import Couriers
from scripts.stack.daraja.deposits import Deposits
from scripts.stack.daraja.phones import Phones
from scripts.stack.daraja.world import World


class Desk:
    """One of each, sharing the couriers."""

    def __init__(self, world: World) -> None:
        self._couriers = Couriers(world)
        self.phones = Phones(world, self._couriers)
        self.conversations = Conversations(world, self._couriers)
        self.deposits = Deposits(world, self._couriers)

    def resume(self) -> None:
        """After a start: what the last run left open goes on."""
        self.phones.resume()
        self.conversations.resume()
        self.deposits.resume()
        self._couriers.collect()

    async def forget(self) -> None:
        """Before the books are emptied: nobody acts, nothing is carried any more."""
        await self.phones.forget()
        await self.conversations.forget()
        await self.deposits.forget()
        await self._couriers.forget()

    async def stop(self) -> None:
        """For good."""
        await self.forget()
        await self._couriers.stop()
