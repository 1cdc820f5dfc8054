"""The documentation's site has all pages, and a browser shows them."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A page on which the checks must fail.
BAD = """<!DOCTYPE html><div style="width: 800px">wide</div>
<script>throw Error("on purpose")</script>"""
# Loads each page in a frame of a phone's width, and notes those that are wider.
PROBE = """<!DOCTYPE html><body><pre id="out"></pre><script>
const frame = document.createElement("iframe");
frame.width = 390; frame.height = 800;
document.body.append(frame);
(async () => {
  const pages = PAGES, wide = {};
  for (const page of pages) {
    await new Promise(done => { frame.onload = done; frame.src = page; });
    const width = frame.contentDocument.documentElement.scrollWidth;
    if (width > 390) wide[page] = width;
  }
  const index = await (await fetch("search/search_index.json")).json();
  const hits = index.docs.filter(doc => doc.text.includes("CVaR")).length;
  document.getElementById("out").textContent =
    JSON.stringify({pages: pages.length, wide: wide, hits: hits});
})();
</script></body>"""


def test_the_menu_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", text, re.MULTILINE)
    pages = {
        str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")
    }
    pages = {page for page in pages if not page.startswith("figures/")}
    hooks = (ROOT / "tools" / "docs_site.py").read_text("utf-8")
    pages |= set(re.findall(r'^    ".+": "(\w+\.md)",$', hooks, re.MULTILINE))
    pages |= {f"python/{name}.md" for name in ("rllib_risk", "deploy", "offline")}
    assert sorted(named) == sorted(pages | {"python/ops.md"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The built site, and its address on this machine."""
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.long
def test_every_page_fits_a_phone_without_an_error(site: tuple[Path, str]) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip(reason="needs Chromium")
    folder, address = site
    (folder / "bad.html").write_text(BAD)
    pages = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.html"))
    (folder / "probe.html").write_text(PROBE.replace("PAGES", json.dumps(pages)))
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    arguments += ["--enable-logging=stderr", "--virtual-time-budget=120000"]
    shown = subprocess.run(
        [chromium, *arguments, f"{address}/probe.html"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r'<pre id="out">(.+?)</pre>', shown.stdout)
    assert found is not None, shown.stderr
    report = json.loads(unescape(found[1]))
    assert report["pages"] == len(pages) > 50
    assert list(report["wide"]) == ["bad.html"]
    assert report["hits"] > 10
    errors = [line for line in shown.stderr.splitlines() if "Uncaught" in line]
    assert len(errors) == 1 and "on purpose" in errors[0]
