import { assert, describe, it } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { checkPreset, type PresetOptions, roomSeed, type SeedEvent } from "../src/RoomPreset.ts"
import type { RoomVersion } from "../src/RoomVersion.ts"
import { defaultRoomVersion } from "../src/RoomVersions.ts"

const alice = "@alice:green.test" as UserId
const bob = "@bob:green.test" as UserId

const options = (given: Partial<PresetOptions> = {}): PresetOptions => ({
  creator: alice,
  creatorProfile: { displayname: "Alice" },
  preset: "private_chat",
  invite: [],
  ...given
})

/** As version 12: creators are above all power levels. */
const newest: RoomVersion = { ...defaultRoomVersion, id: "12", namesCreator: false, privilegesCreators: true }
const older: RoomVersion = { ...defaultRoomVersion, id: "10", namesCreator: true, privilegesCreators: false }

const find = (state: ReadonlyArray<SeedEvent>, type: string) => state.find((event) => event.type === type)?.content

describe("Room presets", () => {
  it("a preset sets the join rules; private_chat lets guests in, and public_chat does not", () => {
    const open = roomSeed(options({ preset: "public_chat" }), older).state
    assert.deepStrictEqual(find(open, "m.room.join_rules"), { join_rule: "public" })
    assert.isUndefined(find(open, "m.room.guest_access"))
    const closed = roomSeed(options(), older).state
    assert.deepStrictEqual(find(closed, "m.room.join_rules"), { join_rule: "invite" })
    assert.deepStrictEqual(find(closed, "m.room.guest_access"), { guest_access: "can_join" })
    assert.deepStrictEqual(
      closed.slice(0, 2).map(({ type }) => type),
      ["m.room.member", "m.room.power_levels"]
    )
  })

  it("the initial state replaces the preset, and name and topic replace the initial state", () => {
    const initialState = [
      { type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } },
      { type: "m.room.name", state_key: "", content: { name: "Old" } }
    ]
    const { state } = roomSeed(options({ initialState, name: "New" }), older)
    assert.deepStrictEqual(
      state.filter(({ type }) => type === "m.room.join_rules" || type === "m.room.name").map(({ content }) => content),
      [{ join_rule: "knock" }, { name: "New" }]
    )
  })

  it("the creator has power level 100, and is not named where creators are above all levels", () => {
    assert.deepStrictEqual(find(roomSeed(options(), older).state, "m.room.power_levels")?.users, { [alice]: 100 })
    const { create, state } = roomSeed(options(), newest)
    assert.deepStrictEqual(find(state, "m.room.power_levels")?.users, {})
    assert.deepStrictEqual(create, { room_version: "12" })
    assert.strictEqual(roomSeed(options(), older).create.creator, alice)
  })

  it("invited users of a trusted chat have the power level of the creator", () => {
    const trusted = options({ preset: "trusted_private_chat", invite: [bob] })
    assert.deepStrictEqual(find(roomSeed(trusted, older).state, "m.room.power_levels")?.users, {
      [alice]: 100,
      [bob]: 100
    })
    const both = roomSeed({ ...trusted, creationContent: { additional_creators: ["@carol:green.test", bob] } }, newest)
    assert.deepStrictEqual(both.create.additional_creators, ["@carol:green.test", bob])
  })

  it("only the server sets the version and the creator; malformed lists of users are refused", () => {
    const given = options({
      creationContent: { creator: bob, room_version: "1", type: "m.space", "m.federate": false }
    })
    assert.deepStrictEqual(roomSeed(given, older).create, {
      type: "m.space",
      "m.federate": false,
      room_version: "10",
      creator: alice
    })
    assert.isUndefined(checkPreset(given))
    assert.include(checkPreset(options({ creationContent: { additional_creators: "bob" } })), "additional_creators")
    assert.include(checkPreset(options({ creationContent: { "m.federate": "no" } })), "m.federate")
    assert.include(checkPreset(options({ powerLevels: { users: [] } })), "users")
  })

  it("given power levels replace those of the preset by key", () => {
    const levels = find(
      roomSeed(options({ powerLevels: { invite: 100, users: { [alice]: 60 } } }), older).state,
      "m.room.power_levels"
    )
    assert.deepInclude(levels, { invite: 100, ban: 50 })
    assert.deepStrictEqual(levels?.users, { [alice]: 60 })
  })
})
