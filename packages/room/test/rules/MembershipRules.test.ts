/** The rules about memberships that changed between the room versions 1 to 12. */
import { assert, describe, it } from "@effect/vitest"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { senderMustBeJoined } from "@greenroom/room/OutsiderRules"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { alice, bob, carol, dave, ids, LinearRoom, makeRoom, mustBeInvited, since } from "../support/LinearRoom.ts"
import { keyOf, serverOf } from "../support/TestRoom.ts"

describe("The first join", () => {
  it("only the creator may join right after m.room.create", () => {
    for (const id of ids) {
      const { create, state, version } = new LinearRoom(id)
      const position = {
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
          position,
          keyOf(serverOf(user))
        )
      assert.isUndefined(version.authorise(joinOf(alice), position.state))
      assert.include(version.authorise(joinOf(bob), position.state)?.rule, mustBeInvited)
      const later = { ...joinOf(alice), prev_events: [create.event_id, "$other" as EventId] }
      assert.include(version.authorise(later, position.state)?.rule, mustBeInvited)
      const elsewhere = { ...joinOf(alice), prev_events: ["$other" as EventId] }
      assert.include(version.authorise(elsewhere, position.state)?.rule, mustBeInvited)
    }
  })
})

describe("Bans", () => {
  it("bans are lifted by users with the power level `ban`; the level `kick` is not enough", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      room.allows(room.levels(alice, { [bob]: 50 }, { ban: 75, kick: 50 }))
      room.allows(room.member(alice, carol, "ban"))
      room.refuses(room.member(bob, carol, "leave"), "Lifting a ban requires the power level `ban`")
      room.refuses(room.member(carol, carol, "leave"), "Users leave rooms")
      room.allows(room.levels(alice, { [bob]: 75 }, { ban: 75, kick: 50 })).allows(room.member(bob, carol, "leave"))
    }
  })

  it("banned users cannot join, whatever the join rule", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(alice, carol, "ban"))
      room.refuses(room.member(carol, carol, "join"), "Banned users cannot join")
    }
  })
})

describe("Form of a membership", () => {
  it("m.room.member names a user and a membership", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      for (const key of ["", "carol", "@carol"]) {
        room.refuses(room.member(alice, key as UserId, "invite"), "The state key of m.room.member is a user ID")
      }
      const { state_key: _, ...without } = room.member(alice, carol, "invite")
      room.refuses(without, "The state key of m.room.member is a user ID")
      for (const membership of [null, "", "Join", "visit"]) {
        room.refuses(room.member(carol, carol, membership), "A membership is one of those that the room version knows")
      }
    }
  })
})

describe("Invites", () => {
  it("every member invites users where m.room.power_levels does not name `invite`", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(carol, carol, "join"))
      room.allows(room.member(carol, dave, "invite"))
    }
  })

  it("members with the power level `invite` invite users, who accept or reject", () => {
    for (const id of ids) {
      const room = makeRoom(id).joinRule("invite")
      room.refuses(room.member(carol, dave, "invite"), senderMustBeJoined)
      room.refuses(room.member(carol, carol, "leave"), "Users leave rooms")
      room.allows(room.levels(alice, { [bob]: 50 }, { invite: 51 }))
      room.refuses(room.member(bob, carol, "invite"), "Inviting requires the power level `invite`")
      room.allows(room.levels(alice, { [bob]: 50 }, { invite: 50 })).allows(room.member(bob, carol, "invite"))
      room.allows(room.member(carol, carol, "leave")).refuses(room.member(carol, carol, "join"), mustBeInvited)
      room.allows(room.member(bob, carol, "invite")).allows(room.member(carol, carol, "join"))
    }
  })
})

describe("Removals and bans", () => {
  it("users are removed and banned by members with a higher power level than theirs", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(carol, carol, "join"))
      room.allows(room.levels(alice, { [bob]: 50, [carol]: 50, [dave]: 60 }))
      for (const membership of ["leave", "ban"]) {
        room.refuses(room.member(dave, carol, membership), senderMustBeJoined)
        for (const target of [alice, carol]) {
          room.refuses(room.member(bob, target, membership), "only those with a lower power level")
        }
      }
      room.allows(room.levels(alice, { [bob]: 50, [carol]: 49 })).allows(room.member(bob, carol, "ban"))
    }
  })
})

describe("Join rules", () => {
  it("users join for themselves only", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(bob, carol, "invite"))
      room.refuses(room.member(bob, carol, "join"), "Users join for themselves only")
    }
  })

  it("invited users join where users can knock, from version 7; the join rule has no meaning before", () => {
    for (const id of ids) {
      const room = makeRoom(id)
        .joinRule("knock")
        .allows(makeRoom(id).member(alice, carol, "invite"))
      const join = room.member(carol, carol, "join")
      if (Number(id) < 7) room.refuses(join, mustBeInvited)
      else room.allows(join)
    }
  })

  it("an absent join rule is invite, and one of null admits nobody", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(makeRoom(id).member(alice, carol, "invite"))
      const joinRules = (content: JsonObject) => ({ type: "m.room.join_rules", sender: alice, state_key: "", content })
      room.allows(joinRules({ join_rule: null })).refuses(room.member(carol, carol, "join"), mustBeInvited)
      room.allows(joinRules({})).allows(room.member(carol, carol, "join"))
    }
  })
})

