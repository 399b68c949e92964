"""The numbered messages that every library of the matrix writes, and every other reads back."""

# kcat gives one value of a header to all messages of a run, so this many in a row share theirs.
SAME_HEADER = 100


def message(number):
    """(key, value, value of the header `h`), each as text."""
    return f"k{number}", f"v{number}-" + "x" * (number % 200), str(number // SAME_HEADER)


def check(got, count):
    """`got` holds (offset, key, value, headers) of each message up to the end; headers are pairs, and all is text."""
    for number, (one, (key, value, header)) in enumerate(zip(got, map(message, range(count)))):
        expected = (number, key, value, [("h", header)])
        if one != expected:
            raise AssertionError(f"message {number}: expected {expected}, got {one}")
    if len(got) != count:
        raise AssertionError(f"{len(got)} messages instead of {count}")
