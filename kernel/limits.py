"""Every bound of the kernel, each with what it is for. A queue, a retry or a loop without a bound here has none.

And the unit that times are counted in.
"""

from typing import Final

NS: Final = 1_000_000_000  # of a second: the unit of all times
DAY_NS: Final = 86_400 * NS

INDEX_LAG_MAX: Final = 5_000  # pages that the indexes may be behind; a sender waits until they are not
INDEX_WAIT_S: Final = 10.0  # but no longer: then it is told to come back
INBOX_MAX: Final = 65_536  # events that may wait for one step; a full inbox pushes back on its sender
PENDING_MAX: Final = 256  # undelivered interrupts of one process; a full one refuses messages, "retry after"
OUTBOX_MAX: Final = 4_096  # unacknowledged messages of one process; beyond it send_message is refused
PROCESSES_MAX: Final = 100_000  # process table
MESSAGE_BYTES_MAX: Final = 262_144  # 256 KiB; tokenising 1 MB takes up to 3 s
NAME_CHARS_MAX: Final = 64  # process, block and client names
MID_CHARS_MAX: Final = 64  # a client-made message id
ILLEGAL_MAX: Final = 5  # instructions in a row that cannot be decoded before a process is killed
SAME_FAILED_MAX: Final = 3  # failures of one and the same call in a turn before the turn is ended
FAILED_MAX: Final = 3  # failures of the CPU in a row before the process that ran is killed
SMALL_PARAMETERS: Final = 1_500_000_000  # of a model below which it speaks prose, and cannot choose among many syscalls
TURN_SYSCALLS_MAX: Final = 16  # instructions of one turn; a chain without a bound is a runaway process
MARKS_TOKENS_MAX: Final = 24  # tokens of the marks around a thought
TURN_TOKENS_MAX: Final = 4_096  # tokens emitted in one turn
SEARCH_HITS_MAX: Final = 20  # hits of one page of search results
HIT_TOKENS: Final = 24  # what a line of results says besides the page's text, at most
READ_PAGES_MAX: Final = 8  # pages one `read` may bring in
QUERY_CHARS_MAX: Final = 2_000  # a search query
BLOCKS_MAX: Final = 16  # core memory blocks of one process
TIMERS_MAX: Final = 64  # timers of one process
TIMER_S_MAX: Final = 366 * 86_400  # a timer lies at most a year ahead
OFF_S_MAX: Final = 366 * 86_400  # a machine that seems to have been off for longer has had its clock set
CLOCK_LOOK_S: Final = 1.0  # how long a set clock, or a resumed laptop, is unnoticed at most while timers are armed
RIGHT_CHARS_MAX: Final = 160  # of a right
GRANTS_MAX: Final = 128  # rights that one process holds
POLICY_MAX: Final = 32  # entries of what becomes of its calls under the eyes of others
CHILDREN_MAX: Final = 64  # of one process at a time, dead ones that it has not waited for included
LETTERS_MAX: Final = 64  # messages to other processes whose fate a process can look up, the newest
WAITED_S_MAX: Final = 86_400  # for other processes
SHARED_MAX: Final = 4_096  # shared blocks of a machine
SHARED_MAPPED_MAX: Final = 64  # processes that are told of the writes of one
AUDITS_MAX: Final = 4_096  # calls of one process that its audit keeps, the newest
MASK_S_MAX: Final = 3_600  # interrupts held back longer than this are forgotten ones
TIMER_S_MIN: Final = 1  # and a repeating one fires at most once a second
FAULT_DEADLINE_S: Final = 5.0  # a demand fault that takes longer lets the process run without
PAGE_TOKENS_MIN: Final = 64  # smallest page_tokens_max worth having
PAGE_TOKENS_MAX: Final = 512  # largest one: half a short document page
THRASH_SHARE: Final = 0.5  # of the CPU's work that evaluates again what another process displaced
THRASH_WINDOWS: Final = 2  # work over which that is judged, in windows
WINDOW_MIN: Final = 512  # a window in which text, data, recall and a reply still leave a queue
WINDOW_MAX: Final = 1 << 24  # no model has more, and what is reckoned with it stays small
CELLS_MAX: Final = 1 << 30  # tokens of a KV cache
IMAGES_MIB_MAX: Final = 1 << 24  # of KV images
EXACT_MAX: Final = (1 << 31) - 1  # vectors that are compared one by one
MODELS_MAX: Final = 16  # of a machine, beside the first
READERS_MAX: Final = 2  # readings of the disk for clients at once; others wait in the order they came
SUBSCRIBER_QUEUE_MAX: Final = 4_096  # undelivered events of one client; a slower one is dropped and resumes by number
TOKENS_CACHED_MAX: Final = 1 << 18  # of the pages kept in memory by the machine, least recently placed first out
WORDS_CACHED_MAX: Final = 4_096  # pages whose words are kept in memory by the machine, least recently wanted first out
ORIGINS_CACHED_MAX: Final = 1 << 16  # pages of which the machine remembers whose they are
LINES_CACHED_MAX: Final = 4_096  # ids of recalled lines kept in memory, the oldest first out
RECALLED_MAX: Final = 48  # hits of a demand search: more than any recall area holds
ITEM_PAGES_MAX: Final = 32  # pages that a thread of the kernel's looks at in one item
ITEM_TOKENS_MAX: Final = 1_024  # tokens that it may emit about them
ITEM_ERRORS_MAX: Final = 3  # errors in a row before a thread of the kernel's gives an item up
BACKLOG_MAX: Final = 512  # evicted pages of one process that are yet to be looked at; the oldest are not, beyond it
SUMMARY_TOKENS_MAX: Final = 120  # of one summary, its frame excepted: a few sentences
SUMMARIES_MAX: Final = 8  # summaries of one process that wait for its next eviction
FACTS_SHOWN_MAX: Final = 16  # facts, the newest, that a pass is shown, so that it can correct them
FACT_CHARS_MAX: Final = 500  # of one fact
SUPERSEDED_MAX: Final = 1_024  # corrected facts of one process that searches leave out, the newest
BATCH_MAX: Final = 512  # events stepped in one transaction
NICE_MIN: Final = -20  # the largest share of the CPU that a process can have
NICE_MAX: Final = 19  # the smallest
TIME_MAX: Final = 7_258_118_400 * NS  # ns UTC, the year 2200: later ones are a wrong clock, and overflow 64 bits
NUMBER_MAX: Final = 1 << 53  # of ids, log and page numbers from outside: what JSON holds exactly
NAME_TEXT_MAX: Final = 256  # characters of a name as it comes in, so that who exceeds NAME_CHARS_MAX is told so
PATH_CHARS_MAX: Final = 4_096  # of a file's name in a setting
SPEC_CHARS_MAX: Final = 1 << 20  # of one text of a process's choices: more fits no window
CALLS_MAX: Final = 64  # names in a mask
ALERT_CHARS_MAX: Final = 8_000  # of a timer's text
IMPORT_BYTES_MAX: Final = 128 << 20  # of an export as plain lines: it is one transaction
IMPORT_PAGES_MAX: Final = 131_072  # of an export: nothing else is stepped while pages are made of them
IMPORT_LINE_BYTES_MAX: Final = 8 << 20  # of one line of it: the head, with instructions, core memory and timers escaped
IMPORT_PART_BYTES_MAX: Final = 256 << 10  # of an export that a client sends at once
IMPORT_STALL_S: Final = 10.0  # an import whose next part takes longer makes room for another one
