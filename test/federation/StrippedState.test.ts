/**
 * The state that a hostile server shows of its rooms to users outside them: `invite_room_state` and `knock_room_state`.
 *
 * Source: "Inviting to a room" and "Knocking upon a room" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Effect, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import type { HostileServer } from "./support/HostileServer.ts"
import { expectOk, type HomeServer } from "./support/Network.ts"
import { Servers } from "./support/TodaysHostility.ts"

vi.setConfig({ testTimeout: 120_000 })

const host = "@host:evil.test" as UserId

/** A room of the hostile server with a name. */
const hostileRoom = (evil: HostileServer, versionId: string) => {
  const version = roomVersion(versionId)!
  const proposal = { type: "m.room.create", state_key: "", sender: host, content: { made: Math.random().toString() } }
  const create = Result.getOrThrow(version.createRoom(proposal, evil.key, Date.now()))
  evil.useVersion(create.room_id, versionId)
  const state = new Map([[stateKeyOf("m.room.create", ""), create]])
  const room = { roomId: create.room_id, version, state, extremities: [create] }
  const stateEvent = (type: string, content: Body, sender: string = host) =>
    evil.event(room, { type, state_key: "", sender, content })
  const name = stateEvent("m.room.name", { name: "A fine room" })
  return { ...room, create, name, stateEvent, pdu: (event: Event): Body => evil.toPdu(event) }
}

type Room = ReturnType<typeof hostileRoom>

/** State events of the room with faults, as PDUs. */
const faultyStates = (evil: HostileServer, room: Room, red: HomeServer): { readonly [fault: string]: unknown } => {
  const { create, name, pdu, stateEvent } = room
  const otherRoom = hostileRoom(evil, room.version.id)
  const ofRed = stateEvent("m.room.topic", { topic: "a topic" }, `@alice:${red.serverName}`)
  const { signatures } = ofRed
  const { content, sender, state_key, type } = pdu(name)
  return {
    "another event's signature": { ...pdu(name), signatures: pdu(create).signatures },
    "no signature": { ...pdu(name), signatures: {} },
    "a forged signature of another server": {
      ...pdu(ofRed),
      signatures: { [red.serverName]: signatures[evil.serverName] }
    },
    "the state of another room": otherRoom.pdu(otherRoom.name),
    "a message": pdu(evil.event(room, { sender: host })),
    "no PDU": { content, sender, state_key: `${state_key}x`, type },
    "no object": "text"
  }
}

const invite = (evil: HostileServer, server: HomeServer, guest: Person, room: Room, invite_room_state?: unknown) => {
  const membership = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" } }
  const event = evil.event(room, { ...membership, sender: host })
  const path = `/v2/invite/${encodeURIComponent(room.roomId)}/${encodeURIComponent(event.event_id)}`
  const body = { event: evil.toPdu(event), room_version: room.version.id, invite_room_state }
  return evil.ask(server, "PUT", path, JSON.parse(JSON.stringify(body)))
}

/** Asserts that an invite was countersigned. */
const accepted = (answer: ReturnType<typeof invite>) =>
  Effect.map(answer, ({ body, status }) => assert.strictEqual(status, 200, JSON.stringify(body)))

/** The stripped state that the user has of a room, as type and content; undefined if there is no such room. */
const shownTo = (person: Person, membership: "invite" | "knock", roomId: string) =>
  Effect.map(expectOk(person.ask("GET", "//_matrix/client/v3/sync?timeout=0")), (answer) => {
    const events: ReadonlyArray<Body> | undefined =
      answer.rooms?.[membership]?.[roomId]?.[`${membership}_state`]?.events
    return events
      ?.filter(({ type }) => type !== "m.room.member")
      .map(({ content, type }) => [type, content.name ?? content.topic])
  })

