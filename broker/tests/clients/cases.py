"""Runs a client program's cases, prints one line each, and ends with the counts that `run` compares with its floors."""

import sys
import time
import traceback

_cases = []
_records = 0


def case(function):
    """Marks a function as a case; it is run with the broker, in the order written."""
    # Not those of another program that is imported for what it can do.
    if function.__module__ == "__main__":
        _cases.append(function)
    return function


def checked(count):
    """Counts records that a case read back and compared."""
    global _records
    _records += count


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def shorten(value, most=400):
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def main(library, broker):
    """Runs the cases named on the command line, or all; exits 1 when one failed."""
    chosen = [one for one in _cases if not sys.argv[1:] or one.__name__ in sys.argv[1:]]
    failed = 0
    with broker:
        for one in chosen:
            started = time.monotonic()
            try:
                one(broker)
            except Exception:
                failed += 1
                print(f"FAILED {library}/{one.__name__} on {broker.name}\n{traceback.format_exc()}", flush=True)
                if not broker.alive():
                    print(f"the broker died:\n{broker.log_tail()}", flush=True)
                    broker.start()
            else:
                print(f"ok {library}/{one.__name__} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"clients/{library}: cases={len(chosen) - failed} records={_records}", flush=True)
    sys.exit(1 if failed else 0)
