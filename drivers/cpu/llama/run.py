"""One run of the CPU: from a job to its one Trapped, whatever evaluates its tokens.

The engine asks `advance` what is to be evaluated next, evaluates `pending`, and hands the logits of the last token to
`accept`. What is emitted is a function of prompt, ids, grammar, how words are drawn and logits: nothing but ids needs
saving.
Raises nothing but DeviceError, and what the stream that it was given raises.
Tokens that the grammar forces are emitted with the token before them, so they may overrun a quantum.
Not here: where tokens are evaluated (steps.py), which token is picked (sampler.py).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

import llguidance.numpy
import msgspec
import numpy as np

from drivers.cpu.llama import sampler
from drivers.cpu.llama.sampler import Logits
from drivers.cpu.llama.thought import Thought
from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import DeviceError
from kernel.event import Outcome, Trapped
from kernel.limits import MARKS_TOKENS_MAX
from kernel.machine.clock import passing
from kernel.memory.measure import Visible
from kernel.memory.page import Kind, Role
from kernel.ports import Job, Streamed
from kernel.sampling import Drawn


class Run:
    """A job under way. `pending` are the tokens of prompt and ids that are not evaluated yet."""

    def __init__(
        self,
        job: Job,
        matcher: Any,
        vocabulary: Vocabulary,
        stream: Callable[[Streamed], None],
        how: Drawn,
        seed: int,
    ) -> None:
        """`matcher`: a fresh llguidance LLMatcher of the job's grammar, or None where it has none. `seed`: of draws."""
        self.job = job
        self.ids = list(job.ids)
        self.pending: list[int] = []
        self.unread = 0  # how many of `pending`, from its front, were there when the run began
        self.prefill = self.decoded = self.again = self.restored = self.shared = 0
        self.kv = 0  # the highest position reached
        self.seat = -1  # where its keys and values are; -1: nowhere yet
        self.served = 0  # when a chunk of its prompt was last evaluated
        self.retried = False  # the next chunk was aborted once and is to be finished
        self._matcher, self._vocabulary, self._stream = matcher, vocabulary, stream
        self._how, self._seed = how, seed
        self._first_at = 0
        self._ended = False
        self._checked = False  # nothing but a stop can end it before the next token
        self._held = ""  # emitted and not streamed, because a character is not complete
        self._blank = True  # nothing but white space so far: without a grammar, an end mark would be an empty message
        self._heard = False  # a token of the instruction
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._thinker = codecs.getincrementaldecoder("utf-8")("replace")
        recalled = {token for page in job.pages if page.recalled for token in page.ids}  # what an answer is made of
        said = (token for page in _said(job) for token in page.ids)
        self._said = [token for token in said if token not in recalled]  # by the process, as far as it is in view
        self._thought = Thought(vocabulary.thought, job.thought, vocabulary.piece, self._encoded)
        self._streamed = 0  # tokens of the instruction whose text was
        for n, token in enumerate(self.ids):  # what is complete was streamed already; the rest is held back again
            thought = self._thought.feed(token)
            if thought is not None:
                self._thinker.decode(thought)
            elif self._hear(token):
                self._streamed = n + 1 - self._thought.count
        self.legal = matcher is None or matcher.consume_tokens(self.ids[self._thought.count :])

    @property
    def tokens(self) -> list[int]:
        """Everything that is to be in view, in order: the prompt and what was emitted."""
        return [*self.job.prompt, *self.ids]

    @property
    def limit(self) -> int:
        """How many positions it may come to need."""
        return len(self.job.prompt) + room(self.job)

    def seated(self, kept: int, *, restored: int, shared: int, filled: int, again: int) -> None:
        """`kept` tokens from the front are evaluated, of which some were restored, shared, or evaluated only now.

        `again`: how many of the rest were evaluated before.
        """
        self.prefill = filled
        self.pending = self.tokens[kept:]
        self.unread = len(self.pending)
        self.restored, self.shared, self.again, self.kv = restored, shared, again, kept

    def evaluated(self, count: int) -> None:
        """`count` tokens from the front of `pending` are."""
        del self.pending[:count]
        read = min(self.unread, count)
        self.unread -= read
        self.prefill += read
        self.kv += count
        self.retried = False

    def advance(self, *, stop: bool) -> Trapped | None:
        """The run's Trapped if it ends here; None: `pending` is to be evaluated. Raises DeviceError."""
        while True:  # ends at an end mark, a complete grammar, the reply limit, the quantum, a stop, or work to do
            self._force()
            if self._checked and not self._ended:
                return self.end(Outcome.PREEMPTED) if stop else None
            if not self.legal:
                error = "the unfinished instruction does not fit what may be emitted now; begin again"
                return self.end(Outcome.ILLEGAL, error=error)
            matcher = self._matcher
            if matcher is not None and matcher.is_error():
                raise DeviceError(f"grammar: {matcher.get_error()}")
            said = len(self.ids) - self._thought.count
            if self._ended or (said and matcher is not None and matcher.is_stopped()):
                return self.end(Outcome.SYSCALL)
            if said >= self.job.reply:
                return self._cut_off()
            if self.decoded >= self.job.quantum or stop:
                return self.end(Outcome.PREEMPTED)
            if matcher is not None and self._thought.over and (forced := matcher.compute_ff_tokens()):
                for token in forced[: self.job.reply - said]:
                    self._emit(token)
                continue
            self._checked = True

    def accept(self, logits: Logits) -> None:
        """Pick the next token from the logits of the last one, (vocabulary,) float32, which are changed."""
        token = self._pick(logits)
        self._checked = False
        if token not in self._vocabulary.ends:
            self._emit(token)
        elif self._thought.inside:
            self._thought.cut()
        else:
            self._ended = True
        self._force()

    def end(self, outcome: Outcome, *, truncated: bool = False, error: str = "") -> Trapped:
        """The run's one Trapped."""
        return msgspec.structs.replace(
            trap(self.job, outcome, error),
            text=self._vocabulary.detokenize(self.ids[self._thought.count :]),
            thought=self._thought.count,
            thinking=self._thought.text.decode(errors="replace"),
            ids=tuple(self.ids),
            truncated=truncated,
            first_at=self._first_at,
            prefill=self.prefill,
            decoded=self.decoded,
            kv=self.kv,
            again=min(self.again, self.prefill),
            restored=self.restored,
            shared=self.shared,
        )

    def _pick(self, logits: Logits) -> int:
        """The next token: of the thought, or as the grammar has it."""
        thought, marks = self._thought, self._vocabulary.thought
        kept = {}
        if marks is not None and (thought.choosing or thought.inside):
            one = marks.opens if thought.choosing else marks.closes
            kept = {one: logits[one]} if one >= 0 else {}
        logits[self._vocabulary.banned] = -np.inf
        if not thought.inside:
            self._allow(logits)
        for one, logit in kept.items():
            logits[one] = logit
        job, matcher = self.job, None if thought.inside else self._matcher
        whose = (self._seed, job.pid, job.instr) if job.seed is None else (job.seed, 0, 0)
        chance = sampler.draw(*whose, len(self.ids))
        # A penalty would bend a grammar's punctuation.
        said: Sequence[int] = ()
        if matcher is None:
            said = self.ids if thought.inside else self._said + self.ids[thought.count :]
            said = said[-self._how.recent :]  # 0: all
        while True:  # ends: each pass takes a token away
            if logits.max() == -np.inf:
                raise DeviceError("the grammar allows no token that this vocabulary has")
            token = sampler.pick(logits, said, self._how, chance)
            if thought.fits(token):
                return token
            logits[token], said = -np.inf, ()  # the penalty is on them already

    def _allow(self, logits: Logits) -> None:
        """Take away what no instruction may go on with."""
        vocabulary, matcher = self._vocabulary, self._matcher
        if vocabulary.thought is not None:
            for mark in (vocabulary.thought.opens, vocabulary.thought.closes):
                if mark >= 0:
                    logits[mark] = -np.inf
        if matcher is None:
            if self._blank:
                logits[vocabulary.end_ids] = -np.inf
            return
        mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary.size)
        llguidance.numpy.fill_next_token_bitmask(matcher, mask)
        if matcher.is_error():
            raise DeviceError(f"grammar: {matcher.get_error()}")
        allowed = np.unpackbits(mask.view(np.uint8)[0], count=vocabulary.size, bitorder="little")
        np.putmask(logits, allowed == 0, -np.inf)

    def _force(self) -> None:
        """Emit the marks that come next, whatever the model wants: with the token before them, or with the prompt."""
        while self._thought.forced:  # ends: each token is taken off
            self._emit(self._thought.forced[0])

    def _emit(self, token: int) -> None:
        """Append a token to what is emitted, and stream the text that it completes."""
        thought = self._thought.feed(token)
        if thought is None and self._matcher is not None and not self._matcher.consume_token(token):
            raise DeviceError(f"grammar: token {token} is refused; {self._matcher.get_error()}")
        self._first_at = self._first_at or passing()
        text = self._hear(token) if thought is None else self._thinker.decode(thought)
        self.ids.append(token)
        self.pending.append(token)
        self.decoded += 1
        if text and thought is not None:
            self._stream(Streamed(self.job.tag, len(self.ids) - 1, text, thought=True))
        elif text:
            self._stream(Streamed(self.job.tag, self._streamed, text))
            self._streamed = len(self.ids) - self._thought.count

    def _encoded(self, text: str) -> Sequence[int]:
        return self._vocabulary.encode(text, special=True)

    def _hear(self, token: int) -> str:
        """The text that `token` completes; what ends within a character is held back, for it may yet be cut off."""
        piece = self._vocabulary.piece(token)
        if not self._heard and self._vocabulary.leading_space:
            piece = piece.removeprefix(b" ")
        self._heard = True
        self._held += self._decoder.decode(piece)
        if self._decoder.getstate()[0]:
            return ""
        text, self._held = self._held, ""
        if text.strip():
            self._blank = False
        return text

    def _cut_off(self) -> Trapped:
        """The reply limit is reached: what can stand alone is an instruction marked truncated, the rest is illegal."""
        for _ in range(3):  # a character has at most 4 bytes: of a broken one at most 3 tokens go
            if not self._decoder.getstate()[0] or len(self.ids) == self._thought.count:
                break
            self.ids.pop()
            self._decoder.reset()
            self._decoder.decode(self._vocabulary.bytes(self.ids[self._thought.count :]))
            if self._matcher is not None:
                self._matcher.rollback(1)
        said = len(self.ids) - self._thought.count
        if said and (self._matcher is None or self._matcher.is_accepting()):
            return self.end(Outcome.SYSCALL, truncated=True)
        error = f"the instruction was not complete after {self.job.reply} tokens; a shorter one is needed"
        return self.end(Outcome.ILLEGAL, error=error)


def _said(job: Job) -> list[Visible]:
    """What the process has said, as far as it is in view; what it has thought is none of it."""
    return [page for page in job.pages if page.role is Role.ASSISTANT and page.page.kind is not Kind.THOUGHT]


def room(job: Job) -> int:
    """Tokens that a job may emit: thought and its marks, and the reply."""
    thought = job.thought.most + MARKS_TOKENS_MAX if job.thought is not None else 0
    return max(thought + job.reply, len(job.ids))


def trap(job: Job, outcome: Outcome, error: str = "") -> Trapped:
    """A Trapped of a job that never began: with what it would have begun with."""
    return Trapped(
        slot=job.slot,
        tag=job.tag,
        outcome=outcome,
        error=error,
        ids=job.ids,
        prompt=len(job.prompt),
        at=passing(),
    )
