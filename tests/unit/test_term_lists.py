"""Lists of terms that artists have, read as hostile files."""

import os
import threading

import pytest

from unlearn_core.words import term_lists
from unlearn_core.words.term_lists import installed, lists_in, read_terms, unread, with_lists
from unlearn_core.words.vocabulary import Term, Vocabulary, bundled
from unlearn_core.words.wish import read_wish
from unlearn_core.words.word_list import WordList

DANBOORU = """1girl,0,4114588,"1girls,sole_female"
hatsune_miku,4,93221,"miku,初音ミク"
saber_(fate),4,30111,
greg_rutkowski,1,20,
touhou,3,700000,"touhou_project,東方"
highres,5,3500000,
broken row
another,4
"quo ""ted",4,5,
"comma, inside",4,6,
<script>,4,7,
,4,8,
negative,4,-3,
huge,4,99999999999999999999,
"""


def written(folder, name, data):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


def test_a_tag_list_gives_its_characters_and_artists_the_most_used_first(tmp_path):
    found = read_terms(written(tmp_path, "danbooru.csv", DANBOORU))
    assert [(t.text, t.kind) for t in found] == [
        ("hatsune miku", "character"),
        ("saber (fate)", "character"),
        ("greg rutkowski", "artist"),
        ("comma, inside", "character"),
    ]


def test_species_are_animals_where_a_list_has_them(tmp_path):
    rows = "dragon,5,9,\nfox,5,8,\n"
    assert [t.kind for t in read_terms(written(tmp_path, "e621.csv", rows))] == ["animal", "animal"]
    assert read_terms(written(tmp_path, "danbooru.csv", rows)) == ()


def test_a_list_of_the_artists_own(tmp_path):
    text = (
        "\ufeff# my words\nZog\nzog the great, character\n\nBlue Moon Diner , place\nred_panda,120\nJane Doe, painter\n"
    )
    found = {t.text: t.kind for t in read_terms(written(tmp_path, "vocabulary.txt", text))}
    assert found == {"Zog": "thing", "zog the great": "character", "Blue Moon Diner": "place", "red panda": "thing"}


def test_autocomplete_may_be_a_table(tmp_path):
    assert [t.text for t in read_terms(written(tmp_path, "autocomplete.txt", DANBOORU))][:2] == [
        "hatsune miku",
        "saber (fate)",
    ]


def test_a_term_may_have_one_sign_where_words_do(tmp_path):
    text = "猫\nか\n고\nx\n5\nя\n。\n「\nー\n\u0301\n?\n_\n犬, animal\n鳥,120\n"
    own = written(tmp_path, "vocabulary.txt", text)
    assert {t.text: t.kind for t in read_terms(own)} == dict.fromkeys("猫か고鳥", "thing") | {"犬": "animal"}
    known = with_lists(bundled(), (own,))
    wish = read_wish("「犬」、（猫:1.2）", [WordList.load(None)] * 2, vocabulary=known)
    assert wish.concepts == ("犬", "猫") and known.find("犬").kind == "animal"
    tags = written(tmp_path, "danbooru.csv", "葵,4,9,\n!,4,8,\na,4,7,\n")
    assert [t.text for t in read_terms(tags)] == ["葵"]


HOSTILE = {
    "empty": b"",
    "nothing": b"\n\n,,,\n",
    "zeros": b"\0" * 9000,
    "a picture": bytes(range(256)) * 40,
    "not UTF-8": b"caf\xe9,4,5,\n",
    "control characters": b"a\x07b\nc\x1b[31md\n\xe2\x80\xaeevil\n",
    "an endless line": b"a" * 200_000,
    "an open quote": b'"' + b"x" * 5000 + b"\n" * 10,
    "a long number": b"cat,4," + b"9" * 5000 + b",\n",
    "signs alone": b"???\n---\n(((\n",
}


@pytest.mark.parametrize("name", ["danbooru.csv", "vocabulary.txt"])
@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_list_gives_nothing(tmp_path, case, name):
    found = read_terms(written(tmp_path, name, HOSTILE[case]))
    assert found == ()


