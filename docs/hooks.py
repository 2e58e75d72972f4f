"""Makes pages of files that have their home elsewhere, and lets links work in both places.

Links to Python files and folders of the checkout become links to the module's reference, so a link
to a module that is gone fails the build. Links to other files of the checkout become plain text.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from takestream import facts, schema

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
# The pages of the reference and what is on each; a room is a page.
REFERENCE = {
    "takestream.modules": [
        f"takestream.{name}"
        for name in (
            "schema", "sync", "root", "protocol", "storage", "web", "renewed", "errors", "stores",
            "reader", "dataset", "tree", "facts", "catalogue", "client", "training",
        )
    ],
    "service": ["service.app", "service.serve", "service.errors"],
    **{
        room: [room]
        for room in (
            "configs", "models",
            "workers.media", "workers.dataset", "workers.store", "workers.clock", "workers.sync",
            "workers.run",
            "service.api", "service.features", "service.engine", "service.jobs",
            "service.transfer", "service.evaluate", "service.report",
            "service.demo", "service.cli",
        )
    },
}  # fmt: skip
_MODULE = re.compile(
    r"\]\((?:\.\./)*((?:service|workers|models|configs|takestream)(?:/\w+)*)(?:\.py|/)\)"
)
_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)*(?:LICENSE|(?:deploy|tests|examples|configs|scripts)/[^)]*)\)"
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/ and the reference of each room."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, modules in REFERENCE.items():
        text = "\n\n".join([f"# {page}", *(f"::: {module}" for module in modules)])
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with its links turned to pages of the site."""
    source = page.file.src_uri
    up = "../" * source.count("/")
    for target, name in PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(name)}([)#])", rf"]({up}{target}\1", markdown)
    if source in PAGES:
        markdown = markdown.replace("](docs/", "](")
    markdown = markdown.replace("<!-- store arrays -->", schema.markdown_table())
    markdown = markdown.replace("<!-- facts -->", facts.markdown_table())
    markdown = _MODULE.sub(lambda found: f"][{found[1].replace('/', '.')}]", markdown)
    return _OUTSIDE.sub(r"\1", markdown)
