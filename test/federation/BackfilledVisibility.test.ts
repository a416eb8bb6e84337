/**
 * History that this server has back-filled itself is given to other servers as far as they may see it: by the history visibility at
 * each event. Of the memberships at those events only that of this server's own users is known here.
 *
 * Source: "Room history visibility" of the client-server specification; "Backfilling" of the server-server one.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import { type HostileNetwork, ids } from "./support/HostileNetwork.ts"
import { HostileServer } from "./support/HostileServer.ts"
import { expectOk, freePort, getState, isMember, network, readBack, setState } from "./support/Network.ts"
import { room } from "./support/TodaysHostility.ts"
import { nothing, todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

interface WorldShape {
  readonly network: HostileNetwork
  /** A server whose user was not in the room at the time of the history. */
  readonly late: HostileServer
}

class World extends Context.Service<World, WorldShape>()("greenroom/test/BackfilledVisibility") {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function* () {
      const [evil, late] = [new HostileServer("evil.test", "today"), new HostileServer("late.test", "today")]
      const [evilPort, latePort] = [yield* freePort, yield* freePort]
      yield* evil.listen(evilPort)
      yield* late.listen(latePort)
      const others = { "evil.test": evilPort, "late.test": latePort }
      return { network: { ...(yield* network(["red.test", "blue.test"], { others })), evil }, late }
    })
  )
}

/**
 * While Bob is away Mallory speaks in open and in closed times. Bob comes back through her server, and reads back: blue has what she said
 * by back-filling, as it was said.
 */
const history = Effect.gen(function* () {
  const world = yield* World
  const { late } = world
  const here = yield* todaysScene(world.network, "11")
  const { alice, blue, bob, evil, mallory, number, red, room: known, room_id } = here
  const levels = (yield* getState(alice, room_id, "m.room.power_levels")).body
  yield* expectOk(
    setState(alice, room_id, "m.room.power_levels", { ...levels, users: { ...levels.users, [mallory]: 100 } })
  )
  const promoted = yield* evil.receives(
    ({ content, type }) => type === "m.room.power_levels" && (content.users as Body)[mallory] === 100
  )
  yield* expectOk(bob.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/leave`, {}))
  const left = yield* evil.receives((event) => event.room_id === room_id && isMember(bob.userId, "leave")(event))
  late.respond = () => nothing
  const [lateJoin] = (yield* late.join(red, room_id, `@late${number}:late.test`)).extremities as [Event]

  const past = [promoted, left]
  const says = (body: string, before: Event) =>
    evil.event(known, { sender: mallory, content: { msgtype: "m.text", body } }, { prevEvents: [before], state: past })
  const shows = (history_visibility: string, before: Event) =>
    evil.event(
      known,
      { type: "m.room.history_visibility", state_key: "", sender: mallory, content: { history_visibility } },
      { prevEvents: [before], state: past }
    )
  const open = says("open", left)
  const closed = shows("joined", open)
  const secret = says("secret", closed)
  const opened = shows("shared", secret)
  const reopened = says("reopened", opened)
  const events = [open, closed, secret, opened, reopened]
  const stateWith = (...by: ReadonlyArray<Event>) => {
    const all = [...past, ...by]
    const isReplaced = ({ state_key, type }: Event) =>
      all.some((event) => event.type === type && event.state_key === state_key)
    return [...[...known.state.values()].filter((event) => !isReplaced(event)), ...all]
  }
  const pdus = (given: ReadonlyArray<Event>) => given.map((event) => evil.toPdu(event))
  const template = evil.event(
    known,
    { type: "m.room.member", state_key: bob.userId, sender: bob.userId, content: { membership: "join" } },
    { prevEvents: [reopened], state: past }
  )
  const [state, authChain] = [stateWith(opened, lateJoin), stateWith()]
  evil.speaks(room_id, "11")
  evil.respond = ({ path }) => {
    if (path.startsWith("/v1/make_join/")) {
      return { status: 200, body: { room_version: "11", event: known.version!.toTemplate(template) } }
    }
    if (path.startsWith("/v2/send_join/")) {
      return { status: 200, body: { state: pdus(state), auth_chain: pdus(authChain) } }
    }
    if (path.startsWith("/v1/backfill/")) {
      return { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: pdus(events.toReversed()) } }
    }
    return path.startsWith("/v1/state_ids/") && path.endsWith(open.event_id)
      ? { status: 200, body: { pdu_ids: ids(authChain), auth_chain_ids: ids(authChain) } }
      : nothing
  }
  yield* expectOk(bob.ask("POST", `//_matrix/client/v3/join/${encodeURIComponent(room_id)}?via=evil.test`, {}))
  const joined = (yield* readBack(bob, room_id)).find(isMember(bob.userId, "join"))!
  const stored = yield* blue.select(
    `SELECT body::json->'content'->>'body' AS said FROM events WHERE status = 1 AND type = 'm.room.message' AND sender = '${mallory}'`
  )
  assert.sameMembers(
    stored.map(({ said }) => said),
    ["open", "secret", "reopened"]
  )

  const version = late.speaks(room_id, "11")
  /** What messages say, by their IDs; undefined of a redacted one. */
  const bodiesOf = (given: ReadonlyArray<Body>) =>
    Object.fromEntries(
      given.flatMap((pdu) => {
        const event = version.fromPdu(pdu)
        return event._tag === "Success" && event.success.type === "m.room.message"
          ? [[event.success.event_id, event.success.content.body]]
          : []
      })
    )
  const visible = { [open.event_id]: "open", [secret.event_id]: undefined, [reopened.event_id]: "reopened" }
  return { blue, evil, late, room_id, visible, secret, joined: joined.event_id as string, bodiesOf }
})

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })("Back-filled events", (it) => {
  it.effect("are given to other servers as far as those may see them, and have no state to give", () =>
    Effect.gen(function* () {
      const { blue, bodiesOf, evil, joined, late, room_id, secret, visible } = yield* history
      const ask = (server: HostileServer, path: string) => server.ask(blue, "GET", path)

      const backfill = `${room("backfill", room_id)}?v=${encodeURIComponent(joined)}&limit=100`
      assert.deepStrictEqual(bodiesOf((yield* ask(late, backfill)).body.pdus), visible)

      const missing = yield* late.ask(blue, "POST", room("get_missing_events", room_id), {
        earliest_events: [],
        latest_events: [joined],
        limit: 20,
        min_depth: 0
      })
      assert.deepStrictEqual(bodiesOf(missing.body.events), visible)

      for (const [id, body] of Object.entries(visible)) {
        const path = encodeURIComponent(id)
        assert.deepStrictEqual(bodiesOf((yield* ask(late, `/v1/event/${path}`)).body.pdus), { [id]: body })
        for (const kind of ["state", "state_ids"]) {
          const answer = yield* ask(late, `${room(kind, room_id)}?event_id=${path}`)
          assert.deepStrictEqual([answer.status, answer.body.errcode], [404, "M_NOT_FOUND"])
        }
      }

      // The server of its sender sees it.
      const own = yield* ask(evil, `/v1/event/${encodeURIComponent(secret.event_id)}`)
      assert.deepStrictEqual(bodiesOf(own.body.pdus), { [secret.event_id]: "secret" })
    })
  )
})
