"""Pages in headless Chromium: Playwright drives the browser that the system has installed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Dialog, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab. `requests` lists the URLs that the page requested, `console` its messages, errors and dialogs."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.requests: list[str] = []
        self.console: list[str] = []
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        self.page = self._browser.new_page(viewport={"width": width, "height": height})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self._protocol = self.page.context.new_cdp_session(self.page)
        self._protocol.send("Performance.enable", {"timeDomain": "threadTicks"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def _dismiss(self, dialog: Dialog) -> None:
        self.console.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path: Path) -> float:
        """Open a file; returns the seconds until its scripts have run and its images are loaded."""
        self.requests.clear()
        self.console.clear()
        start = time.monotonic()
        self.page.goto(path.resolve().as_uri())
        return time.monotonic() - start

    def cpu_s(self) -> float:
        """Processor seconds of the tab's main thread so far: not affected by a busy machine."""
        metrics = self._protocol.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    def run(self, script: str) -> Any:
        """The JSON value of an expression in the page; a promise is awaited."""
        return self.page.evaluate(script)

    def point(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y)

    def size(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        self.page.screenshot(path=path)
