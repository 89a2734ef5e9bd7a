"""Every bound of the kernel, each with what it is for. A queue, a retry or a loop without a bound here has none."""

from typing import Final

INDEX_LAG_MAX: Final = 5_000  # pages that the indexes may be behind; a sender waits until they are not
INDEX_WAIT_S: Final = 10.0  # but no longer: then it is told to come back
INBOX_MAX: Final = 65_536  # events that may wait for one step; a full inbox pushes back on its sender
PENDING_MAX: Final = 256  # undelivered interrupts of one process; a full one refuses messages, "retry after"
OUTBOX_MAX: Final = 4_096  # unacknowledged messages of one process; beyond it send_message is refused
PROCESSES_MAX: Final = 100_000  # process table
MESSAGE_BYTES_MAX: Final = 262_144  # 256 KiB; tokenising 1 MB takes up to 3 s
NAME_CHARS_MAX: Final = 64  # process, block and client names
MID_CHARS_MAX: Final = 64  # a client-made message id
ILLEGAL_MAX: Final = 5  # illegal instructions in a row before a process is killed
FAILED_MAX: Final = 3  # failures of the CPU in a row before the process that ran is killed
TURN_SYSCALLS_MAX: Final = 16  # instructions of one turn; a chain without a bound is a runaway process
TURN_TOKENS_MAX: Final = 4_096  # tokens emitted in one turn
SEARCH_HITS_MAX: Final = 20  # hits of one page of search results
HIT_TOKENS: Final = 24  # what a line of results says besides the page's text, at most
READ_PAGES_MAX: Final = 8  # pages one `read` may bring in
QUERY_CHARS_MAX: Final = 2_000  # a search query
BLOCKS_MAX: Final = 16  # core memory blocks of one process
TIMERS_MAX: Final = 64  # timers of one process
TIMER_S_MAX: Final = 366 * 86_400  # a timer lies at most a year ahead
MASK_S_MAX: Final = 3_600  # interrupts held back longer than this are forgotten ones
TIMER_S_MIN: Final = 1  # and a repeating one fires at most once a second
FAULT_DEADLINE_S: Final = 5.0  # a demand fault that takes longer lets the process run without
PAGE_TOKENS_MIN: Final = 64  # smallest page_tokens_max worth having
PAGE_TOKENS_MAX: Final = 512  # largest one: half a short document page
THRASH_SHARE: Final = 0.5  # of the CPU's work that evaluates again what another process displaced
THRASH_WINDOWS: Final = 2  # work over which that is judged, in windows
WINDOW_MIN: Final = 512  # a window in which text, data, recall and a reply still leave a queue
SUBSCRIBER_QUEUE_MAX: Final = 4_096  # undelivered events of one client; a slower one is dropped and resumes by number
PAGES_CACHED_MAX: Final = 16_384  # pages with ids kept in memory by the machine, least recently placed first out
WORDS_CACHED_MAX: Final = 4_096  # pages whose words are kept in memory by the machine, least recently wanted first out
LINES_CACHED_MAX: Final = 4_096  # ids of recalled lines kept in memory, the oldest first out
RECALLED_MAX: Final = 48  # hits of a demand search: more than any recall area holds
ITEM_PAGES_MAX: Final = 32  # pages that a thread of the kernel's looks at in one item
ITEM_TOKENS_MAX: Final = 1_024  # tokens that it may emit about them
ITEM_ERRORS_MAX: Final = 3  # illegal instructions in a row before an item is given up
BACKLOG_MAX: Final = 512  # evicted pages of one process that are yet to be looked at; the oldest are not, beyond it
SUMMARY_TOKENS_MAX: Final = 120  # of one summary, its frame excepted: a few sentences
SUMMARIES_MAX: Final = 8  # summaries of one process that wait for its next eviction
FACTS_SHOWN_MAX: Final = 16  # facts, the newest, that a pass is shown, so that it can correct them
FACT_CHARS_MAX: Final = 500  # of one fact
SUPERSEDED_MAX: Final = 1_024  # corrected facts of one process that searches leave out, the newest
BATCH_MAX: Final = 512  # events stepped in one transaction
