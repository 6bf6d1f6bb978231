"""How the vocabulary is made: WordNet's lines, the meaning that a picture shows, categories, the same bytes again."""

import gzip

import pytest

from benchmarks.vocabulary import make as module
from benchmarks.vocabulary.categories import Categories
from benchmarks.vocabulary.make import Row, correction, counted, make, without_article, write
from benchmarks.vocabulary.wordnet import read_sense

LICENCE = "  1 This software and database is being provided\n"
SENSES = [
    "00000001 03 n 01 entity 0 000 | all there is",
    "00000002 05 n 01 animal 0 001 @ 00000001 n 0000 | a living being",
    "00000003 05 n 02 cat 0 true_cat 0 001 @ 00000002 n 0000 | a feline",
    "00000004 05 n 01 dog 0 001 @ 00000002 n 0000 | a canine",
    "00000005 13 n 01 fruit 0 001 @ 00000001 n 0000 | a ripened part",
    "00000006 13 n 01 banana 0 001 @ 00000005 n 0000 | a yellow fruit",
    "00000007 20 n 02 banana 0 banana_tree 0 001 @ 00000001 n 0000 | a plant with large leaves",
    "00000008 15 n 01 Paris 0 001 @i 00000001 n 0000 | the capital of France",
    "00000009 12 n 01 love 0 001 @ 00000001 n 0000 | a strong feeling",
    "00000010 18 n 01 curse 0 001 @ 00000001 n 0000 | (offensive) somebody",
    "00000011 05 n 01 bear 0 001 @ 00000002 n 0000 | a massive mammal",
]
INDEX = {
    **{"entity": [1], "animal": [2], "cat": [3], "true_cat": [3], "dog": [4], "fruit": [5], "banana": [7, 6]},
    **{"banana_tree": [7], "paris": [8], "love": [9], "curse": [10], "bear": [11]},
}
TAGGED = "bear%1:05:00:: 1 3\nbear%2:31:00:: 1 60\ncat%1:05:00:: 1 9\n"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    files = {"data.noun": LICENCE + "\n".join(SENSES) + "\n", "cntlist.rev": TAGGED}
    lines = [f"{w} n {len(s)} 1 @ {len(s)} 0 " + " ".join(f"{n:08}" for n in s) for w, s in INDEX.items()]
    files["index.noun"] = LICENCE + "\n".join(lines) + "\n"
    files |= {"artists.txt": "Claude Monet\nCat\n", "mediums.txt": "an oil painting\n", "movements.txt": "cubism\n"}
    files["flavors.txt"] = "a cat and a dog\na banana\na bear\ncat\nparis love\nthe curse\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "TOTAL", 12)
    return module.Sources(tmp_path, tmp_path)


def test_a_line_of_wordnet_is_read():
    sense = read_sense(SENSES[2])
    assert (sense.number, sense.file, sense.words, sense.above) == (3, "animal", ("cat", "true_cat"), (2,))
    assert not sense.instance and read_sense(SENSES[7]).instance and sense.gloss == "a feline"


def test_a_word_means_what_a_picture_shows(sources):
    chooser = sources.chooser
    assert chooser.meaning("banana").file == "food"  # and not the plant, its first meaning
    assert chooser.meaning("paris").words == ("Paris",) and chooser.kind(chooser.meaning("paris")) == "place"
    assert chooser.meaning("love") is None is chooser.meaning("curse") and chooser.meaning("nothing") is None
    assert chooser.kind(chooser.meaning("cat")) == "animal"


def test_verbs_are_left_out_unless_they_are_animals(sources):
    assert not sources.wordnet.is_noun("bear") and sources.wordnet.is_noun("cat")
    assert {"bear", "cat"} <= dict(sources.nouns()).keys()


def test_a_category_has_enough_terms(sources, monkeypatch):
    monkeypatch.setattr("benchmarks.vocabulary.categories.LEAST", 2)
    made = Categories(sources.wordnet, [3, 4, 6])
    assert made.of(3) == made.of(4) == "animal" and made.of(6) == "entity"


def test_the_rows_hold_all_sources_and_the_file_is_the_same_again(sources, tmp_path):
    rows = make(sources)
    found = {row.term: row.kind for row in rows}
    assert found["Claude Monet"] == "artist" and found["oil painting"] == found["cubism"] == "style"
    assert found["cat"] == "animal" and found["banana"] == "food" and found["Pikachu"] == "character"
    assert "curse" not in found and "love" not in found and rows[0].term == "cat"
    for name in ("one.gz", "two.gz"):
        write(rows, tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("one.gz", "two.gz"))
    assert first == second
    lines = gzip.decompress(first).decode().splitlines()
    assert len(lines) == len(rows) and lines[0].split("\t")[:2] == ["cat", "animal"]


def test_senses_are_numbered_where_two_terms_share_one(tmp_path):
    write(
        [Row("car", "thing", "car", 700), Row("auto", "thing", "car", 700), Row("bus", "thing", "bus", 8)],
        tmp_path / "x",
    )
    lines = gzip.decompress((tmp_path / "x").read_bytes()).decode().splitlines()
    assert [line.split("\t")[3] for line in lines] == ["1", "1", ""]


def test_small_things():
    assert without_article("an illustration of") == "illustration" and without_article("pixel art") == "pixel art"
    assert correction("sun = place, natural object") == ("sun", ("place", "natural object"))
    assert counted(["a red cat", "Cat"])["cat"] == 2 and counted(["a red cat"])["red cat"] == 1


def test_a_plural_is_no_term_of_its_own():
    assert module.is_plural_of({"trumpet"}, "trumpets") and not module.is_plural_of({"gla"}, "glass")
    assert not module.is_plural_of({"house"}, "mouse") and not module.is_plural_of({"trumpet"}, "brass trumpets")
