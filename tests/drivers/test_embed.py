"""The embedder: WordLlama's own vectors, without its code and without the network."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from drivers.embed.unit import to_unit
from drivers.embed.wordllama import WordLlamaEmbedder
from kernel.errors import BadInput

TEXTS = [
    "Marta was born in Lisbon and moved to Oslo for her work.",
    "The invoice is due on 2024-05-07.",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "naïve café ☕ 東京",
    "word " * 700,
]


@pytest.fixture(scope="module")
def embedder():
    return WordLlamaEmbedder()


def test_vectors_are_those_of_the_package(embedder):
    wordllama = pytest.importorskip("wordllama")
    home = Path(wordllama.__file__).parent
    theirs = wordllama.WordLlama.load(cache_dir=home, disable_download=True).embed(TEXTS, norm=True)
    ours = embedder.embed(TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), embedder.dim)
    assert np.abs(ours - theirs).max() < 1e-5


def test_a_vector_depends_on_its_text_alone(embedder):
    together = embedder.embed(TEXTS * 100)
    for at, text in enumerate(TEXTS):
        assert (embedder.embed([text])[0] == together[at]).all()
        assert (together[at] == together[at + len(TEXTS) * 99]).all()


def unit(vectors: np.ndarray) -> np.ndarray:
    made = vectors.copy(order="K")
    to_unit(made)
    return made


@pytest.mark.parametrize("dim", [1, 2, 255, 256, 896])
def test_a_vector_is_brought_to_length_by_itself(dim: int) -> None:
    draw = np.random.default_rng(dim)
    vectors = (draw.standard_normal((130, dim)) * draw.choice([1e-30, 1.0, 1e9], (130, 1))).astype(np.float32)
    vectors[3] = 0
    together = unit(vectors)
    assert np.allclose(np.linalg.norm(together[4:].astype(np.float64), axis=1), 1, atol=1e-6)
    assert not together[3].any()
    for size in (1, 7, 128):
        apart = [unit(vectors[at : at + size]) for at in range(0, len(vectors), size)]
        assert (np.concatenate(apart) == together).all()
    assert (unit(np.asfortranarray(vectors)) == together).all()


def test_token_vectors_are_added_one_after_the_other(embedder):
    for text in TEXTS:
        total = np.zeros((1, embedder.dim), np.float32)
        for token in embedder._load().encode(text, add_special_tokens=False).ids:
            total += embedder._table[token]
        assert (unit(total) == embedder.embed([text])).all()


def test_two_threads_get_the_vectors_that_one_would(embedder):
    texts = [[f"{word} " * 3_000] * 4 for word in ("garden", "violin", "rocket", "cheese")]
    alone = [embedder.embed(some) for some in texts]
    with ThreadPoolExecutor(4) as pool:
        for vectors, expected in zip(pool.map(embedder.embed, texts * 10), alone * 10, strict=True):
            assert (vectors == expected).all()


def test_what_means_the_same_is_nearer_than_what_does_not(embedder):
    question, right, wrong = embedder.embed(
        ["Where does the doctor live?", "The physician's home is in Bergen.", "Prices of copper rose by a tenth."]
    )
    assert question @ right > question @ wrong


def test_a_text_without_tokens_has_a_zero_vector_and_nothing_else_changes(embedder):
    vectors = embedder.embed(["", TEXTS[0]])
    assert not vectors[0].any()
    assert np.isclose(np.linalg.norm(vectors[1]), 1.0, atol=1e-5)
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_importing_the_driver_loads_no_library():
    code = (
        "import sys; import drivers.embed.wordllama; "
        "print([name for name in ('wordllama', 'tokenizers', 'safetensors') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.gguf
def test_a_gguf_gives_vectors_that_depend_on_the_text_alone() -> None:
    pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")
    from drivers.embed.gguf import GgufEmbedder
    from llmos import models

    model = GgufEmbedder(models.find("smollm2-135m"))
    texts = ["The cat sleeps on the sofa.", "A cat is asleep on a couch.", "Interest rates rose again in March.", ""]
    vectors = model.embed(texts)
    assert vectors.shape == (4, model.dim)
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert not vectors[3].any() or np.isclose(np.linalg.norm(vectors[3]), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert np.array_equal(model.embed([texts[2], texts[0]])[1], vectors[0])
    assert GgufEmbedder(models.find("smollm2-135m")).name == model.name
    assert model.embed(["word " * 2_000]).any()
    assert all(0 < count <= 512 for count in model.count(texts[:3]))


def test_a_file_that_cannot_embed_is_refused_in_one_line(tmp_path: Path) -> None:
    from drivers.embed.gguf import GgufEmbedder

    (tmp_path / "no.gguf").write_bytes(b"not a model")
    with pytest.raises(BadInput, match="not a GGUF file"):
        GgufEmbedder(tmp_path / "no.gguf")
