"""What the pages say is what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill.model import errors
from tidemill.model.lease import OutcomeKind
from tidemill.model.obstacle import Why
from tidemill.model.principal import SCOPES, Role

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def test_the_generated_pages_are_fresh() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert named - targets == set()
    assert {"setup", "demo", "test"} <= named


def test_the_glossary_names_every_outcome() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    assert [kind for kind in OutcomeKind if f"`{kind.value}`" not in page] == []


def test_the_wire_page_names_every_reason_of_an_explanation() -> None:
    page = (ROOT / "docs" / "wire.md").read_text().partition("## Why")[2].partition("\n## ")[0]
    assert page
    assert [why for why in Why if f"`{why.value}`" not in page] == []


def test_the_error_tree_of_the_docstring_is_the_tree_of_classes() -> None:
    tree = errors.__doc__ or ""
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.TidemillError)
    ]
    for each in classes:
        line = next((line for line in tree.splitlines() if re.search(rf"\b{each.__name__}\b", line)), "")
        assert line, each
        if each is not errors.TidemillError:
            assert line.split()[-1] == each.error_code
    codes = [each.error_code for each in classes]
    assert len(set(codes)) == len(codes)


def test_every_decision_has_its_number_and_its_price() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert records
    for record in records:
        text = record.read_text()
        assert text.startswith(f"# {record.name[:4]}: "), record
        assert "**Price.**" in text, record


def test_nothing_in_the_repository_speaks_of_this_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = [ROOT / name for name in listed.splitlines() if not name.endswith((".lock", ".png"))]
    path = re.compile(r"(?<![\w.{}])/(?:work|root)/[a-z]")
    found = [str(each) for each in texts if each != Path(__file__) and path.search(each.read_text(errors="replace"))]
    assert found == []


def test_the_page_on_security_lists_the_scopes_of_each_role() -> None:
    rows = [
        line.split("|")[1:4]
        for line in (ROOT / "docs" / "security.md").read_text().splitlines()
        if line.endswith("| yes |")
    ]
    listed = {role: set[str]() for role in Role}
    for scopes, member, admin in rows:
        for scope in re.findall(r"`(\w+:\w+)`", scopes):
            listed[Role.ADMIN] |= {scope} if admin.strip() == "yes" else set()
            listed[Role.MEMBER] |= {scope} if member.strip() == "yes" else set()
    assert {role: set(scopes) for role, scopes in SCOPES.items()} == listed