describe("Knocking", () => {
  it("users can knock at rooms with the join rule knock, from version 7", () => {
    for (const id of ids) {
      const room = makeRoom(id).joinRule("knock")
      const knock = room.member(carol, carol, "knock")
      if (Number(id) < 7) room.refuses(knock, "A membership is one of those that the room version knows")
      else room.allows(knock).refuses(room.member(carol, carol, "join"), mustBeInvited)
    }
  })

  it("the refusal to invite a joined user has the words by which bridges recognise it", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      room.refuses(room.member(alice, bob, "invite"), "The invited user is already in the room")
      room.allows(room.member(alice, bob, "ban"))
      room.refuses(room.member(alice, bob, "invite"), "Banned users cannot be invited")
    }
  })

  it("knocking is refused under another join rule, for other users, and for users who are in the room, invited or banned", () => {
    for (const id of since(7)) {
      const room = makeRoom(id)
      room.refuses(room.member(carol, carol, "knock"), "Users knock at rooms whose join rule allows it")
      room.joinRule("knock")
      room.refuses(room.member(bob, carol, "knock"), "Users knock for themselves only")
      room.refuses(room.member(bob, bob, "knock"), "Users who are in the room, invited or banned cannot knock")
      room.allows(room.member(alice, carol, "invite"))
      room.refuses(room.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
      room.allows(room.member(alice, carol, "ban"))
      room.refuses(room.member(carol, carol, "knock"), "Users who are in the room, invited or banned cannot knock")
    }
  })

  it("knocks can be retracted and denied", () => {
    for (const id of since(7)) {
      const room = makeRoom(id).joinRule("knock")
      room.allows(room.member(carol, carol, "knock")).allows(room.member(carol, carol, "leave"))
      room.allows(room.member(carol, carol, "knock")).allows(room.member(bob, carol, "leave"))
    }
  })
})

describe("Restricted rooms (MSC3083)", () => {
  const join = (room: LinearRoom, authorisingUser: Json) =>
    room.member(carol, carol, "join", { join_authorised_via_users_server: authorisingUser })

  it("a join that names an authorising member with the power level `invite` is allowed, from version 8", () => {
    for (const id of ids) {
      const room = makeRoom(id).joinRule("restricted")
      if (Number(id) < 8) room.refuses(join(room, bob), mustBeInvited)
      else room.refuses(room.member(carol, carol, "join"), mustBeInvited).allows(join(room, bob))
    }
  })

  it("restricted joins authorised by strangers, or by users who may not invite, are refused", () => {
    for (const id of since(8)) {
      const room = makeRoom(id).joinRule("restricted")
      room.refuses(join(room, dave), mustBeInvited)
      room.allows(room.levels(alice, { [bob]: 50 }, { invite: 51 }))
      room.refuses(join(room, bob), mustBeInvited)
      room.allows(join(room, alice))
      room.allows(room.levels(alice, { [bob]: 50 }, { invite: 50 })).allows(room.member(carol, carol, "leave"))
      room.allows(join(room, bob))
    }
  })

  it("invited and joined users need no authorising user", () => {
    for (const id of since(8)) {
      const room = makeRoom(id).joinRule("restricted")
      room.allows(room.member(bob, bob, "join", { displayname: "Bob" }))
      room.allows(room.member(bob, carol, "invite")).allows(room.member(carol, carol, "join"))
    }
  })

  it("the membership of the authorising user is an auth event of the join", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      const proposal = { ...join(room, bob), room_id: room.create.room_id }
      const keys = room.version.authEventKeys(proposal).map(([type, stateKey]) => stateKeyOf(type, stateKey))
      assert.strictEqual(keys.includes(stateKeyOf("m.room.member", bob)), Number(id) >= 8)
      const leave = { ...proposal, content: { ...proposal.content, membership: "leave" } }
      assert.notInclude(room.version.authEventKeys(leave).flat(), bob)
    }
  })
})

describe("Knocking at restricted rooms (MSC3787)", () => {
  it("the join rule knock_restricted allows knocks and restricted joins, from version 10", () => {
    for (const id of since(8)) {
      const room = makeRoom(id).joinRule("knock_restricted")
      const join = room.member(carol, carol, "join", { join_authorised_via_users_server: bob })
      const knock = room.member(carol, carol, "knock")
      if (Number(id) < 10) room.refuses(join, mustBeInvited).refuses(knock, "Users knock at rooms")
      else room.allows(knock).allows(join)
    }
  })
})
