/**
 * History without an end or with cycles costs a bounded number of requests and stored events, and third-party invites of a revoked token
 * are refused.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Effect, Result } from "effect"
import { exchangeMessages, ids, isHealthy, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, sees, setState } from "./support/Network.ts"
import { Servers, sceneOf } from "./support/TodaysHostility.ts"
import type { TodaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

/** How many pages of history the server requests at most for one request of a client, and how many events a page has. */
const [pages, pageSize] = [10, 100]

const about = { origin: "evil.test", origin_server_ts: 1 }

/** Sends blue an event after a gap, and has Bob read back across it. `before` returns the events before those with the given IDs. */
const readAcross = Effect.fnUntraced(function* (
  { blue, bob, evil, room: known, room_id }: TodaysScene,
  last: Event,
  before: (from: ReadonlyArray<string>) => ReadonlyArray<Event>
) {
  const state = ids([...known.state.values()])
  evil.respond = ({ path }) => {
    if (path.startsWith("/v1/state_ids/")) return { status: 200, body: { pdu_ids: state, auth_chain_ids: state } }
    if (!path.startsWith("/v1/backfill/")) return notFound
    const from = [...path.matchAll(/[?&]v=([^&]+)/g)].map(([, id]) => id!)
    return { status: 200, body: { ...about, pdus: before(from).map((event) => evil.toPdu(event)) } }
  }
  assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
  yield* sees(bob, ({ event_id }) => event_id === last.event_id)
  const earlier = evil.asked.length
  yield* expectOk(bob.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=5000`))
  const asked = evil.asked.slice(earlier)
  return {
    pages: asked.filter((path) => path.startsWith("/v1/backfill/")).length,
    states: asked.filter((path) => /^\/v1\/state(_ids)?\//.test(path)).length
  }
})

const storedOf = ({ blue, mallory }: TodaysScene) =>
  Effect.map(
    blue.select(`SELECT count(*)::int AS count FROM events WHERE sender = '${mallory}' AND status = 1`),
    ([row]) => Number((row as { readonly count: number }).count)
  )

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Endless history", (it) => {
  it.effect("history without an end is back-filled by a bounded number of pages for each request", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { blue, evil, mallory, room } = here
      const chain = new Map<string, Event>()
      let last = evil.event(room, { sender: mallory }, { prevEvents: [imaginedHash()] })
      for (let length = 0; length < 3 * pages * pageSize; length++) {
        chain.set(last.event_id, last)
        last = evil.event(room, { sender: mallory }, { prevEvents: [last] })
      }
      /** More events than requested. */
      const before = ([from]: ReadonlyArray<string>) => {
        const found: Array<Event> = []
        let event = from === last.event_id ? last : chain.get(from!)
        while (event !== undefined && found.length < 5 * pageSize) {
          event = chain.get(event.prev_events[0]!)
          if (event !== undefined) found.push(event)
        }
        return found
      }
      const asked = yield* readAcross(here, last, before)
      assert.isAtLeast(asked.pages, 1)
      assert.isAtMost(asked.pages, pages)
      // The state before the first page is that before the others too.
      assert.strictEqual(asked.states, 1)
      const stored = yield* storedOf(here)
      assert.isAtLeast(stored, pageSize)
      assert.isAtMost(stored, pages * (pageSize + 1))
      yield* exchangeMessages(here)
      yield* isHealthy(blue)
    })
  )

  it.effect("events in a cycle of predecessors are not stored", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("1")
      const { blue, evil, mallory, room } = here
      const named = (localpart: string) => `$${localpart}${here.number}:evil.test` as Event["event_id"]
      const after = (id: Event["event_id"], ...prev: ReadonlyArray<string>) =>
        evil.rename(
          evil.event(
            room,
            { sender: mallory },
            {
              prevEvents: prev.map((localpart) => ({
                event_id: named(localpart),
                depth: 3,
                referenceHash: encodeBase64(new Uint8Array(32))
              }))
            }
          ),
          id
        )
      const cycle = [after(named("one"), "two"), after(named("two"), "three"), after(named("three"), "one", "self")]
      const self = after(named("self"), "self")
      const last = after(named("last"), "one", "self")
      const asked = yield* readAcross(here, last, () => [...cycle, self, ...cycle])
      assert.isAtLeast(asked.pages, 1)
      assert.isAtMost(asked.pages, 2 * pages)
      assert.strictEqual(yield* storedOf(here), 0)
      yield* exchangeMessages(here)
      yield* isHealthy(blue)
    })
  )

  it.effect("third-party invites of a revoked token are refused, whatever their predecessors", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, blue, bob, evil, mallory, red, room: known, room_id } = here
      const key = generateSigningKey("identity.test" as never, "ed25519:0")
      const public_key = encodeBase64(exportVerifyKey(verifyKeyOf(key)))
      const token = `token${here.number}`
      const isRevocation = ({ content, room_id: of, type }: Event) =>
        type === "m.room.third_party_invite" && of === room_id && Object.keys(content).length === 0
      const content = { display_name: "m...", key_validity_url: "https://identity.test/valid", public_key }
      const offered = evil.event(known, {
        ...{ type: "m.room.third_party_invite", state_key: token, sender: mallory },
        content
      })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, offered), [undefined])
      yield* expectOk(setState(alice, room_id, "m.room.third_party_invite", {}, token))
      const revoked = yield* evil.receives(isRevocation)
      yield* sees(bob, (event) => event.event_id === revoked.event_id)
      const target = `@target${here.number}:evil.test`
      const signed = Result.getOrThrow(signJson({ mxid: target, token, sender: mallory }, key))
      const invite = (...prevEvents: ReadonlyArray<Event>) =>
        evil.event(
          known,
          {
            ...{ type: "m.room.member", state_key: target, sender: mallory },
            content: { membership: "invite", third_party_invite: { display_name: "m...", signed } }
          },
          { prevEvents, state: [offered] }
        )
      yield* leavesRoomUnchanged(here, refused(here, [invite(revoked), invite(offered), invite(offered, revoked)], /./))
    })
  )
})
