"""The overlays in a real Model Explorer: load them all, follow the mapping, keep screenshots to look at.

    pip install ai-edge-model-explorer playwright
    qdebug trace --model resnet --save-candidate model.tflite && qdebug report --explorer DIR
    python -m tests.benchmarks.explorer model.tflite DIR --shots SHOTS

Exits with 1 where a file is not accepted, or a node of the left pane selects another than its own on the right. The
server listens on the loopback only; the browser is the system's own Chromium. Ends at once where one of them is absent.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_POPUP = ".cdk-overlay-container"
_GL = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def served() -> Iterator[str]:
    """Start the server on a free port of the loopback; yield its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "model_explorer", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--no_open_in_browser"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def load(page: Any, address: str, model: Path, folder: Path) -> None:
    """Open the reference left and the model right, with every node data file; unfold the right side."""
    data = [str(path.resolve()) for path in sorted(folder.glob("*.json")) if "results" in json.loads(path.read_text())]
    models = [{"url": str(path.resolve())} for path in (folder / "reference_graph.json", model)]
    query = {"models": models, "nodeData": data, "nodeDataTargets": [model.name] * len(data)}
    page.goto(address + "?data=" + urllib.parse.quote(json.dumps(query)))
    page.wait_for_timeout(6000)
    page.locator("graph-selector").first.click()
    page.wait_for_timeout(1000)
    page.locator(f"{_POPUP} .action-button").nth(1).click(force=True)
    page.wait_for_timeout(3000)
    page.locator("split-pane").nth(1).locator("mat-icon", has_text="unfold_more_double").first.click()
    page.wait_for_timeout(2000)


def upload(page: Any, button: Any, file: Path) -> str:
    """Load a file through the panel that the button opens; return what the panel says then."""
    button.click()
    page.wait_for_timeout(1000)
    with page.expect_file_chooser() as chooser:
        page.locator(_POPUP).get_by_text("Upload", exact=True).first.click()
    chooser.value.set_files(file)
    page.wait_for_timeout(2000)
    text: str = page.locator(_POPUP).inner_text()
    page.locator(f"{_POPUP} mat-icon", has_text="close").first.click()
    page.wait_for_timeout(1000)
    return text


def select(page: Any) -> tuple[str, str]:
    """Click down the left pane until a node is hit; return its id and the id selected on the right."""
    box = page.locator("split-pane").nth(0).bounding_box()
    for step in range(12, 60):
        page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * step / 60)
        page.wait_for_timeout(300)
        left, right = (_identity(text) for text in page.locator("info-panel").all_inner_texts())
        if left and right:
            page.wait_for_timeout(1500)
            return left, right
    return "", ""


def _identity(panel: str) -> str:
    words = panel.split()
    return words[words.index("id") + 1] if "NODE INFO" in panel and "id" in words else ""


def look(address: str, model: Path, folder: Path, shots: Path) -> list[str]:
    """Load everything; return what failed."""
    from playwright.sync_api import sync_playwright

    shots.mkdir(parents=True, exist_ok=True)
    overlay = json.loads((folder / "error_path.json").read_text())
    mapping = json.loads((folder / "sync_navigation.json").read_text())["mappingEntries"]
    failed: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_GL))
        page = browser.new_page(viewport={"width": 1800, "height": 1000})
        page.on("pageerror", lambda error: failed.append(f"the page failed: {error}"))
        load(page, address, model, folder)
        page.screenshot(path=shots / "node_data.png")
        if "qdebug: verdict" not in page.locator("info-panel").nth(1).inner_text():
            failed.append("no node data")
        dropdown = page.locator("split-pane").nth(1).locator("edge-overlays-dropdown mat-icon").first
        if overlay["name"] not in upload(page, dropdown, folder / "error_path.json"):
            failed.append("no edge overlay")
        upload(page, page.locator("sync-navigation-button"), folder / "sync_navigation.json")
        left, right = select(page)
        page.screenshot(path=shots / "selected.png")
        if not any(left in entry["leftNodeIds"] and right in entry["rightNodeIds"] for entry in mapping):
            failed.append(f"{left or 'no node'} selects {right or 'nothing'}")
        print(f"left {left} selects right {right}; screenshots in {shots}")
        browser.close()
    return failed


def main() -> int:
    """Read the arguments, look, and say what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shots", type=Path, default=Path("shots"))
    given = parser.parse_args()
    absent = [name for name in ("model_explorer", "playwright") if importlib.util.find_spec(name) is None]
    if shutil.which("chromium") is None:
        absent.append("chromium")
    if absent:
        print(f"skipped: {', '.join(absent)} not installed")
        return 0
    with served() as address:
        failed = look(address, given.model, given.folder, given.shots)
    print("\n".join(failed) or "everything shown")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
