"""What the article's programs must print, written independently of them: `python3 reference.py PROGRAM`, events on standard input.

A line that is no event changes nothing. Without PROGRAM, standard input is a JSON array of [program, input], and what each prints is the answer.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from collections import deque


def events():
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            return


def simple():
    for event in events():
        if event in ("A", "B", "C"):
            print("Processing event", event)


def say(number, event):
    ending = {"A": "blocking on B", "B": "blocking on C", "C": "task done"}[event]
    print(f"{number} Processing event {event}, {ending}")


def in_order_of_creation():
    """An event is for the oldest task that waits for it."""
    expects = {}
    created = 0
    print("Task queue size", len(expects))
    for event in events():
        if event == "A":
            expects[created] = "B"
            say(created, "A")
            created += 1
        else:
            number = next((n for n in sorted(expects) if expects[n] == event), None)
            if number is not None:
                say(number, event)
                if event == "B":
                    expects[number] = "C"
                else:
                    del expects[number]
        print("Task queue size", len(expects))


def in_order_of_waiting():
    """An event is for the task that has waited for it longest."""
    for_b, for_c = deque(), deque()
    created = 0
    print("Task queue size", 0)
    for event in events():
        if event == "A":
            say(created, "A")
            for_b.append(created)
            created += 1
        elif event == "B" and for_b:
            say(for_b[0], "B")
            for_c.append(for_b.popleft())
        elif event == "C" and for_c:
            say(for_c.popleft(), "C")
        print("Task queue size", len(for_b) + len(for_c))


def lines(*values):
    return lambda: [print(value) for value in values]


PROGRAMS = {
    "manual-async-simple": simple,
    "manual-async-with-state": in_order_of_creation,
    "yield-based-coroutines": in_order_of_waiting,
    "await-based-coroutines": in_order_of_waiting,
    "print-fibonacci": lines(1, 1, 2, 3, 5),
    "yield-fibonacci": lines(1, 1, 2, 3, 5),
    "yield-twice": lines(0, 1, 2, 3, 4, 5, 4, 3, 2, 1),
    "returning-generator": lines(0, 2, 4, 6, 8, "Generated 5 numbers"),
    "failing-generator": lines(0, "Something went wrong"),
}



def printed(program, text):
    sys.stdin = io.StringIO(text)
    with redirect_stdout(io.StringIO()) as output:
        PROGRAMS[program]()
    return output.getvalue()


if len(sys.argv) > 1:
    PROGRAMS[sys.argv[1]]()
else:
    print(json.dumps([printed(*pair) for pair in json.load(sys.stdin)]))
