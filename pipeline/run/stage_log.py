"""log.txt: what libraries log and warn about while a stage runs, beside the stage's output."""

import logging
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pipeline.environment import ignore_talk_between_libraries
from pipeline.files.disk_errors import disk_failure


@contextmanager
def log_to(path: Path) -> Generator[None]:
    """Send what libraries log and warn about to a file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    others = root.handlers[:]
    root.handlers[:] = [handler]
    with warnings.catch_warnings():
        ignore_talk_between_libraries()
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.handlers[:] = others
            handler.close()


class _LogFile(logging.FileHandler):
    """Says once that a line could not be written, and carries on: a log is not a result.

    Upstream prints a traceback for each line.
    """

    is_whole = True

    def handleError(self, record: logging.LogRecord) -> None:
        """Say what upstream prints a traceback for; one of our own slips is still shown."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._say(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file; what it still held may not fit on the disk either."""
        try:
            super().close()
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        if self.is_whole:
            failure = disk_failure(error, self.baseFilename)
            why = failure.message if failure else error
            sys.stderr.write(f"{self.baseFilename}: lines are missing: {why}\n")
        self.is_whole = False
