"""A page in headless Chromium, with real keys: the DevTools protocol through two pipes, which needs no package."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
CODES = {
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "Escape": 27,
    "Tab": 9,
    " ": 32,
    "Home": 36,
    "End": 35,
}
SHIFT = 8


class Page:
    """A page, to be opened; Chromium runs as long as the `with` block.

    Args:
        url: of the page.
        folder: new, for the profile and for downloads.
        size: of the window, in pixels.
    """

    def __init__(self, url: str, folder: Path, *, size: tuple[int, int] = (1400, 900)) -> None:
        self.url, self.folder, self.size, self.number = url, folder, size, 0

    def __enter__(self) -> Self:
        (theirs, self.write), (read, ours) = os.pipe(), os.pipe()
        # The program reads 3 and writes 4; the shell moves the pipes there from numbers that are out of the way.
        passed = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs, ours)]
        for end in (theirs, ours):
            os.close(end)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += [f"--window-size={self.size[0]},{self.size[1]}", f"--user-data-dir={self.folder / 'profile'}"]
        self.program = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{passed[0]} 4>&{passed[1]}', "_", str(PROGRAM), *flags, "about:blank"],
            pass_fds=passed,
            stderr=subprocess.DEVNULL,
        )
        for end in passed:
            os.close(end)
        self.answers = os.fdopen(read, "rb")
        self.buffer = b""
        self.session = None
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.folder))
        self.call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self.program.terminate()
        self.program.wait(timeout=30)
        self.answers.close()
        os.close(self.write)

    def open(self) -> None:
        """Go to the page; its document is there, its pictures perhaps not yet."""
        self.call("Page.navigate", url=self.url)
        self.wait("location.href !== 'about:blank' && document.readyState !== 'loading'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol; events on the way are dropped."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                part = os.read(self.answers.fileno(), 1 << 16)
                if not part:
                    raise RuntimeError("Chromium has ended")
                self.buffer += part
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return dict(answer["result"])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, as JSON; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, condition: str, *, every: int = 50) -> None:
        """Until a JavaScript condition holds, which is looked at `every` milliseconds, a minute at most."""
        held = (
            f"new Promise((done) => {{ let tries = {60_000 // every}; const look = () => ({condition}) ? done(true) : "
        )
        if not self.value(f"{held}--tries ? setTimeout(look, {every}) : done(false); look(); }})"):
            raise TimeoutError(condition)

    def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys one after the other, by their names in JavaScript, such as "w" or "ArrowRight"."""
        for key in keys:
            code = CODES.get(key) or ord(key.upper())
            same = {"key": key, "windowsVirtualKeyCode": code, "modifiers": SHIFT if shift else 0}
            text = {"text": key} if len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **same, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