def test_sizes_are_capped(tmp_path, monkeypatch):
    file = written(tmp_path, "vocabulary.txt", "".join(f"word {i}\n" for i in range(9000)))
    assert len(read_terms(file)) == term_lists.MOST_TERMS
    monkeypatch.setattr(term_lists, "MOST_BYTES", 1000)
    assert read_terms(file) == ()


def test_what_is_missing_or_a_folder_is_passed_over(tmp_path):
    assert read_terms(tmp_path / "none.txt") == () == read_terms(tmp_path)
    assert with_lists(bundled(), (tmp_path / "none.txt", tmp_path)) is bundled()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "vocabulary.txt")
    reading = threading.Thread(target=read_terms, args=(tmp_path / "vocabulary.txt",), daemon=True)
    reading.start()
    reading.join(20)
    assert not reading.is_alive()


def test_a_list_is_read_again_when_it_changes(tmp_path):
    ours = Vocabulary((Term("cat", "animal", "feline"),))
    file = written(tmp_path, "vocabulary.txt", "Zog, character\n")
    first = with_lists(ours, (file,))
    assert first.find("zog").kind == "character" and with_lists(ours, (file,)) is first
    written(tmp_path, "vocabulary.txt", "Zog, character\nZag, place\n")
    os.utime(file, ns=(1, 1))
    assert with_lists(ours, (file,)).find("zag").kind == "place"


def test_installed_lists_are_found_where_they_lie(tmp_path):
    tags = written(tmp_path, "a1111-sd-webui-tagcomplete/tags/danbooru.csv", DANBOORU)
    written(tmp_path, "a1111-sd-webui-tagcomplete/tags/extra-quality-tags.csv", "best quality,0,1,")
    words = written(tmp_path, "ComfyUI-Custom-Scripts/user/autocomplete.txt", "Zog\n")
    written(tmp_path, "another-pack/user/autocomplete.txt", "no\n")
    own = written(tmp_path, "models/vocabulary.txt", "Zag\n")
    installed.cache_clear()
    assert lists_in(tmp_path, own) == (own, words, tags)
    assert lists_in(tmp_path / "none", tmp_path / "none.txt") == ()


def test_a_list_that_windows_has_written_in_utf_16_is_read(tmp_path):
    file = written(tmp_path, "vocabulary.txt", "Zog\nŽižek, character\n".encode("utf-16"))
    assert [t.text for t in read_terms(file)] == ["Zog", "Žižek"] and unread([file]) == []


@pytest.mark.parametrize("data", [b"Zog\0\n", b"\xff\xfe", b"x" * 4000, b"\x89PNG\r\n"])
def test_a_list_of_the_artists_own_that_gives_nothing_is_told(tmp_path, data):
    own = written(tmp_path, "vocabulary.txt", data)
    assert unread([own]) == [f"No term could be read from {own}: save it as plain text (UTF-8), one term a line."]
    assert unread([tmp_path / "none" / "vocabulary.txt", written(tmp_path, "danbooru.csv", data)]) == []
    assert unread([written(tmp_path, "vocabulary.txt", b"")]) == []


def test_a_list_as_people_write_it_and_what_of_it_was_not_read(tmp_path):
    file = tmp_path / "vocabulary.txt"
    file.write_text(
        "# mine\n- Blorbo\nAda Byron, characters\nFoo\tartist\nBar; styles\nBaz, animal # a pet\nC#\n\n", "utf-8"
    )
    found = {t.text: t.kind for t in read_terms(file)}
    assert found == {
        "Blorbo": "thing",
        "Ada Byron": "character",
        "Foo": "artist",
        "Bar": "style",
        "Baz": "animal",
        "C#": "thing",
    }
    assert unread([file]) == []
    file.write_text("Blorbo\nZorg, charater\n\nMore, words, here\n", "utf-8")
    assert [t.text for t in read_terms(file)] == ["Blorbo"]
    (said,) = unread([file])
    assert said.startswith("2 of 4 lines of") and "the first is line 2: write one term a line" in said