const wholeState = [
  ["m.room.create", undefined],
  ["m.room.name", "A fine room"]
]

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("State shown to users outside", (it) => {
  it.effect("version 12: an invite with a faulty invite_room_state is refused, and the user is not invited", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red, blue] = servers as [HomeServer, HomeServer]
      const guest = yield* blue.register("guest12")
      const room = hostileRoom(evil, "12")
      const { create, name, pdu } = room
      const faulty: { readonly [fault: string]: unknown } = {
        "no invite_room_state": undefined,
        "no list": pdu(create),
        "no m.room.create": [pdu(name)],
        "a changed m.room.create": [{ ...pdu(create), content: { ...create.content, made: "up" } }, pdu(name)],
        "a changed time": [{ ...pdu(create), origin_server_ts: 5 }, pdu(name)],
        "the m.room.create of another room": [evil.toPdu(hostileRoom(evil, "12").create), pdu(name)]
      }
      const ofEvents = Object.entries(faultyStates(evil, room, red)).map(
        ([fault, event]) => [fault, [pdu(create), pdu(name), event]] as const
      )
      for (const [fault, shown] of [...Object.entries(faulty), ...ofEvents]) {
        const { body, status } = yield* invite(evil, blue, guest, room, shown)
        assert.deepStrictEqual([fault, status, body.errcode], [fault, 400, "M_INVALID_PARAM"])
      }
      assert.isUndefined(yield* shownTo(guest, "invite", room.roomId))
      yield* accepted(invite(evil, blue, guest, room, [pdu(create), pdu(name)]))
      assert.deepStrictEqual(yield* shownTo(guest, "invite", room.roomId), wholeState)
    })
  )

  it.effect("version 12: a PDU with a wrong hash is shown redacted", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [, blue] = servers as [HomeServer, HomeServer]
      const guest = yield* blue.register("redacted12")
      const room = hostileRoom(evil, "12")
      const changed = { ...room.pdu(room.name), content: { name: "Another room" } }
      yield* accepted(invite(evil, blue, guest, room, [room.pdu(room.create), changed]))
      const shown = yield* shownTo(guest, "invite", room.roomId)
      assert.deepStrictEqual(shown, [
        ["m.room.create", undefined],
        ["m.room.name", undefined]
      ])
    })
  )

  it.effect(
    "version 11: an invite is accepted without the faulty events, and with stripped ones of older servers",
    () =>
      Effect.gen(function* () {
        const { evil, servers } = yield* Servers
        const [red, blue] = servers as [HomeServer, HomeServer]
        const room = hostileRoom(evil, "11")
        const { create, name, pdu } = room
        const { "no PDU": strippedState, ...faulty } = faultyStates(evil, room, red)
        const invited = yield* blue.register("guest11")
        yield* accepted(invite(evil, blue, invited, room, [pdu(create), pdu(name), ...Object.values(faulty)]))
        assert.deepStrictEqual(yield* shownTo(invited, "invite", room.roomId), wholeState)
        const another = yield* blue.register("stripped11")
        yield* accepted(invite(evil, blue, another, room, [strippedState]))
        assert.deepStrictEqual(yield* shownTo(another, "invite", room.roomId), wholeState.slice(1))
      })
  )

  for (const versionId of ["11", "12"]) {
    it.effect(`version ${versionId}: a user who knocks is not shown faulty events`, () =>
      Effect.gen(function* () {
        const { evil, servers } = yield* Servers
        const [red] = servers as [HomeServer, HomeServer]
        const guest = yield* red.register(`knocking${versionId}`)
        const room = hostileRoom(evil, versionId)
        const { create, name, pdu } = room
        const { "no PDU": _, ...faulty } = faultyStates(evil, room, red)
        evil.respond = ({ path }) => {
          if (path.startsWith("/v1/send_knock/")) {
            return { status: 200, body: { knock_room_state: [...Object.values(faulty), pdu(create), pdu(name)] } }
          }
          const content = { membership: "knock" }
          const knock = evil.event(room, {
            type: "m.room.member",
            sender: guest.userId,
            state_key: guest.userId,
            content
          })
          const { hashes: _hashes, signatures: _signatures, ...event } = pdu(knock)
          return { status: 200, body: { room_version: versionId, event } }
        }
        const path = `//_matrix/client/v3/knock/${encodeURIComponent(room.roomId)}?via=${evil.serverName}`
        yield* expectOk(guest.ask("POST", path, {}))
        assert.deepStrictEqual(yield* shownTo(guest, "knock", room.roomId), wholeState)
      })
    )
  }
})
