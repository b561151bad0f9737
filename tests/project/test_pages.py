"""The README, CONTRIBUTING, DEVIATIONS and the pages of the site: short where they must be, and true to the project."""

import dataclasses
import html
import importlib
import re
import shlex

import pytest
from PIL import Image
from typer.main import get_command

from dped_lib.app import cli
from dped_lib.base import paths
from dped_lib.data import splits
from dped_lib.experiments import model_zoo

ROOT = paths.project_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
    for file in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
}
COMMANDS = get_command(cli.app).commands
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split())
#: Other programs that a page may call.
OTHERS = {"export", "mamba", ".venv/bin/jupyter", ".venv/bin/pip", ".venv/bin/snakemake", "benchmarks/gpu_paper.sh"}


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and content."""
    return re.findall(r"^```([^`\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def calls(text: str) -> list[list[str]]:
    """Every command that a page gives, in a block without a language or between backquotes, as words."""
    lines = [
        line for language, block in blocks(text) if not language for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"(?<!`)`((?:\.venv/bin/)?dped [a-z][^`]*|make [a-z][^`]*)`(?!`)", text)
    commands = []
    for part in (part for line in lines for part in line.split(" && ")):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            commands.append(words)
    return commands


def test_the_readme_is_short():
    assert len(README.split()) <= 700


def test_the_readmes_picture_shows_a_photograph_that_no_network_was_trained_on():
    assert "City100 (© 2019 Chang Chen, MIT)" in README
    with Image.open(ROOT / "docs" / "_static" / "pictures" / "readme.jpg") as picture:
        assert picture.width < 1000
    shown = re.search(r"scene (\d{3}) of City100", README)[1]
    # The names of the scenes decide their split; the store's own assignment is the same (tests/data).
    assert splits.split_photographs(f"{i:03d}H" for i in range(1, 71))[f"{shown}H"] == "test"


@pytest.mark.parametrize("page", PAGES)
def test_no_code_block_is_wider_than_a_column(page):
    limit = 90 if page == "README.md" else 110
    shown = [block for language, block in blocks(PAGES[page]) if not language.startswith("{")]  # not a directive
    assert not [line for block in shown for line in block.splitlines() if len(line) > limit]


@pytest.mark.parametrize("page", PAGES)
def test_github_shows_no_directive_of_the_site_as_a_box_of_code(page):
    seen = re.sub(r"<!--.*?-->", "", PAGES[page], flags=re.DOTALL)
    assert not re.search(r"^(```|:::+)\{", seen, re.MULTILINE), "docs/for_site.py says how to write it"


def test_plain_markdown_becomes_the_directives_of_the_site(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    with_directives = importlib.import_module("for_site").with_directives
    pair = "| phone | better |\n| --- | --- |\n| ![A hut, phone](../p/a.jpg) | ![A hut, better](../p/b.jpg) |\n\n*Two huts.*\n"
    slider = "```{before-after} a.jpg b.jpg\n:left: phone\n:right: better\n:alt: A hut\n%s\nTwo huts.\n```\n"
    assert with_directives(f"<!-- before-after -->\n{pair}", str) == slider % ""
    assert with_directives(f"<!-- before-after rows=0,0.5 -->\n{pair}", str) == slider % ":rows: 0 0.5\n"
    assert with_directives(pair, str) == pair, "a table without a comment stays a table"
    cards = with_directives(
        "<!-- cards -->\n- [One](a.md): words\n- [Two](b.md): others\n", lambda link: f"to/{link[0]}"
    )
    assert cards.count("{grid-item-card}") == 2 and ":link: to/b\n" in cards
    assert (
        with_directives("<!-- site\n```{toctree}\na\n```\n-->\nx <!-- site: y --> z", str)
        == "```{toctree}\na\n```\nx y z"
    )
    for wrong in ("<!-- figure -->\nNo picture.\n", "<!-- cards -->\n- no link\n", f"<!-- before-after -->\n\n{pair}"):
        with pytest.raises(ValueError, match=r"another form|not a card"):
            with_directives(wrong, str)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    """On GitHub, where nothing is generated. ``docs/build.py`` makes them links between pages of the site."""
    targets = re.findall(r"\]\(([^()\s]+)\)", PAGES[page])
    for target in targets:
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), target


def test_the_readme_links_to_the_paper_and_its_authors():
    for address in ("https://arxiv.org/abs/1704.02470", "https://aiff22.github.io/", "https://github.com/aiff22/DPED"):
        assert f"]({address})" in README


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page):
    for words in calls(PAGES[page]):
        program, *rest = words
        if program.rsplit("/", 1)[-1] == "dped":
            if rest[0] in ("COMMAND", "--help"):
                continue
            options = {o for p in COMMANDS[rest[0]].params for o in p.opts} | {"--help"}
            assert {w.partition("=")[0] for w in rest if w.startswith("--")} <= options, words
        elif program == "make":
            for word in rest:
                name, is_setting, _ = word.partition("=")
                assert re.search(rf"^{name}\s*\?=", MAKEFILE, re.MULTILINE) if is_setting else word in TARGETS, words
        else:
            assert program in OTHERS, words


def test_the_page_of_commands_says_each_default_once(monkeypatch):
    """In the text of its option: a column of its own would take half of a telephone."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    rows = [line for line in importlib.import_module("generated").commands().splitlines() if line.startswith("| ")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {3}
    assert "Default: `800x1080`. |" in "".join(rows)
    assert not [row for row in rows if row.count("Default:") + row.count("Required.") > 1]


