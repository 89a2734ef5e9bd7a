"""The public data that benches use: what each part is, whose, under which licence, where it lives, and its hash.

A file's `digest` is that of its content, whatever it is packed with: of JSON by its values, else by its bytes; so what
is fetched and what was used are compared as the same thing. Addresses name a commit where one is known, and are below
RAW. Some files are a part of what lives there: data.py makes them, by the name in `made`.
Not here: how it is brought and checked (data.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

RAW: Final = "https://raw.githubusercontent.com"


class File(msgspec.Struct, frozen=True):
    """One file below the folder of data, of so many bytes as unpacked; `parts` are what it is made of, below RAW."""

    path: str
    bytes: int
    digest: str
    parts: tuple[str, ...] = ()
    made: str = ""


class Source(msgspec.Struct, frozen=True):
    """One part of the data. `why`: it cannot be fetched, and what to do instead; "" if it can."""

    name: str
    what: str
    licence: str
    home: str
    used: str  # by which commands
    files: tuple[File, ...]
    why: str = ""


_LETTA: Final = "letta-ai/letta/210a153a10d6ed495defdcb574790e51c3562c25/paper_experiments/nested_kv_task/data"
_CAFFEINE: Final = (
    "ben-manes/caffeine/9303c98de19d762cfafbbe8bf5b0279cc10330b7/simulator/src/main/resources"
    "/com/github/benmanes/caffeine/cache/simulator/parser/lirs"
)
_GORILLA: Final = "ShishirPatil/gorilla/7858cec922d5e7d8d82c9d4e03befe4d6d04eece/berkeley-function-call-leaderboard"
_BFCL: Final = f"{_GORILLA}/bfcl_eval/data"


def _sessions(scenario: str, size: int, digest: str) -> File:
    parts = (f"{_BFCL}/memory_prereq_conversation/memory_{scenario}.json",)
    return File(f"bfcl_memory/{scenario}.jsonl", size, digest, parts, "sessions")


def _orderings(level: int, size: int, digest: str) -> File:
    name = f"random_orderings_100_samples_140_indices_{level}_levels.jsonl"
    return File(f"nested_kv/orderings_{level}.jsonl", size, digest, (f"{_LETTA}/{name}",))


def _lirs(name: str, size: int, digest: str) -> File:
    return File(f"traces/lirs/{name}.trace.gz", size, digest, (f"{_CAFFEINE}/{name}.trace.gz",))


SOURCES: Final = (
    Source(
        "locomo",
        "six of the ten LoCoMo conversations",
        "CC BY-NC 4.0",
        "https://github.com/snap-research/locomo",
        "bench memory; bench paging: locomo-late, locomo-live, mix",
        (
            File(
                "locomo/locomo6.json",
                1_248_667,
                "96d3a3de22f40ab053cbb6112b2e2ca575e596d74c304451a6545d20caf03f78",
                ("snap-research/locomo/main/data/locomo10.json",),
                "six",
            ),
        ),
    ),
    Source(
        "bfcl",
        "BFCL v4 memory, three of its five scenarios",
        "Apache-2.0",
        "https://github.com/ShishirPatil/gorilla",
        "bench memory; bench paging: bfcl",
        (
            _sessions("finance", 31_364, "b8f5b2de07ff74c8a94805ce2f52f993c796043b713d017c7f5c27a7951e10af"),
            _sessions("notetaker", 4_098, "a6a6e9bfcbf944313fead6f76e3a326bafd5df73da34eab9c659b5b23c264e4a"),
            _sessions("student", 90_597, "67c6c455fff7f4efe5d1b5af2a070563d0d72bfe3ece92412a3e4683a91b63e4"),
            File(
                "bfcl_memory/questions.jsonl",
                29_106,
                "5684d74cd17264276e39c73e3bd2e92b7cdee64c9f07500c9ea7915ba14468b7",
                (f"{_BFCL}/BFCL_v4_memory.json", f"{_BFCL}/possible_answer/BFCL_v4_memory.json"),
                "questions",
            ),
        ),
    ),
    Source(
        "nested-kv",
        "the MemGPT paper's nested look-ups",
        "Apache-2.0",
        "https://github.com/letta-ai/letta",
        "bench nested-kv; bench paging: nested-kv",
        (
            File(
                "nested_kv/kv-140_rows0-49.jsonl.gz",
                580_050,
                "c8bf1eb018ed5f12e9e3d66b94ba4cd51f165984577de7c2dfed2c24a85e9ebe",
                (f"{_LETTA}/kv-retrieval-140_keys.jsonl.gz",),
                "first 50",
            ),
            _orderings(1, 525, "9c31c7e23d36d08fa6ccd86c6ed7bbddef1225c5a1557d2ac9d771798f6bbe6a"),
            _orderings(2, 961, "0b100ec8528b6624c910b97e685630979973463ba4b49173ce3381c1eada3e50"),
            _orderings(3, 1_358, "c530532185c97ecddb11fb679cada768848899416a3d92d473b40232651de6e0"),
            _orderings(4, 1_761, "5555cff8a1b201a08a2ef3da7716a2ecdfc8883abb1c4bf0beeba9db07a5b101"),
            _orderings(5, 2_200, "d4e4e2e8dfd5d48b073aac24649d40e4c248296e64bb6e712a1af699f0729a57"),
            _orderings(6, 2_627, "021961289a7acc8a0b88222c8d4e509532a639bc0dd61b8292ef38860eaade9f"),
        ),
    ),
    Source(
        "nq",
        "1,500 questions of NaturalQuestions-Open with their passages",
        "MIT",
        "https://github.com/nelson-liu/lost-in-the-middle",
        "bench documents; bench paging: docs, mix",
        (
            File(
                "nq_open/nq-open-oracle_0-1499.jsonl.gz",
                2_830_276,
                "9e615b92e00bd97c808484ee90540cefd13d3102a74af132b509e6728e17bf82",
                (
                    "nelson-liu/lost-in-the-middle/dc5c20a60a52c46cce60d13c659f698c1343596e"
                    "/qa_data/nq-open-oracle.jsonl.gz",
                ),
                "first 1500",
            ),
        ),
    ),
    Source(
        "lirs",
        "eight classical traces of blocks",
        "Apache-2.0",
        "https://github.com/ben-manes/caffeine",
        "bench paging: lirs",
        (
            _lirs("2_pools", 391_421, "9812f3d467c5b63023b260a77e0c5a9ff2c034b75e1b5fef5f19715492361603"),
            _lirs("cpp", 29_912, "d965136830d3fcf2e0065f52dff1c114cd31943da5f7affec0aefbf854a540b3"),
            _lirs("cs", 28_489, "5b7d58a227cf1c75708328ab8deee1978f99bb102bb410adfcb529d6e0a40d0e"),
            _lirs("loop", 2_478_000, "a6a7dba751c93361386e01804053206c43f86df7d79a26130403239221e19456"),
            _lirs("multi1", 63_319, "99b394840da4e187d0ede6ce3e874f3c510a56faa560e0cb60f150e12d235747"),
            _lirs("scan", 222_375, "8fcebce2af57993d1c14b80328b7d1370864488bb21e5b74b86ee3129f2174ee"),
            _lirs("sprite", 594_502, "e4620bb83c09fb22a159ec414012f6014be50619f4dba8dd0ad095466d28180b"),
            _lirs("zigzag", 231_180, "dc5d1ce0d36d608bdded5d396ec55d00c2d840bab2f3c9df082e50792c3dd865"),
        ),
    ),
    Source(
        "cloudphysics",
        "113,872 requests for blocks, libCacheSim's test trace",
        "GPL-3.0 repository",
        "https://github.com/1a1a11a/libCacheSim",
        "bench paging: cloudphysics",
        (
            File(
                "traces/cloudPhysicsIO.oracleGeneral.bin.gz",
                2_732_928,
                "65438dd7b2d3dec7ffe8a5c9348045da92de3311f339b7b59c9a0a44e6050dea",
                ("1a1a11a/libCacheSim/c866b9be4b70d1fecd7854fee4107350d2b0af09/data/cloudphyicsIO.oracleGeneral.bin",),
            ),
        ),
    ),
    Source(
        "mooncake",
        "12,031 requests of a chat service as KV blocks",
        "Apache-2.0",
        "https://github.com/kvcache-ai/Mooncake",
        "bench paging: mooncake",
        (
            File(
                "traces/mooncake_conversation.jsonl.gz",
                3_029_533,
                "4ce8d15959b6edd971952fcbeaadeb40c9febd1423c403d29ca2150196ec42c0",
                (
                    "kvcache-ai/Mooncake/a2a4b18ac537fd798d50e6e9f57031ce86419a37"
                    "/FAST25-release/traces/conversation_trace.jsonl",
                ),
            ),
        ),
    ),
    Source(
        "tau",
        "100 runs of an agent that calls tools, tau-bench airline",
        "MIT",
        "https://github.com/sierra-research/tau-bench",
        "bench paging: tau",
        (
            File(
                "traces/tau_airline_runs.jsonl.gz",
                1_556_191,
                "3d199290eaf58c164cd3194a0834f537c7826e4791314df7c0468b907bde1f06",
                (
                    "sierra-research/tau-bench/7362a1708d720a4d697d042f21fd8637ea144c3b"
                    "/historical_trajectories/gpt-4o-airline.json",
                ),
                "runs",
            ),
        ),
    ),
    Source(
        "injection",
        "168 prompt injections of CyberSecEval",
        "MIT",
        "https://github.com/meta-llama/PurpleLlama",
        "bench injection",
        (
            File(
                "injection/cyberseceval_prompt_injection.json",
                124_336,
                "e07b417c00fc5fa3176a2ef1504d813ce9137b773225528d512c88cffc272872",
                (
                    "meta-llama/PurpleLlama/bbb602795be78259f4b4df07ac6ec4854aae7a92"
                    "/CybersecurityBenchmarks/datasets/prompt_injection/prompt_injection.json",
                ),
            ),
        ),
    ),
    Source(
        "git",
        "commits as tasks over trio, h11 and msgspec",
        "derived from public histories",
        "https://github.com/python-trio/trio, /python-hyper/h11, /jcrist/msgspec",
        "bench paging: git, mix",
        (
            File("traces/git/h11.jsonl.gz", 28_602, "743b5a01a34f8f6fc7d06670c3bdf5d06b96d399bf17d55497daaac770942b2c"),
            File(
                "traces/git/msgspec.jsonl.gz",
                133_817,
                "65c923c6d86a603995cde489f4b5cbf04c4a2473678026d6b970f643be6e4fe8",
            ),
            File(
                "traces/git/trio.jsonl.gz", 377_564, "6c273bd3f8bd74866ff07ad5125b07cedce17cccf72064bf2e2b519ec686f060"
            ),
        ),
        why="nobody serves it; `llmos trace git CLONE FILE.jsonl.gz` makes a string like it, whose figures are others",
    ),
    Source(
        "templates",
        "37 chat templates as models carry them",
        "each its author's",
        "collected in https://github.com/ikawrakow/ik_llama.cpp",
        "bench templates",
        (
            File(
                "templates/templates.jsonl", 258_079, "ccb0eb16bb882dfaef4dcb51c96c2934e9326ba0a396bf3b76aa4507eb895d74"
            ),
        ),
        why="each has its own licence; {name, template} a line of the models you have makes one",
    ),
)
