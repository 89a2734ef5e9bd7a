"""The pager's arithmetic: budgets of an address space, the pressure edge, and which entries leave when one arrives.

Sans-IO and without text: it moves page-table entries and asks the policy; what an eviction leaves behind is written
by the kernel (paging/queue.py). Guarantee: after `make_room` the queue and the arriving tokens fit Q, provided that
pinned_max + 2 * unit <= Q, which `budgets` checks.
"""

from __future__ import annotations

import msgspec

from kernel.errors import BadInput, KernelPanic
from kernel.limits import MARKS_TOKENS_MAX
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.measure import Costs
from kernel.memory.page import UNRANKED, Kind
from kernel.memory.policy import Policy
from kernel.memory.split import STEPS
from kernel.settings import Settings

HYSTERESIS = 0.1  # the pressure edge falls this share of Q below `warn`
LEAST, MOST = 2, 12  # of STEPS: bounds of a learned share
THOUGHT_LEAST = 32  # tokens; who could think fewer, and did not ask for that, does not think


class Budgets(msgspec.Struct, frozen=True):
    """How a window is divided, in tokens; `queue` is what the rest leaves (Q)."""

    window: int
    text: int
    data: int
    recall: int
    reply: int
    frame: int  # begin and generation prompt
    queue: int
    pinned: int
    unit: int  # the largest page that can arrive: a split text, or a reply
    thought: int = 0  # what a process may think before an instruction, marks included

    @property
    def shared(self) -> int:
        """What queue and recall have together."""
        return self.queue + self.recall

    @property
    def places(self) -> range:
        """Where the border between them may be, where that is learned: recall has so many STEPS-ths of it."""
        return places(self.shared, self.pinned + 2 * self.unit)

    @property
    def low(self) -> str:
        """The sum, for people."""
        return (
            f"window {self.window} - text {self.text} - data {self.data} - recall {self.recall} - "
            f"reply {self.reply} - {f'thought {self.thought} - ' if self.thought else ''}"
            f"frame {self.frame} = queue {self.queue}"
        )


