"""
matrix-nio: two users of the library on which most bots in Python are built. It returns errors as values, so every response is
checked for its type.
"""

import asyncio
import logging

import nio
from nio.api import RelationshipType
from steps import check, fresh, other_version, password, room_version, server_name, step, until, url

logging.disable(logging.CRITICAL)

names = {"alice": fresh("alice"), "bob": fresh("bob")}


def must(response):
    """The response, unless it is an error."""
    if isinstance(response, nio.ErrorResponse):
        raise RuntimeError(f"{type(response).__name__}: {response.status_code} {response.message}")
    return response


def client_of(name: str) -> nio.AsyncClient:
    configuration = nio.AsyncClientConfig(encryption_enabled=False, max_timeouts=1, max_limit_exceeded=1)
    return nio.AsyncClient(url, f"@{name}:{server_name}", config=configuration)


def text(body: str) -> dict:
    return {"msgtype": "m.text", "body": body}


class Story:
    def __init__(self) -> None:
        self.alice = client_of(names["alice"])
        self.bob = client_of(names["bob"])
        self.room = ""
        self.hello = ""
        # Events that bob heard in syncs, by event ID.
        self.heard: dict[str, nio.Event] = {}
        self.invited: dict[str, nio.InviteEvent] = {}
        self.receipts: list[nio.Receipt] = []
        self.syncing: list[asyncio.Task] = []

    async def send(self, client: nio.AsyncClient, content: dict, kind: str = "m.room.message") -> str:
        return must(await client.room_send(self.room, kind, content)).event_id

    async def register(self) -> None:
        for name, client in (("alice", self.alice), ("bob", self.bob)):
            must(await client.register(names[name], password, "nio"))
            check(client.user_id == f"@{names[name]}:{server_name}", f"the user ID is {client.user_id}")
        check(must(await self.alice.whoami()).user_id == self.alice.user_id, "whoami says somebody else")

    async def login(self) -> None:
        check("m.login.password" in must(await self.alice.login_info()).flows, "there is no login by password")
        again = client_of(names["alice"])
        must(await again.login(password, "nio, second"))
        check(again.device_id != self.alice.device_id, "the second device has the ID of the first")
        await again.close()

    async def sync(self) -> None:
        async def on_event(room: nio.MatrixRoom, event: nio.Event) -> None:
            self.heard[event.event_id] = event

        async def on_invite(room: nio.MatrixRoom, event: nio.InviteEvent) -> None:
            self.invited[room.room_id] = event

        async def on_receipt(room: nio.MatrixRoom, event: nio.ReceiptEvent) -> None:
            self.receipts.extend(event.receipts)

        self.bob.add_event_callback(on_event, nio.Event)
        self.bob.add_event_callback(on_invite, nio.InviteEvent)
        self.alice.add_ephemeral_callback(on_receipt, nio.ReceiptEvent)
        for client in (self.alice, self.bob):
            must(await client.sync(timeout=0, full_state=True))
            self.syncing.append(asyncio.create_task(client.sync_forever(timeout=10_000)))

    async def profile(self) -> None:
        must(await self.alice.set_displayname("Alice"))
        found = must(await self.bob.get_displayname(self.alice.user_id)).displayname
        check(found == "Alice", f"the name is {found}")

    async def create_room(self) -> None:
        created = must(await self.alice.room_create(name="Workshop", topic="tools", preset=nio.RoomPreset.private_chat))
        self.room = created.room_id
        content = must(await self.alice.room_get_state_event(self.room, "m.room.create")).content
        check(content["room_version"] == room_version, f"the room is of version {content['room_version']}")
        await until(lambda: self.room in self.alice.rooms and self.alice.rooms[self.room].name == "Workshop")

    async def invite_and_join(self) -> None:
        must(await self.alice.room_invite(self.room, self.bob.user_id))
        await until(lambda: self.room in self.invited)
        must(await self.bob.join(self.room))
        await until(lambda: self.room in self.bob.rooms)
        members = must(await self.alice.joined_members(self.room)).members
        check(len(members) == 2, f"there are {len(members)} members")

    async def send_text(self) -> None:
        self.hello = await self.send(self.alice, text("hello bob"))
        event = await until(lambda: self.heard.get(self.hello))
        check(event.body == "hello bob", f"the text is {event.body}")

    async def edit(self) -> None:
        relates = {"rel_type": "m.replace", "event_id": self.hello}
        await self.send(self.alice, {**text("* hello"), "m.new_content": text("hello"), "m.relates_to": relates})
        event = must(await self.bob.room_get_event(self.room, self.hello)).event
        replaced = event.source["unsigned"]["m.relations"]["m.replace"]
        check(replaced["content"]["m.new_content"]["body"] == "hello", "the edit is not bundled")

    async def react(self) -> None:
        relates = {"rel_type": "m.annotation", "event_id": self.hello, "key": "👍"}
        await self.send(self.bob, {"m.relates_to": relates}, "m.reaction")
        annotation = RelationshipType.annotation
        found = [event async for event in self.alice.room_get_event_relations(self.room, self.hello, annotation)]
        check(len(found) == 1 and found[0].key == "👍", f"the reactions are {found}")

    async def thread(self) -> None:
        await self.send(self.bob, {**text("in a thread"), "m.relates_to": {"rel_type": "m.thread", "event_id": self.hello}})
        roots = [event async for event in self.alice.room_get_threads(self.room)]
        check([event.event_id for event in roots] == [self.hello], f"the threads are {roots}")

    async def redact(self) -> None:
        oops = await self.send(self.alice, text("oops"))
        await until(lambda: oops in self.heard)
        must(await self.alice.room_redact(self.room, oops, "typo"))
        await until(lambda: any(isinstance(event, nio.RedactionEvent) and event.redacts == oops for event in self.heard.values()))
        event = must(await self.bob.room_get_event(self.room, oops)).event
        check(isinstance(event, nio.RedactedEvent), f"the event is {event}")

    async def receipts_and_typing(self) -> None:
        must(await self.bob.update_receipt_marker(self.room, self.hello))
        await until(lambda: any(receipt.event_id == self.hello for receipt in self.receipts))
        must(await self.bob.room_read_markers(self.room, self.hello, self.hello))
        must(await self.bob.room_typing(self.room, True))
        await until(lambda: self.bob.user_id in self.alice.rooms[self.room].typing_users)
        must(await self.bob.room_typing(self.room, False))

    async def history(self) -> None:
        for count in range(15):
            await self.send(self.alice, text(f"line {count}"))
        seen, token = [], ""
        while not any(event.event_id == self.hello for event in seen):
            page = must(await self.bob.room_messages(self.room, token, limit=5))
            check(page.chunk and page.end, "the history ends before the first message")
            seen, token = seen + page.chunk, page.end
        context = must(await self.bob.room_context(self.room, self.hello))
        check(context.event.event_id == self.hello, "the context is of another event")

    async def state(self) -> None:
        must(await self.alice.room_put_state(self.room, "m.room.topic", {"topic": "hammers"}))
        await until(lambda: self.bob.rooms[self.room].topic == "hammers")
        events = must(await self.bob.room_get_state(self.room)).events
        check(any(event["type"] == "m.room.create" for event in events), "the state has no create event")

    async def space(self) -> None:
        space = must(await self.alice.room_create(name="House", space=True)).room_id
        must(await self.alice.room_put_state(space, "m.space.child", {"via": [server_name]}, self.room))
        rooms = must(await self.alice.space_get_hierarchy(space)).rooms
        check([room["room_id"] for room in rooms] == [space, self.room], f"the space has {rooms}")

    async def directory(self) -> None:
        local = fresh("yard")
        public = {"visibility": nio.RoomVisibility.public, "preset": nio.RoomPreset.public_chat}
        created = must(await self.bob.room_create(alias=local, name=local, **public)).room_id
        found = must(await self.alice.room_resolve_alias(f"#{local}:{server_name}")).room_id
        check(found == created, f"the alias is of {found}")
        listed = must(await self.alice.list_public_rooms(filter_generic_search_term=local)).public_rooms
        check([room.room_id for room in listed] == [created], f"the directory has {listed}")
        must(await self.alice.join(created))

    async def push_rules(self) -> None:
        kind = nio.PushRuleKind.content
        must(await self.bob.set_pushrule("global", kind, "hammer", actions=[nio.PushNotify()], pattern="hammer"))
        must(await self.bob.enable_pushrule("global", kind, "hammer", False))
        must(await self.bob.set_pushrule_actions("global", kind, "hammer", [nio.PushNotify(), nio.PushSetTweak("highlight")]))
        must(await self.bob.delete_pushrule("global", kind, "hammer"))

    async def presence(self) -> None:
        must(await self.bob.set_presence("online", "hammering"))
        found = must(await self.alice.get_presence(self.bob.user_id)).status_msg
        check(found == "hammering", f"the status is {found}")

    async def moderation(self) -> None:
        must(await self.alice.room_kick(self.room, self.bob.user_id, "noise"))
        check(self.room not in must(await self.bob.joined_rooms()).rooms, "bob is still in the room")
        must(await self.alice.room_ban(self.room, self.bob.user_id))
        must(await self.alice.room_unban(self.room, self.bob.user_id))
        must(await self.alice.room_invite(self.room, self.bob.user_id))
        must(await self.bob.join(self.room))
        check(self.room in must(await self.bob.joined_rooms()).rooms, "bob is not in the room")

    async def upgrade(self) -> None:
        levels = {"users": {} if other_version == "12" else {self.alice.user_id: 100}}
        upgraded = must(await self.alice.room_upgrade(self.room, other_version, room_power_level_overwrite=levels))
        tombstone = must(await self.bob.room_get_state_event(self.room, "m.room.tombstone")).content
        check(tombstone["replacement_room"] == upgraded.room_id, f"the tombstone is {tombstone}")

    async def devices(self) -> None:
        devices = must(await self.alice.devices()).devices
        check(len(devices) == 2, f"there are {len(devices)} devices")
        second = next(device.id for device in devices if device.id != self.alice.device_id)
        must(await self.alice.update_device(second, {"display_name": "renamed"}))
        asked = await self.alice.delete_devices([second])
        check(isinstance(asked, nio.DeleteDevicesAuthResponse), f"the answer is {asked}")
        identifier = {"type": "m.id.user", "user": self.alice.user_id}
        auth = {"type": "m.login.password", "identifier": identifier, "password": password, "session": asked.session}
        must(await self.alice.delete_devices([second], auth))
        check(len(must(await self.alice.devices()).devices) == 1, "the device is still there")

    async def leave_and_forget(self) -> None:
        must(await self.bob.room_leave(self.room))
        must(await self.bob.room_forget(self.room))
        check(self.room not in must(await self.bob.joined_rooms()).rooms, "bob is still in the room")

    async def logout(self) -> None:
        for task in self.syncing:
            task.cancel()
        token = self.bob.access_token
        must(await self.bob.logout())
        self.bob.access_token = token
        refused = await self.bob.whoami()
        check(refused.status_code == "M_UNKNOWN_TOKEN", f"the answer is {refused}")


async def main() -> None:
    story = Story()
    steps = {
        "register": story.register,
        "login": story.login,
        "sync": story.sync,
        "profile": story.profile,
        "create room": story.create_room,
        "invite and join": story.invite_and_join,
        "send": story.send_text,
        "edit": story.edit,
        "react": story.react,
        "thread": story.thread,
        "redact": story.redact,
        "receipts and typing": story.receipts_and_typing,
        "history": story.history,
        "state": story.state,
        "space": story.space,
        "directory": story.directory,
        "push rules": story.push_rules,
        "presence": story.presence,
        "moderation": story.moderation,
        "upgrade": story.upgrade,
        "devices": story.devices,
        "leave and forget": story.leave_and_forget,
        "logout": story.logout,
    }
    for name, run in steps.items():
        await step(name, run)
    for client in (story.alice, story.bob):
        await client.close()


asyncio.run(main())
