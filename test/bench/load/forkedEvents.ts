/**
 * A room in which a member of another server changed their membership very often, and events of that server that fork from
 * before all of it: what the home server takes to receive each of them.
 */
import { HomeServer, Rooms, type Session } from "@greenroom/actors"
import { Room } from "@greenroom/actors/room/RoomProtocol"
import type { Event } from "@greenroom/protocol/Event"
import { formatUserId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { lookupIn, type StateLookup } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { generateSigningKey } from "@greenroom/room/Signing"
import { EventStore } from "@greenroom/store/EventStore"
import { Array as Arr, Effect, Result } from "effect"
import { serveLoad } from "../LoadProcess.ts"
import { median } from "../Percentiles.ts"

export interface ForkedEventsInput {
  readonly dataDir: string
  readonly changes: number
  readonly forks: number
}

/** Processor time of the process for one event, the median, in ms. */
export interface ForkedEvents {
  /** For events that follow all that there is. */
  readonly next: number
  /** For events that fork from before the changes. */
  readonly forked: number
}

const away = ServerName.make("away.test")
const version = roomVersion("12")!
const key = generateSigningKey(away, "ed25519:1")
const [mover, watcher] = [formatUserId("mover", away), formatUserId("watcher", away)]

const owner: Session = { userId: formatUserId("owner", ServerName.make("bench.test")), tokenId: 1, deviceId: "bench" }

/** A public room with both users of the other server, and its state. */
const scene = Effect.gen(function* () {
  const { room_id } = yield* (yield* Rooms).create(owner, { visibility: "public", room_version: version.id })
  const room = (yield* Room.client)(room_id)
  let newest: Event | undefined
  let state: ReadonlyArray<Event> = []
  for (const userId of [mover, watcher]) {
    const { event: template } = yield* room.MakeMembership({ handshake: "join", userId })
    const join = Result.getOrThrow(version.complete(template, key, Date.now()))
    const taken = yield* room.SendMembership({ origin: away, handshake: "join", event: join })
    newest = join
    state = [...taken.state, join]
  }
  return { room_id, room, newest: newest!, state: lookupIn(state) }
})

const program = ({ changes, forks }: ForkedEventsInput) =>
  Effect.gen(function* () {
    const { newest, room, room_id, state } = yield* scene
    const build = (sender: typeof mover, content: JsonObject, prev: Event, at: StateLookup) =>
      version.build(
        { room_id, sender, type: "m.room.member", state_key: sender, content: { membership: "join", ...content } },
        { prevEvents: [prev], state: at, now: Date.now() },
        key
      )
    const changed: Array<Event> = []
    let last = newest
    let membership = state("m.room.member", mover)!
    for (let n = 0; n < changes; n++) {
      const before = membership
      membership = build(mover, { displayname: `name ${n}` }, last, (type, stateKey) =>
        type === "m.room.member" && stateKey === mover ? before : state(type, stateKey)
      )
      last = membership
      changed.push(membership)
    }
    for (const events of Arr.chunksOf(changed, 50)) yield* room.Receive({ origin: away, events })

    const measured = Effect.fnUntraced(function* (event: Event) {
      const before = process.cpuUsage()
      yield* room.Receive({ origin: away, events: [event] })
      const { system, user } = process.cpuUsage(before)
      const stored = (yield* (yield* EventStore).byIds([event.event_id]))[0]
      if (stored?.status !== 0) return yield* Effect.die(new Error(`an event got the status ${stored?.status}`))
      return (user + system) / 1_000
    })
    const all = (events: ReadonlyArray<Event>) => Effect.map(Effect.forEach(events, measured), median)
    const ahead: Array<Event> = []
    for (let n = 0; n < forks; n++) {
      last = version.build(
        { room_id, sender: watcher, type: "m.room.message", content: { msgtype: "m.text", body: `next ${n}` } },
        { prevEvents: [last], state, now: Date.now() },
        key
      )
      ahead.push(last)
    }
    const next = yield* all(ahead)
    const forked = yield* all(
      Array.from({ length: forks }, (_, n) => build(watcher, { displayname: `forked ${n}` }, newest, state))
    )
    return { next, forked }
  })

serveLoad((input: ForkedEventsInput): Promise<ForkedEvents> => {
  const homeServer = HomeServer.layer({
    serverName: ServerName.make("bench.test"),
    dataDir: input.dataDir,
    federation: { staticServers: { [away]: "127.0.0.1:1" } }
  })
  return Effect.runPromise(Effect.scoped(Effect.provide(program(input), homeServer)))
})