def reply_max(settings: Settings) -> int:
    """The reply limit in tokens: as set, or a tenth of the window up to 512."""
    return settings.cpu.reply or min(512, settings.window // 10)


def thought(settings: Settings, think: str, room: int) -> int:
    """Tokens that are kept for a thought before an instruction, marks included, by a process's `think` (spec.py).

    A number is kept, whatever becomes of the rest; otherwise no more than half the `room` that a queue can spare.
    """
    if think == "off":
        return 0
    if think.isdigit():
        return int(think) + MARKS_TOKENS_MAX
    kept = min((settings.cpu.think or settings.window // 8) + MARKS_TOKENS_MAX, max(0, room) // 2)
    return kept if kept >= THOUGHT_LEAST + MARKS_TOKENS_MAX else 0


def places(shared: int, need: int) -> range:
    """Shares of `shared` tokens (in STEPS-ths) that recall may have, such that the queue keeps `need`; one at least."""
    most = (shared - need) * STEPS // max(1, shared)
    return range(LEAST, max(LEAST, min(MOST, most)) + 1)


def learned(settings: Settings) -> bool:
    """Whether the share of recall is learned; where nothing is recalled, it is not."""
    return settings.memory.share == "learned" and settings.memory.recall > 0


def first(settings: Settings, shared: int) -> int:
    """The place that `memory.recall` says, of `shared` tokens: a learned share begins there."""
    return round(settings.window * settings.memory.recall * STEPS / max(1, shared))


def budgets(
    settings: Settings, costs: Costs, text: int, page_tokens: int, place: int | None = LEAST, think: str = "off"
) -> Budgets:
    """Divide the window. Raises BadInput with the sum if what is left cannot hold two pages beside the pinned ones.

    Where the share of recall is learned, it is that of `place` (None: the first one), or of the nearest that may be.
    `think`: of the process, "off" where its model does not.
    """
    window, reply = settings.window, reply_max(settings)
    data, recall = int(window * settings.memory.data), int(window * settings.memory.recall)
    frame = costs.begin + (0 if text else costs.bare) + costs.generate
    unit = max(page_tokens, reply) + max(costs.role.values())
    pinned = window // 16
    need, shared = pinned + 2 * unit, max(0, window - text - data - reply - frame)
    least = shared * LEAST // STEPS if learned(settings) else recall
    kept = thought(settings, think, shared - least - need)
    if learned(settings):
        shared = max(0, shared - kept)
        allowed = places(shared, need)
        wanted = first(settings, shared) if place is None else place
        recall = shared * max(allowed[0], min(allowed[-1], wanted)) // STEPS
    queue = window - text - data - recall - reply - kept - frame
    found = Budgets(window, text, data, recall, reply, frame, queue, pinned, unit, kept)
    if need > queue:
        less = "memory.recall, memory.data or cpu.reply" if not kept else "memory.recall, cpu.reply or thought"
        raise BadInput(
            f"the window is too small: {found.low}, but pinned {pinned} + 2 x page {unit} = {need} "
            f"are needed; take a larger window, or less {less}"
        )
    return found


def of_thread(limits: Budgets) -> Budgets:
    """The budgets of a thread of the kernel's: no data, half for what it emits, the rest for what it looks at."""
    queue = max(limits.pinned + 2 * limits.unit, limits.shared // 2)
    return msgspec.structs.replace(limits, data=0, queue=queue, recall=limits.shared + limits.data - queue)


def batch(used: int, arriving: int, queue: int, low: float) -> int:
    """Tokens that leave so that `arriving` fit into a `queue` holding `used`: none, or all above the `low` mark."""
    assert used >= 0
    assert arriving >= 0
    wanted = used + arriving
    return max(wanted - queue, wanted - int(low * queue)) if wanted > queue else 0


def make_room(space: AddressSpace, policy: Policy, limits: Budgets, arriving: int, low: float) -> list[Entry]:
    """Take out of the queue what must leave so that `arriving` tokens fit, down to the `low` mark in one batch.

    Nothing leaves while the arrival fits. What was thought in earlier turns goes first, and the turn's own pages, its
    thoughts before them, only if all others are gone, oldest first. Returns the victims in prompt order; the stub is
    none of them. O(queue).
    """
    used = space.used()
    excess = used + arriving - limits.queue
    if excess <= 0:
        return []
    turn = {entry.page for entry in space.queue[space.turn :]}
    fixed = {entry.page for entry in space.queue if entry.pinned or entry.kind in UNRANKED}
    chosen = [entry.page for entry in space.thoughts(0, space.turn)]
    freed = space.tokens(chosen)
    goal = batch(used, arriving, limits.queue, low) - freed
    if goal > 0:
        chosen += policy.evict(goal, turn | fixed)
        _with_groups(space, policy, chosen, fixed | turn)
        freed = space.tokens(chosen)
    if freed < excess:
        chosen += [entry.page for entry in space.thoughts(space.turn, len(space.queue))]
        freed = space.tokens(chosen)
    if freed < excess:
        chosen += policy.evict(excess - freed, fixed)
        _with_groups(space, policy, chosen, fixed)
    going = set(chosen)
    victims = [entry for entry in space.queue if entry.page in going]
    remove(space, going)
    last = fixed | turn if freed >= excess else fixed  # groups are whole but for what may not leave
    split = {entry.group for entry in victims if entry.group}
    assert not split or not any(entry.group in split and entry.page not in last for entry in space.queue)
    assert not any(entry.page in fixed for entry in victims if entry.kind is not Kind.THOUGHT), "pinned, or the stub"
    if space.used() + arriving > limits.queue:
        raise KernelPanic(f"queue of {space.used()} + {arriving} tokens exceeds {limits.queue} after eviction")
    return victims


def _with_groups(space: AddressSpace, policy: Policy, chosen: list[int], fixed: set[int]) -> None:
    """Add to `chosen` what belongs to a chosen page's group: a syscall and its result leave together."""
    groups = {entry.group for entry in space.queue if entry.group and entry.page in chosen}
    for entry in space.queue if groups else ():
        if entry.group in groups and entry.page not in chosen and entry.page not in fixed:
            chosen.append(entry.page)
            policy.drop(entry.page)


def remove(space: AddressSpace, pages: set[int]) -> None:
    """Take pages out of the queue, keeping `turn` where the turn begins; recall goes with its anchor."""
    had_anchor = bool(space.recall) and space.anchor() >= 0
    space.turn -= sum(1 for entry in space.queue[: space.turn] if entry.page in pages)
    space.queue = [entry for entry in space.queue if entry.page not in pages]
    if had_anchor and space.anchor() < 0:
        space.recall = []
    assert 0 <= space.turn <= len(space.queue)


def pressure(space: AddressSpace, limits: Budgets, warn: float) -> bool:
    """True once when the queue rises to `warn` of Q; again only after it fell `HYSTERESIS` below."""
    share = space.used() / limits.queue
    if share >= warn and not space.pressed:
        space.pressed = True
        return True
    if share < warn - HYSTERESIS:
        space.pressed = False
    return False
