"""A tab of Chromium that a test drives, over the pipe of its DevTools protocol."""

import base64
import json
import os
import select
import subprocess
import time

from tests.chromium import CHROMIUM


class Tab:
    """One tab of a browser of its own; its windows are `width` wide and 900 high."""

    def __init__(self, folder, *, width=1280):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def pipes():  # Chromium reads from 3 and writes to 4
            os.dup2(theirs_in, 100)
            os.dup2(theirs_out, 101)
            os.dup2(100, 3)
            os.dup2(101, 4)

        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions"]
        command += [f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*command, "about:blank"],
            preexec_fn=pipes,  # noqa: PLW1509  Popen has no other way to number pipes
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._rest, self._number = ours_in, ours_out, b"", 0
        targets = self._call("Target.getTargets", session=None)["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self._call("Target.attachToTarget", session=None, targetId=target, flatten=True)
        self._session = attached["sessionId"]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, address):
        self._call("Page.navigate", url=address)

    def run(self, script):
        """Return what an expression of JavaScript in the page comes to, promises awaited."""
        found = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script, within_s=20):
        """Wait until an expression is true."""
        deadline_s = time.monotonic() + within_s
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < deadline_s, (script, self.run("document.body.innerText"))
            time.sleep(0.05)

    def key(self, text):
        """Press and release a key that writes one character."""
        named = {"key": text, "text": text}
        self._call("Input.dispatchKeyEvent", type="keyDown", **named)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=text)

    def picture(self, path):
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method, *, session="its own", **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self):
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 30)[0], "the browser says nothing"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser is gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return message
