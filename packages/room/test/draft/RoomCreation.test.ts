import { assert, describe, it } from "@effect/vitest"
import type { RoomAlias } from "@greenroom/protocol/Identifiers"
import { defaultRoomVersion, roomVersion } from "@greenroom/room/RoomVersions"
import { initialProposals, memberProposal, TestRoom, user } from "../support/TestRoom.ts"

const alice = user("alice")
const bob = user("bob")

describe("RoomCreation", () => {
  const options = {
    creator: alice,
    visibility: "private",
    roomVersion: defaultRoomVersion.id,
    name: "Greenroom",
    topic: "Waiting",
    aliases: ["#green:one.example" as RoomAlias],
    creatorProfile: { displayname: "Alice" }
  } as const

  it("a room with all options has an event for each, and the rules allow them in this order", () => {
    const room = new TestRoom()
    for (const proposal of initialProposals(options)) room.allow(proposal)
    assert.deepStrictEqual(
      room.events.map((event) => event.type),
      [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.config",
        "m.room.aliases",
        "m.room.name",
        "m.room.topic"
      ]
    )
    assert.deepStrictEqual(room.state("m.room.member", alice)?.content, { displayname: "Alice", membership: "join" })
    assert.deepStrictEqual(room.state("m.room.aliases", "one.example")?.content, { aliases: ["#green:one.example"] })
    assert.strictEqual(roomVersion(String(room.state("m.room.create", "")?.content.room_version)), defaultRoomVersion)
    assert.strictEqual(roomVersion("42"), undefined)
  })

  it("any user can join a public room, and only invited users a private one", () => {
    TestRoom.created(alice, "public").allow(memberProposal(bob, bob, "join"))
    const room = TestRoom.created(alice, "private")
    assert.include(room.refuse(memberProposal(bob, bob, "join")), "Users need an invite to join")
    room.allow(memberProposal(alice, bob, "invite"))
    room.allow(memberProposal(bob, bob, "join"))
  })

  it("options that are absent make no events", () => {
    const types = initialProposals({
      creator: alice,
      visibility: "public",
      roomVersion: "1-draft",
      aliases: []
    })
    assert.notInclude(
      types.map((eventProposal) => eventProposal.type),
      "m.room.aliases"
    )
    assert.strictEqual(types.length, 5)
  })
})
