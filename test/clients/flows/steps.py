"""
The parts of a flow in Python, as steps.mjs for JavaScript. A flow drives one client library against the server named by its
arguments, and writes a line `STEP {"name", "ok", "error"}` for each step.
"""

import argparse
import asyncio
import inspect
import json
import secrets

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--server-name", required=True)
parser.add_argument("--room-version", required=True)
arguments = parser.parse_args()

url = arguments.url
server_name = arguments.server_name
# The version of the rooms that the server creates, and the version to which they are upgraded.
room_version = arguments.room_version
other_version = "11" if room_version == "12" else "12"

password = "correct horse battery staple"

# The time limit of a step, in seconds.
limit = 30


def fresh(name: str) -> str:
    """A local part that no earlier run has used."""
    return f"{name}-{secrets.token_hex(6)}"


def report(name: str, **outcome) -> None:
    print(f"STEP {json.dumps({'name': name, **outcome})}", flush=True)


async def step(name, run):
    """Runs a step for a limited time. Returns its value, or None if it failed."""
    try:
        value = await asyncio.wait_for(run(), limit)
        report(name, ok=True)
        return value
    except asyncio.TimeoutError:
        report(name, ok=False, error=f"not within {limit} seconds")
    except Exception as error:
        report(name, ok=False, error=f"{type(error).__name__}: {error}"[:300])
    return None


def check(holds, message) -> None:
    if not holds:
        raise AssertionError(message)


async def until(look):
    """Calls `look` every 50 ms until it returns something, and returns that. The time limit of the step ends it."""
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.05)
