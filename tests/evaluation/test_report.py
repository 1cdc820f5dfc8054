"""One HTML page on results."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest
from test_results import write_trial

from rllib_risk.cli.main import run
from rllib_risk.evaluation.report import write_report
from rllib_risk.evaluation.results import ResultsError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


class Outline(HTMLParser):
    """Headings, cells and sources of images; tags must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.cells, self.sources = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        elif self.open and self.open[-1] == "td":
            self.cells.append(data)


@pytest.fixture
def runs(tmp_path):
    """Three seeds each of two algorithms, the second one higher in 8 of 9 pairs."""
    finals = {"VDN": (-30, -20, -12), "QMIX": (-14, -9, -7)}
    for name, values in finals.items():
        for seed, value in enumerate(values):
            params = {"seed": seed, "env": "macn", "lr": 0.1 * (name == "VDN")}
            points = [(10, -50.0), (20, float(value))]
            trial = tmp_path / name / f"t{seed}"
            write_trial(trial, points, params)
    versions = {"rllib_risk": "0.2", "ray": "2.60", "git_commit": "ab" * 20}
    checkpoint = tmp_path / "VDN" / "t0" / "checkpoint_000001"
    checkpoint.mkdir()
    text = json.dumps({"versions": versions | {"git_modified": True}})
    (checkpoint / "config.json").write_text(text)
    return tmp_path


def test_trained_runs(runs):
    (runs / "VDN" / "episode.png").write_bytes(PNG)
    out = runs / "report.html"
    assert write_report([runs], out, title="A <b> & c", threshold=-10.0) == []
    text = out.read_text()
    shown = Outline(text)
    assert shown.headings == [
        "A <b> & c",
        "What was run",
        "Learning curves",
        "Results",
        "Which is better?",
        "Settings",
        "Keys in which the groups differ",
        "Episodes and figures",
    ]
    assert shown.cells[:4] == ["QMIX", "macn", "0, 1, 2", "20"]
    assert "rllib_risk 0.2, Ray 2.60, commit abababababab with changes" in text
    # Two of three seeds of QMIX reach -10, none of VDN.
    assert {"2 of 3", "0 of 3"} < set(shown.cells)
    pair = shown.cells.index("QMIX above VDN")
    assert shown.cells[pair + 1].startswith("0.89 [")  # 8 of 9
    assert shown.cells[pair + 1 : pair + 3][1] == "QMIX is higher"
    row = shown.cells.index("lr")
    assert shown.cells[row : row + 3] == ["lr", "0.0", "0.1"]
    # Nothing comes from another file or host.
    assert len(shown.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in shown.sources)
    assert not re.search(r"(src|href)=.(?!data:)|url\(", text)


def test_tables_of_evaluations_let_no_html_through(tmp_path):
    (tmp_path / "shift.md").write_text(
        "# Wind\n\n| policy | mean |\n| --- | --- |\n| a<script>x</script> | -7 |\n"
    )
    (tmp_path / "shift.png").write_bytes(PNG)
    out = tmp_path / "report.html"
    write_report([tmp_path], out, title="Wind")
    shown = Outline(out.read_text())
    assert shown.headings == ["Wind", "Evaluation under shift", "Wind"]
    assert "-7" in shown.cells and "<script>" not in out.read_text()
    assert len(shown.sources) == 1


def test_nothing_to_report(tmp_path):
    with pytest.raises(ResultsError, match="nothing to report at or below"):
        write_report([tmp_path], tmp_path / "report.html", title="Nothing")
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ResultsError, match="this folder does not exist"):
        write_report([tmp_path / "no"], tmp_path / "report.html", title="Nothing")


def test_a_large_image_is_named_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.gif").write_bytes(b"GIF89a")
    (tmp_path / "large.png").write_bytes(bytes(5_000_001))
    assert run(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "large.png is larger than 5 MB and is left out." in printed.out + printed.err
    assert len(Outline((tmp_path / "report.html").read_text()).sources) == 1
    assert run(["report", str(tmp_path), "--out", "report.pdf"]) == 2
