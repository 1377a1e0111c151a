"""Runs a command in a terminal of its own (a pseudo-terminal), and presses keys.

    terminal.py PATTERN KEYS COMMAND...

PATTERN is what the terminal shows before the keys are pressed; without keys the command ends by itself. Prints a line of JSON: what
the terminal has shown, how the command ended (-N: by signal N), and which processes it has left behind.
"""
import json
import os
import pty
import re
import sys

pattern, keys, *command = sys.argv[1:]
mark = f"STARTED_IN_TERMINAL={os.getpid()}"
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update([mark.split("=")])
    os.execvp(command[0], command)
shown = b""
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # how Linux says that the command has ended
        break
    if not data:
        break
    shown += data
    if keys and re.search(pattern.encode(), shown):
        os.write(terminal, keys.encode())
        keys = ""
status = os.waitpid(pid, 0)[1]


def is_left(process):
    """Whether it was started by the command: children have its environment."""
    try:
        with open(f"/proc/{process}/environ", "rb") as environ:
            return mark.encode() in environ.read().split(b"\0")
    except OSError:
        return False


left = [process for process in os.listdir("/proc") if process.isdigit() and is_left(process)]
print(json.dumps({"shown": shown.decode(), "code": os.waitstatus_to_exitcode(status), "left": left}))
