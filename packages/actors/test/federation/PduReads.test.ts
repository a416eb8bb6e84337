/**
 * Pages of history for other servers are bounded, however much they ask for and however many hidden events there are.
 *
 * Source: "Backfilling and retrieving missing events" of the server-server specification.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { CurrentAllowance } from "@greenroom/store/LargeReads"
import { Effect, Result } from "effect"
import { ServerServer } from "../../src/federation/ServerServer.ts"
import { mallory, remoteMembers } from "../room/RemoteMembers.ts"
import { layer as homeServer } from "../TestHomeServer.ts"

const red = ServerName.make("red.test")
const version = roomVersion("11")!

/** A room with a message of another server, and redactions of it that strip nothing: clients do not receive these. */
const roomWithRedactions = Effect.gen(function* () {
  const { make, message, receive, receiveAll, room_id, say } = yield* remoteMembers("11")
  const servers = yield* ServerServer
  yield* receive(message)
  const idle = (follows: Event, reason: string) =>
    make({ type: "m.room.redaction", sender: mallory, redacts: message.event_id, content: { reason } }, [follows])
  const backfill = (from: Event, limit: number) =>
    Effect.map(servers.backfill(red, room_id, [from.event_id], limit), (pdus) =>
      pdus.map((pdu) => Result.getOrThrow(version.fromPdu(pdu)).event_id)
    )
  return { backfill, idle, message, receiveAll, say }
})

layer(homeServer, { excludeTestServices: true })("history for other servers", (it) => {
  it.effect("a page has 100 events beside those that were named, hidden ones among them", () =>
    Effect.gen(function* () {
      const { backfill, idle, message, receiveAll, say } = yield* roomWithRedactions
      const said: Array<Event> = []
      for (let count = 0; count < 105; count++) said.push(yield* say)
      const redaction = idle(said.at(-1)!, "none")
      yield* receiveAll([redaction])
      const last = yield* say
      const page = yield* backfill(last, 1_000)
      assert.strictEqual(page.length, 101)
      assert.deepStrictEqual(page.slice(0, 3), [last.event_id, redaction.event_id, said.at(-1)!.event_id])
      assert.notInclude(page, message.event_id)
    })
  )

  it.effect("five hidden events in a row are given with the one that follows them", () =>
    Effect.gen(function* () {
      const { backfill, idle, message, receiveAll, say } = yield* roomWithRedactions
      const hidden = [message]
      for (let count = 0; count < 7; count++) hidden.push(idle(hidden.at(-1)!, `${count}`))
      yield* receiveAll(hidden.slice(1))
      const last = yield* say
      const page = yield* backfill(last, 50)
      assert.deepStrictEqual(
        page.slice(0, 7),
        [last, ...hidden.toReversed().slice(0, 5), message].map(({ event_id }) => event_id)
      )
    })
  )

  it.effect("of many hidden events as many are read as the other server asks for", () =>
    Effect.gen(function* () {
      const { backfill, idle, message, receiveAll, say } = yield* roomWithRedactions
      const reason = "x".repeat(50_000)
      const hidden = Array.from({ length: 15 }, (_, index) => idle(message, `${index} ${reason}`))
      yield* receiveAll(hidden)
      const last = yield* say
      assert.lengthOf(last.prev_events, 15)
      let bytes = 0
      const take = (more: number) =>
        Effect.sync(() => {
          bytes += more
        })
      const takeNow = (more: number) => {
        bytes += more
        return true
      }
      const nothing = () => Effect.void
      const counted = { take, takeNow, expect: nothing, give: nothing }
      const page = yield* Effect.provideService(backfill(last, 3), CurrentAllowance, counted)
      assert.strictEqual(page.length, 3)
      assert.isAbove(bytes, 2 * reason.length)
      assert.isBelow(bytes, 5 * reason.length)
    })
  )
})
