"""
mautrix-python, the base of bridges and of maubot: two users with its client and its typed events. Endpoints without a method in
the library are called by its request builder, as bridges do.
"""

import asyncio
import logging

from mautrix.api import HTTPAPI, Method, Path
from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore, MemorySyncStore
from mautrix.errors import MUnknownToken
from mautrix.types import (
    EventType,
    Filter,
    Membership,
    MessageType,
    PaginationDirection,
    PowerLevelStateEventContent,
    PresenceState,
    PushActionType,
    PushRuleKind,
    PushRuleScope,
    RoomDirectoryVisibility,
    RoomCreatePreset,
    RoomFilter,
    RoomEventFilter,
    RoomTagInfo,
    TextMessageEventContent,
)
from steps import check, fresh, other_version, password, room_version, server_name, step, until, url

logging.disable(logging.CRITICAL)

names = {"alice": fresh("alice"), "bob": fresh("bob")}


def client_of(name: str) -> Client:
    return Client(
        mxid=f"@{name}:{server_name}",
        api=HTTPAPI(url),
        sync_store=MemorySyncStore(),
        state_store=MemoryStateStore(),
    )


def text(body: str) -> TextMessageEventContent:
    return TextMessageEventContent(msgtype=MessageType.TEXT, body=body)


class Story:
    def __init__(self) -> None:
        self.alice = client_of(names["alice"])
        self.bob = client_of(names["bob"])
        self.others: list[Client] = []
        self.room = ""
        self.hello = ""
        # Events that bob heard in syncs, by event ID, and their kinds.
        self.heard: dict = {}
        self.kinds: set = set()

    async def register(self) -> None:
        for name, client in (("alice", self.alice), ("bob", self.bob)):
            account = {"username": names[name], "password": password, "auth": {"type": "m.login.dummy"}}
            found = await client.api.request(Method.POST, Path.v3.register, account)
            check(found["user_id"] == client.mxid, f"the user ID is {found['user_id']}")
            client.api.token, client.device_id = found["access_token"], found["device_id"]
        check((await self.alice.whoami()).user_id == self.alice.mxid, "whoami says somebody else")

    async def login(self) -> None:
        flows = await self.alice.get_login_flows()
        check(any(str(flow.type) == "m.login.password" for flow in flows.flows), f"the flows are {flows}")
        again = client_of(names["alice"])
        self.others.append(again)
        await again.login(identifier=names["alice"], password=password, device_name="second")
        check(again.device_id != self.alice.device_id, "the second device has the ID of the first")

    async def versions(self) -> None:
        found = await self.alice.versions()
        check(found.supports_at_least(next(version for version in found.versions if str(version) == "v1.4")), "no v1.4")

    async def sync(self) -> None:
        async def on_event(event) -> None:
            self.kinds.add(str(event.type))
            if getattr(event, "event_id", None) is not None:
                self.heard[event.event_id] = event

        self.bob.add_event_handler(EventType.ALL, on_event)
        timeline = RoomFilter(timeline=RoomEventFilter(limit=50))
        self.bob.start(await self.bob.create_filter(Filter(room=timeline)))
        self.alice.start(None)

    async def profile(self) -> None:
        await self.alice.set_displayname("Alice")
        found = await self.bob.get_profile(self.alice.mxid)
        check(found.displayname == "Alice", f"the profile is {found}")

    async def create_room(self) -> None:
        self.room = await self.alice.create_room(name="Bridge", topic="to elsewhere")
        created = await self.alice.get_state_event(self.room, EventType.ROOM_CREATE)
        check(created["room_version"] == room_version, f"the room is of version {created['room_version']}")

    async def invite_and_join(self) -> None:
        await self.alice.invite_user(self.room, self.bob.mxid, reason="come")
        await until(lambda: "m.room.member" in self.kinds)
        await self.bob.join_room(self.room)
        check(len(await self.alice.get_joined_members(self.room)) == 2, "there are not two members")

    async def send(self) -> None:
        self.hello = await self.alice.send_text(self.room, "hello bob", html="<b>hello</b> bob")
        event = await until(lambda: self.heard.get(self.hello))
        check(event.content.formatted_body == "<b>hello</b> bob", f"the text is {event.content}")

    async def edit(self) -> None:
        content = text("hello")
        content.set_edit(self.hello)
        edited = await self.alice.send_message(self.room, content)
        event = await until(lambda: self.heard.get(edited))
        check(event.content.get_edit() == self.hello, f"the edit is of {event.content}")

    async def react(self) -> None:
        reaction = await self.bob.react(self.room, self.hello, "👍")
        endpoint = Path.v1.rooms[self.room].relations[self.hello]["m.annotation"]
        found = await self.alice.api.request(Method.GET, endpoint)
        check([event["event_id"] for event in found["chunk"]] == [reaction], f"the reactions are {found}")

    async def thread(self) -> None:
        content = text("in a thread")
        content.set_thread_parent(self.hello)
        await self.bob.send_message(self.room, content)
        found = await self.alice.api.request(Method.GET, Path.v1.rooms[self.room].threads)
        check([event["event_id"] for event in found["chunk"]] == [self.hello], f"the threads are {found}")

    async def redact(self) -> None:
        oops = await self.alice.send_notice(self.room, "oops")
        redaction = await self.alice.redact(self.room, oops, reason="typo")
        event = await until(lambda: self.heard.get(redaction))
        check(event.redacts == oops, f"the redaction is of {event.redacts}")
        check((await self.bob.get_event(self.room, oops)).content.serialize() == {}, "the text is still there")

    async def receipts_and_typing(self) -> None:
        await self.alice.send_receipt(self.room, self.hello)
        await self.alice.set_typing(self.room, timeout=5000)
        await until(lambda: {"m.receipt", "m.typing"} <= self.kinds)
        await self.alice.set_typing(self.room)
        await self.alice.set_fully_read_marker(self.room, self.hello, self.hello)

    async def history(self) -> None:
        seen, token = [], None
        while self.hello not in [event.event_id for event in seen]:
            page = await self.bob.get_messages(self.room, PaginationDirection.BACKWARD, from_token=token, limit=5)
            check(page.events and page.end, "the history ends before the first message")
            seen, token = seen + page.events, page.end
        context = await self.bob.get_event_context(self.room, self.hello, limit=4)
        check(context.event.event_id == self.hello, "the context is of another event")

    async def state(self) -> None:
        levels = await self.alice.get_state_event(self.room, EventType.ROOM_POWER_LEVELS)
        check(isinstance(levels, PowerLevelStateEventContent), f"the levels are {levels}")
        levels.set_user_level(self.bob.mxid, 50)
        changed = await self.alice.send_state_event(self.room, EventType.ROOM_POWER_LEVELS, levels)
        await until(lambda: self.heard.get(changed))
        await self.bob.send_state_event(self.room, EventType.ROOM_TOPIC, {"topic": "set by bob"})
        state = await self.alice.get_state(self.room)
        check(any(event.type == EventType.ROOM_CREATE for event in state), "the state has no create event")

    async def space(self) -> None:
        space = await self.alice.create_room(name="Bridges", creation_content={"type": "m.space"})
        await self.alice.send_state_event(space, EventType.SPACE_CHILD, {"via": [server_name]}, state_key=self.room)
        found = await self.alice.api.request(Method.GET, Path.v1.rooms[space].hierarchy)
        check([room["room_id"] for room in found["rooms"]] == [space, self.room], f"the space has {found}")

    async def directory(self) -> None:
        local = fresh("portal")
        public = {"visibility": RoomDirectoryVisibility.PUBLIC, "preset": RoomCreatePreset.PUBLIC}
        created = await self.bob.create_room(local, name=local, **public)
        found = await self.alice.resolve_room_alias(f"#{local}:{server_name}")
        check(found.room_id == created, f"the alias is of {found}")
        await self.bob.add_room_alias(created, f"{local}-too")
        await self.bob.remove_room_alias(f"{local}-too")
        listed = await self.alice.get_room_directory(search_query=local)
        check([room.room_id for room in listed.chunk] == [created], f"the directory has {listed}")
        await self.alice.join_room(f"#{local}:{server_name}")
        users = await self.alice.search_users(names["bob"])
        check([user.user_id for user in users.results] == [self.bob.mxid], f"the user directory has {users}")

    async def push_rules(self) -> None:
        where = (PushRuleScope.GLOBAL, PushRuleKind.CONTENT, "bridge")
        await self.bob.set_push_rule(*where, actions=[PushActionType.NOTIFY], pattern="bridge")
        rule = await self.bob.get_push_rule(*where)
        check(rule.pattern == "bridge" and rule.enabled, f"the rule is {rule}")
        await self.bob.remove_push_rule(*where)

    async def tags_and_account_data(self) -> None:
        await self.bob.set_account_data("org.example.bridge", {"connected": True})
        found = await self.bob.get_account_data("org.example.bridge")
        check(found == {"connected": True}, f"the account data is {found}")
        await self.bob.set_room_tag(self.room, "m.favourite", RoomTagInfo(order=0.25))
        found = await self.bob.get_room_tag(self.room, "m.favourite")
        check(found is not None and float(found.order) == 0.25, f"the tag is {found}")
        await self.bob.remove_room_tag(self.room, "m.favourite")

    async def presence(self) -> None:
        await self.bob.set_presence(PresenceState.ONLINE, "bridging")
        found = await self.alice.get_presence(self.bob.mxid)
        check(found.presence == PresenceState.ONLINE, f"the presence is {found}")

    async def moderation(self) -> None:
        await self.alice.kick_user(self.room, self.bob.mxid, reason="restart")
        await self.alice.ban_user(self.room, self.bob.mxid)
        await self.alice.unban_user(self.room, self.bob.mxid)
        await self.alice.invite_user(self.room, self.bob.mxid)
        await self.bob.join_room_by_id(self.room)
        member = await self.alice.get_state_event(self.room, EventType.ROOM_MEMBER, self.bob.mxid)
        check(member.membership == Membership.JOIN, f"bob is {member}")

    async def upgrade(self) -> None:
        answer = await self.alice.api.request(
            Method.POST, Path.v3.rooms[self.room].upgrade, {"new_version": other_version}
        )
        tombstone = await self.bob.get_state_event(self.room, EventType.ROOM_TOMBSTONE)
        check(tombstone.replacement_room == answer["replacement_room"], f"the tombstone is {tombstone}")

    async def devices(self) -> None:
        devices = (await self.alice.api.request(Method.GET, Path.v3.devices))["devices"]
        check(len(devices) == 2, f"there are {len(devices)} devices")

    async def leave_and_forget(self) -> None:
        await self.bob.leave_room(self.room)
        await self.bob.forget_room(self.room)
        check(self.room not in await self.bob.get_joined_rooms(), "bob is still in the room")

    async def logout(self) -> None:
        self.alice.stop()
        self.bob.stop()
        await self.bob.logout(clear_access_token=False)
        try:
            await self.bob.whoami()
        except MUnknownToken:
            return
        raise AssertionError("the token still works")


async def main() -> None:
    story = Story()
    steps = {
        "register": story.register,
        "login": story.login,
        "versions": story.versions,
        "sync": story.sync,
        "profile": story.profile,
        "create room": story.create_room,
        "invite and join": story.invite_and_join,
        "send": story.send,
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
        "tags and account data": story.tags_and_account_data,
        "presence": story.presence,
        "moderation": story.moderation,
        "upgrade": story.upgrade,
        "devices": story.devices,
        "leave and forget": story.leave_and_forget,
        "logout": story.logout,
    }
    for name, run in steps.items():
        await step(name, run)
    for client in (story.alice, story.bob, *story.others):
        await client.api.session.close()


asyncio.run(main())
