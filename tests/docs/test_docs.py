"""The documentation builds, and says what it says in one word for each idea."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PUBLIC = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")


def glossary() -> list[tuple[str, list[str]]]:
    """Each row of the glossary: its word, and the synonyms that are not used."""
    rows = []
    for line in (ROOT / "docs" / "glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0] not in ("word", "---"):
            rows.append((cells[0], re.findall(r"`([^`]+)`", cells[2])))
    return rows


def said_by_the_command_line() -> str:
    """All of `--help`, of every command that is shown."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if hasattr(a, "choices") and a.dest == "command")
    texts = [parser.format_help()]
    texts += [command.format_help() for command in commands.choices.values()]
    return "\n".join(texts)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does it, where no network is to be had."""
    folder = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).parent / "mkdocs"
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "-d", folder],  # with -q it would count no warnings
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_holds_every_page_and_fetches_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    for name in ("index", "design", "glossary", "reference/takestream", "reference/workers.clock"):
        assert site / f"{name}.html" in pages
    assert (
        'id="workers.clock.grid.make_grid"' in (site / "reference/workers.clock.html").read_text()
    )
    for page in pages:
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]+|<link[^>]+rel="(?:stylesheet|preconnect)"'
            r'[^>]+href="(?:https?:)?//[^"]+', page.read_text(),
        )  # fmt: skip
        assert fetched == [], page.name


def test_the_design_links_to_its_homes_in_the_code(site: Path) -> None:
    page = (site / "design.html").read_text()
    for module in ("workers.media.source", "workers.run.pool", "service.features.compute"):
        assert f"#{module}" in page


def test_each_word_is_defined_once() -> None:
    words = [word.lower() for word, _ in glossary()]
    assert len(words) > 40
    assert sorted(words) == sorted(set(words))
    assert words == sorted(words), "in alphabetical order"
    taken = {synonym for _, synonyms in glossary() for synonym in synonyms}
    assert taken & set(words) == set()


@pytest.mark.parametrize("where", ["documentation", "command line"])
def test_nothing_is_called_by_another_word(where: str) -> None:
    if where == "command line":
        texts = {"--help": said_by_the_command_line()}
    else:
        files = [path for pattern in PUBLIC for path in ROOT.glob(pattern)]
        texts = {str(p.relative_to(ROOT)): p.read_text() for p in files if p.name != "glossary.md"}
        assert len(texts) > 15
    found = [
        f"{name}: {synonym!r}; say {word!r}"
        for name, text in texts.items()
        for word, synonyms in glossary()
        for synonym in synonyms
        if re.search(rf"\b{re.escape(synonym)}s?\b", " ".join(text.split()), re.IGNORECASE)
    ]
    assert found == []


def test_files_that_are_named_exist() -> None:
    folders = "service|workers|models|configs|takestream|tests|docs|examples|deploy|scripts"
    named = re.compile(rf"[`(](?:\.\./)*((?:{folders})/[\w./*-]*)[`)]")
    found = {
        (path.name, name)
        for pattern in PUBLIC
        for path in ROOT.glob(pattern)
        for name in named.findall(path.read_text())
    }
    assert len(found) > 100
    lost = [f"{where}: {name}" for where, name in sorted(found) if not any(ROOT.glob(name))]
    assert lost == []
