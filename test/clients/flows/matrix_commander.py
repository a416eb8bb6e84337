"""
matrix-commander: a client for shell scripts. Each step runs its program once or more, with credentials and store in a directory
for each user. Rooms are addressed by alias where possible, since the program appends a server name to room IDs without one
(version 12).
"""

import asyncio
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request

from steps import check, fresh, other_version, password, room_version, server_name, step, url

program = os.path.join(os.path.dirname(sys.executable), "matrix-commander")
names = {"alice": fresh("alice"), "bob": fresh("bob")}
users = {who: f"@{name}:{server_name}" for who, name in names.items()}
home = tempfile.TemporaryDirectory(prefix="greenroom-commander-")
local = fresh("shed")
room = f"#{local}:{server_name}"


async def run(who: str, *options: str) -> str:
    """Runs the program and returns its output. Fails if the exit code or a line of its log says that it failed."""
    directory = os.path.join(home.name, who)
    os.makedirs(directory, exist_ok=True)
    files = ["--credentials", os.path.join(directory, "credentials.json"), "--store", os.path.join(directory, "store")]
    process = await asyncio.create_subprocess_exec(
        program,
        *files,
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": directory},
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    print(who, *options, output.decode(), errors.decode(), sep="\n", flush=True)
    lines = [line for line in errors.decode().splitlines() if "ERROR" in line]
    check(process.returncode == 0 and not lines, f"exit code {process.returncode}: {' '.join(lines)[-250:]}")
    return output.decode()


async def run_json(who: str, *options: str) -> list:
    """The lines that the program prints, as JSON."""
    return [json.loads(line) for line in (await run(who, *options, "--output", "json")).splitlines() if line]


def event_file(event: dict) -> str:
    """Writes an event to a file, from which the program sends it."""
    with tempfile.NamedTemporaryFile("w", dir=home.name, suffix=".json", delete=False) as file:
        json.dump(event, file)
    return file.name


def post(endpoint: str, body: dict) -> dict:
    data = json.dumps(body).encode()
    with urllib.request.urlopen(f"{url}/_matrix/client/v3/{endpoint}", data=data, timeout=20) as response:
        return json.load(response)


def status_of_whoami(token: str) -> int:
    whoami = f"{url}/_matrix/client/v3/account/whoami"
    request = urllib.request.Request(whoami, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


class Story:
    room_id = ""
    hello = ""

    async def register(self) -> None:
        """The program cannot register: the accounts are created by requests."""
        for who, name in names.items():
            account = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}, "inhibit_login": True}
            found = await asyncio.to_thread(post, "register", account)
            check(found["user_id"] == users[who], f"the user ID is {found['user_id']}")

    async def login(self) -> None:
        for who, user in users.items():
            account = ["--homeserver", url, "--user-login", user, "--password", password]
            await run(who, "--login", "password", *account, "--device", f"commander of {who}", "--room-default", room)
        check(users["alice"] in await run("alice", "--whoami"), "whoami says somebody else")

    async def profile(self) -> None:
        await run("alice", "--set-display-name", "Alice")
        found = await run("bob", "--get-profile", users["alice"])
        check("Alice" in found, f"the profile is {found}")

    async def create_room(self) -> None:
        await run("alice", "--room-create", local, "--name", "Shed", "--topic", "spades", "--plain")
        [resolved] = await run_json("alice", "--room-resolve-alias", room)
        self.room_id = resolved["room_id"]
        state = await run("alice", "--room-get-state", room, "--output", "json")
        check(f'"room_version": "{room_version}"' in state, f"the room is not of version {room_version}")

    async def invite_and_join(self) -> None:
        await run("alice", "--room-invite", room, "--user", users["bob"])
        invitations = await run("bob", "--room-invites", "list")
        check("invite" in invitations.lower(), f"the invitations are {invitations}")
        await run("bob", "--room-join", room)
        members = await run("alice", "--joined-members", self.room_id)
        check(users["bob"] in members, f"the members are {members}")

    async def send(self) -> None:
        sent = await run("alice", "--message", "hello bob", "--room", room, "--print-event-id")
        self.hello = sent.split()[0]
        check(self.hello.startswith("$"), f"the event ID is {self.hello}")

    async def formats(self) -> None:
        await run("alice", "--message", "**bold**", "--room", room, "--markdown")
        await run("alice", "--message", "<b>bold</b>", "--room", room, "--html")
        await run("alice", "--message", "x = 1", "--room", room, "--code")
        await run("alice", "--message", "noted", "--room", room, "--notice")

    async def listen(self) -> None:
        heard = await run("bob", "--listen", "tail", "--tail", "10", "--room", self.room_id, "--print-event-id")
        check("hello bob" in heard and "noted" in heard, f"bob hears {heard}")

    async def edit(self) -> None:
        relates = {"rel_type": "m.replace", "event_id": self.hello}
        content = {"msgtype": "m.text", "body": "* hello", "m.new_content": {"msgtype": "m.text", "body": "hello"}}
        event = {"type": "m.room.message", "content": {**content, "m.relates_to": relates}}
        await run("alice", "--event", event_file(event), "--room", room)

    async def react(self) -> None:
        relates = {"rel_type": "m.annotation", "event_id": self.hello, "key": "👍"}
        event = {"type": "m.reaction", "content": {"m.relates_to": relates}}
        await run("bob", "--event", event_file(event), "--room", room)

    async def redact(self) -> None:
        sent = await run("alice", "--message", "oops", "--room", room, "--print-event-id")
        await run("alice", "--room-redact", room, sent.split()[0], "typo")
        heard = await run("bob", "--listen", "tail", "--tail", "10", "--room", self.room_id)
        check("noted" in heard and "oops" not in heard, f"bob hears {heard}")

    async def rooms(self) -> None:
        found = await run("alice", "--joined-rooms")
        check(found.count("!") == 1, f"the rooms are {found}")
        found = await run("alice", "--get-room-info", room)
        check("Shed" in found, f"the room is {found}")

    async def directory(self) -> None:
        alias = f"#{fresh('hut')}:{server_name}"
        [resolved] = await run_json("bob", "--room-resolve-alias", room)
        check(resolved["room_id"].startswith("!"), f"the alias is of {resolved}")
        await run("alice", "--room-set-alias", alias, room)
        await run("alice", "--room-delete-alias", alias)
        visibility = await run("alice", "--room-get-visibility", room)
        check("private" in visibility, f"the room is {visibility}")

    async def presence(self) -> None:
        await run("bob", "--set-presence", "online")
        found = await run("bob", "--get-presence")
        check("online" in found, f"bob is {found}")

    async def moderation(self) -> None:
        for action in ("--room-kick", "--room-ban", "--room-unban", "--room-invite"):
            await run("alice", action, room, "--user", users["bob"])
        await run("bob", "--room-join", room)

    async def upgrade(self) -> None:
        """Uses the option that sends any request."""
        endpoint = f"__homeserver__/_matrix/client/v3/rooms/{self.room_id}/upgrade?access_token=__access_token__"
        answer = await run("alice", "--rest", "POST", json.dumps({"new_version": other_version}), endpoint)
        check("replacement_room" in answer, f"the answer is {answer}")

    async def devices(self) -> None:
        identifier = {"type": "m.id.user", "user": users["alice"]}
        account = {"type": "m.login.password", "identifier": identifier, "password": password}
        second = await asyncio.to_thread(post, "login", {**account, "initial_device_display_name": "second"})
        found = await run("alice", "--devices")
        check(second["device_id"] in found, f"the devices are {found}")
        await run("alice", "--set-device-name", "renamed")
        await run("alice", "--delete-device", second["device_id"], "--password", password)
        check(second["device_id"] not in await run("alice", "--devices"), "the device is still there")

    async def leave(self) -> None:
        await run("bob", "--room-leave", room)
        check(self.room_id not in await run("bob", "--joined-rooms"), "bob is still in the room")

    async def logout(self) -> None:
        with open(os.path.join(home.name, "bob", "credentials.json")) as file:
            token = json.load(file)["access_token"]
        await run("bob", "--logout", "me")
        check(await asyncio.to_thread(status_of_whoami, token) == 401, "the token still works")


async def main() -> None:
    story = Story()
    steps = {
        "register": story.register,
        "login": story.login,
        "profile": story.profile,
        "create room": story.create_room,
        "invite and join": story.invite_and_join,
        "send": story.send,
        "formats": story.formats,
        "listen": story.listen,
        "edit": story.edit,
        "react": story.react,
        "redact": story.redact,
        "rooms": story.rooms,
        "directory": story.directory,
        "presence": story.presence,
        "moderation": story.moderation,
        "leave": story.leave,
        "upgrade": story.upgrade,
        "devices": story.devices,
        "logout": story.logout,
    }
    for name, run_step in steps.items():
        await step(name, run_step)


asyncio.run(main())
