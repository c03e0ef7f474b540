"""Claims: one line each, `ok` or `FAILED` with what was expected and what was seen. And waiting for conditions under a deadline."""

import time
import traceback


class Claim(AssertionError):
    """Not as claimed. The text says what was expected and what was seen."""


def expect(condition, expected, seen=""):
    if not condition:
        raise Claim(f"expected {expected}" + (f"; seen: {seen}" if seen != "" else ""))


def expect_equal(seen, expected, what):
    if seen != expected:
        raise Claim(f"expected {what} {expected!r}; seen: {seen!r}")


def wait_until(what, seconds, condition, pause=0.01):
    """Returns the first true value of `condition`; fails after `seconds`. `what` may be a function that tells what is still missing."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Claim(f"waited {seconds:g} s in vain until {what() if callable(what) else what}")
        time.sleep(pause)


class Claims:
    def __init__(self, verbose=False):
        self.passed = 0
        self.failed = 0
        self.failures = []
        self.started = time.monotonic()

    def heading(self, text):
        print(f"\n{text}", flush=True)

    def claim(self, text, body, *arguments):
        """Runs `body`; what it returns (if it is text) is said behind the claim."""
        started = time.monotonic()
        remark = problem = None
        try:
            remark = body(*arguments)
        except Claim as claim:
            problem = str(claim)
        except Exception:
            problem = traceback.format_exc(limit=-4).rstrip()
        seconds = time.monotonic() - started
        if problem is None:
            self.passed += 1
            tail = f" — {remark}" if isinstance(remark, str) and remark else ""
            print(f"  ok      {seconds:6.2f} s  {text}{tail}", flush=True)
        else:
            self.failed += 1
            self.failures.append((text, problem))
            print(f"  FAILED  {seconds:6.2f} s  {text}", flush=True)
            for line in problem.splitlines():
                print(f"                    {line}", flush=True)
        return problem is None

    def finish(self):
        print(f"\n{self.passed} passed, {self.failed} failed ({time.monotonic() - self.started:.0f} s)", flush=True)
        return 1 if self.failed else 0