def test_variables_of_the_environment_exist():
    page = PAGES["docs/reference/environment.md"]
    described = set(re.findall(r"^\| `(DPED_\w+)`", page, re.MULTILINE))
    used = {
        name
        for file in (ROOT / "dped_lib").rglob("*.py")
        for name in re.findall(r"\bDPED_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }
    assert described == used


def test_every_figure_and_table_of_the_paper_is_in_the_index():
    page = PAGES["docs/reference/reproduce.md"]
    listed = set()
    for kind, numbers in re.findall(r"^\| (Figure|Table)s? ([\d, ]+) \|", page, re.MULTILINE):
        listed |= {(kind, int(n)) for n in numbers.split(",")}
    assert listed == {("Figure", n) for n in range(1, 20)} | {("Table", n) for n in (1, 2, 3)}


def test_every_notebook_is_on_its_page():
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"(../notebooks/{file.name})" in PAGES["docs/notebooks.md"]
        assert f"(notebooks/{file.name})" in README


def test_a_reader_of_the_readme_sees_the_result_and_the_paper_before_the_commands():
    """Then what the commands give, how to use it, whether the paper holds, the networks, and the formalities."""
    first = (
        "readme.jpg",
        "https://arxiv.org/abs/1704.02470",
        "make setup",
        "make figures",
        "## What you get",
        "00_start",
    )
    then = ("**Enhance**", "**Align**", "**Study**", "claims_overview.png", "## Model zoo", "## Cite", "## Licence")
    places = [README.index(words) for words in (*first, *then)]
    assert places == sorted(places)


def test_names_are_defined_in_the_files_that_a_page_gives_for_them():
    """An example is `DATASETS` (`dped_lib/base/datasets.py`). Files of the library may be given without its folder."""
    named = {(page, *m) for page, text in PAGES.items() for m in re.findall(r"`(\w+)`\s\(`([\w/]+\.py)`", text)}
    assert sum(page == "CONTRIBUTING.md" for page, *_ in named) >= 9
    for page, name, file in named:
        place = next(p for p in (ROOT / file, ROOT / "dped_lib" / file) if p.is_file())
        defined = re.search(rf"^(def |class )?{name}\b", place.read_text(encoding="utf-8"), re.MULTILINE)
        assert defined, f"{page}: {file} has no {name}"


def test_minutes_of_a_notebook_are_the_same_everywhere():
    """00_start's index has them, too."""
    start = (ROOT / "notebooks" / "00_start.ipynb").read_text(encoding="utf-8")
    minutes = dict(re.findall(r"\| `dped run (\w+)` \| ([\d½]+) \|", start))
    assert len(minutes) == 8
    in_readme = dict(re.findall(r"^\|\[(\w+)\].*\|([\d½]+)\|$", README, re.MULTILINE))
    assert minutes.items() <= in_readme.items()
    in_index = re.findall(r"run (\w+)` \| ([\d½]+) \|", PAGES["docs/reference/reproduce.md"])
    assert len(in_index) > 20 and {minutes[name] == given for name, given in in_index} == {True}


def test_the_readmes_blocks_are_those_of_the_results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generated = importlib.import_module("generated")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    generated.fill_readme(tmp_path / "README.md", ROOT)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == README, "python docs/build.py --readme"
    full = next(n for n in model_zoo.networks() if n.for_photographs)
    other = dataclasses.replace(full, weights="`shipped:other`", for_photographs=False)
    block = generated.readme_models([full, other])
    assert f"|{full.weights}|" in block and "shipped:other" not in block
    before, after = (f"{float(scores[0]):.1f}" for scores in (full.original, full.scores))
    for page in (README, PAGES["docs/index.md"]):
        assert f"from {before} to {after} dB" in page


def test_the_readme_counts_the_tests_of_each_kernel_on_public_photographs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    readme_kernels = importlib.import_module("generated").readme_kernels
    finding = {"claim": "shift_small", "kernel": "code", "dataset": "rig", "preset": "cpu", "verdict": "holds"}
    others = [{**finding, **change} for change in ({"verdict": "undecided"}, {"dataset": "own"}, {"preset": "smoke"})]
    printed, _, code = readme_kernels([finding, *others]).splitlines()
    assert "(4.34 px) passes 1 of 2, 0 of 0, and 0 of 0 tests" in code
    assert "(1.73 px) passes 0 of 0" in printed


def test_the_page_of_networks_names_those_that_score_below_the_original():
    page, lower = PAGES["docs/model_zoo.md"], set()
    for line in page.splitlines():
        name, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        if name == model_zoo.ORIGINAL:
            original = [float(value) for value in numbers[:2]]
        elif name.startswith("`shipped:"):
            lower |= {name} if all(float(a) < b for a, b in zip(numbers[:2], original, strict=True)) else set()
    assert "`shipped:rig-sony`" in lower
    assert (
        set(re.search(r"below the original photographs in both PSNR and MS-SSIM: ([^.]+)\.", page)[1].split(", "))
        == lower
    )


def test_the_page_of_networks_begins_with_the_one_to_take():
    """A reader who wants to enhance photographs need not search among networks that are for the tables."""
    (taken,) = (n.weights for n in model_zoo.networks() if n.for_photographs)
    assert PAGES["docs/model_zoo.md"].split("\n\n")[1].startswith(f"To enhance photographs, take {taken}.")


def test_what_deviations_calls_checked_exists():
    """A test that is renamed must be renamed there."""
    page = PAGES["DEVIATIONS.md"]
    for file in re.findall(r"`(tests/[\w/]+\.py)`", page):
        assert (ROOT / file).is_file(), file
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert set(re.findall(r"`(test_\w+)`", page)) <= defined
    # A long name stands as words, which a table can break, and leads to its file.
    linked = re.findall(r"\[([^\]]+)\]\((tests/[\w/]+\.py)\)", page)
    assert len(linked) > 10
    for words, file in linked:
        assert f"def test_{words.replace(' ', '_')}(" in (ROOT / file).read_text(encoding="utf-8"), words


def test_the_library_page_shows_code_that_runs(mirror, capsys):
    (code,) = (block for language, block in blocks(PAGES["docs/reference/library.md"]) if language == "python")
    exec(compile(code, "library.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'ms_ssim': 0.9" in printed and printed.count("tensor(") == 2


def test_formulas_have_spaces_around_names_of_functions(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "ext")
    formula = importlib.import_module("mathml").mathml
    words = re.sub(r"<mspace[^>]*></mspace>", " ", formula(r"0.58 \tanh 0.5 - \log D(x)"))
    assert html.unescape(re.sub(r"<[^>]+>", "", words)) == "0.58 tanh 0.5\u2212log D(x)"
    words = re.sub(r"<mspace[^>]*></mspace>", " ", formula(r"20 \log_{10} 255 + 10 \log_2 x"))
    assert html.unescape(re.sub(r"<[^>]+>", "", words)) == "20 log10 255+10 log2 x"


def test_a_long_formula_breaks_before_an_equals_sign(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "ext")
    parts = importlib.import_module("mathml").parts
    assert parts(r"(x=1)_{y=2} / \left[z=3\right] = \frac{a=b}{c} = 2") == [
        r"(x=1)_{y=2} / \left[z=3\right] ",
        r"= \frac{a=b}{c} ",
        "= 2",
    ]
    assert parts("= 2") == ["= 2"]


def test_a_formula_that_the_site_cannot_write_is_an_error(monkeypatch):
    """The converter writes a command that it does not know as text, backslash and all, and warns of nothing."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "ext")
    formula = importlib.import_module("mathml").mathml
    known = html.unescape(re.sub(r"<[^>]+>", "", formula(r"\arg\min_W \big\lVert x \big\rVert_2")))
    assert known == "argminW\u2016x\u20162"
    with pytest.raises(ValueError, match=r"\\foo in a \+ \\foo x"):
        formula(r"a + \foo x")
