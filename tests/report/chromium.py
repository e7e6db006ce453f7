"""A headless Chromium that tests drive over its own pipe: no other package, no port, no network of its own."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One tab. `requests` lists every URL asked for, `console` everything said or thrown there."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.home = tempfile.mkdtemp()
        ours_in, theirs_out = os.pipe()
        theirs_in, self.pen = os.pipe()
        self.reader = ours_in

        def rewire() -> None:  # Chromium reads commands on descriptor 3 and answers on 4
            command, answer = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(command, 3)
            os.dup2(answer, 4)

        assert BINARY is not None
        self.process = subprocess.Popen(
            [BINARY, *FLAGS, f"--user-data-dir={self.home}", f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=rewire,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number, self.session = b"", 0, None
        self.requests: list[str] = []
        self.console: list[str] = []
        self.loaded_at = 0.0
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        self.call("Performance.enable", timeDomain="threadTicks")  # seconds of work, not of waiting for a busy machine
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.reader)
        os.close(self.pen)
        shutil.rmtree(self.home, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and give its result; what happens meanwhile is noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.pen, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self, wait_s: float = 60) -> dict[str, Any]:
        until = time.monotonic() + wait_s
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(0, until - time.monotonic()))
            chunk = os.read(self.reader, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("Chromium says nothing")
            self.buffer += chunk
        raw, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(raw)
        self.note(message.get("method", ""), message.get("params", {}))
        return message

    def note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one)) for one in said["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(said["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.console.append(said["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.console.append(f"dialog: {said['message']}")
        elif method == "Page.loadEventFired":
            self.loaded_at = time.monotonic()

    def open(self, path: Path) -> float:
        """Open a file; returns the seconds until its scripts had run and its pictures were decoded."""
        self.requests.clear()
        self.console.clear()
        self.loaded_at = 0.0
        begun = time.monotonic()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded_at:
            self.read()
        return self.loaded_at - begun

    def worked_s(self) -> float:
        """Seconds of processor time that the tab's main thread spent on this page."""
        metrics = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    def run(self, script: str) -> Any:
        """The JSON value of an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def point(self, x: float, y: float, *, click: bool = False) -> None:
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left" if click else "none", clickCount=1)

    def dark(self) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def shot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
