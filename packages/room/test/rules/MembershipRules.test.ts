/**
 * The rules for memberships of room versions 1 to 12: what changed from version to version.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Json } from "@greenroom/protocol/Json"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { alice, bob, carol, dave, ids, Line, mustBeInvited, room, since } from "../support/Line.ts"
import { keyOf, serverOf } from "../support/TestRoom.ts"

describe("The first join", () => {
  it("is the creator's: nobody else joins by following m.room.create", () => {
    for (const id of ids) {
      const { create, state, version } = new Line(id)
      const place = {
        prevEvents: [create],
        state: (type: string) => (type === "m.room.create" ? state(type, "") : undefined),
        now: 1
      }
      const joinOf = (user: typeof alice) =>
        version.build(
          {
            type: "m.room.member",
            sender: user,
            state_key: user,
            content: { membership: "join" },
            room_id: create.room_id
          },
          place,
          keyOf(serverOf(user))
        )
      assert.isUndefined(version.authorise(joinOf(alice), place.state))
      assert.include(version.authorise(joinOf(bob), place.state)?.rule, mustBeInvited)
    }
  })
})

describe("Bans", () => {
  it("are lifted by users with the level for bans, not by all who may kick", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.levels(alice, { [bob]: 50 }, { ban: 75, kick: 50 }))
      line.allows(line.member(alice, carol, "ban"))
      line.refuses(line.member(bob, carol, "leave"), "Lifting a ban takes the power level `ban`")
      line.refuses(line.member(carol, carol, "leave"), "Users leave rooms")
      line.allows(line.member(alice, carol, "leave"))
    }
  })
})

describe("Knocking", () => {
  it("is for rooms with the join rule knock, from version 7", () => {
    for (const id of ids) {
      const line = room(id).joinRule("knock")
      const knock = line.member(carol, carol, "knock")
      if (Number(id) < 7) line.refuses(knock, "A membership is one of those that the room version knows")
      else line.allows(knock).refuses(line.member(carol, carol, "join"), mustBeInvited)
    }
  })

  it("knocking is refused under another join rule, for other users, and for users who are in the room, invited or banned", () => {
    for (const id of since(7)) {
      const line = room(id)
      line.refuses(line.member(carol, carol, "knock"), "Users knock at rooms whose join rule allows it")
      line.joinRule("knock")
      line.refuses(line.member(bob, carol, "knock"), "Users knock for themselves only")
      line.refuses(line.member(bob, bob, "knock"), "Users who are in the room, invited or banned cannot knock")
      line.allows(line.member(alice, carol, "invite"))
      line.refuses(line.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
      line.allows(line.member(alice, carol, "ban"))
      line.refuses(line.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
    }
  })

  it("can be taken back and denied", () => {
    for (const id of since(7)) {
      const line = room(id).joinRule("knock")
      line.allows(line.member(carol, carol, "knock")).allows(line.member(carol, carol, "leave"))
      line.allows(line.member(carol, carol, "knock")).allows(line.member(bob, carol, "leave"))
    }
  })
})

describe("Restricted rooms (MSC3083)", () => {
  const join = (line: Line, voucher: Json) =>
    line.member(carol, carol, "join", { join_authorised_via_users_server: voucher })

  it("let in whom a member with the level for invites vouches for, from version 8", () => {
    for (const id of ids) {
      const line = room(id).joinRule("restricted")
      if (Number(id) < 8) line.refuses(join(line, bob), mustBeInvited)
      else line.refuses(line.member(carol, carol, "join"), mustBeInvited).allows(join(line, bob))
    }
  })

  it("restricted joins authorised by strangers, or by users who may not invite, are refused", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("restricted")
      line.refuses(join(line, dave), mustBeInvited)
      line.allows(line.levels(alice, { [bob]: 50 }, { invite: 51 }))
      line.refuses(join(line, bob), mustBeInvited)
      line.allows(join(line, alice))
    }
  })

  it("invited and joined users need no authorising user", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("restricted")
      line.allows(line.member(bob, bob, "join", { displayname: "Bob" }))
      line.allows(line.member(bob, carol, "invite")).allows(line.member(carol, carol, "join"))
    }
  })

  it("the membership of the voucher is an auth event of the join", () => {
    for (const id of ids) {
      const line = room(id)
      const proposal = { ...join(line, bob), room_id: line.create.room_id }
      const keys = line.version.authEventKeys(proposal).map(([type, stateKey]) => stateKeyOf(type, stateKey))
      assert.strictEqual(keys.includes(stateKeyOf("m.room.member", bob)), Number(id) >= 8)
    }
  })
})

describe("Knocking at restricted rooms (MSC3787)", () => {
  it("goes by the join rule knock_restricted, from version 10", () => {
    for (const id of since(8)) {
      const line = room(id).joinRule("knock_restricted")
      const join = line.member(carol, carol, "join", { join_authorised_via_users_server: bob })
      const knock = line.member(carol, carol, "knock")
      if (Number(id) < 10) line.refuses(join, mustBeInvited).refuses(knock, "Users knock at rooms")
      else line.allows(knock).allows(join)
    }
  })
})
