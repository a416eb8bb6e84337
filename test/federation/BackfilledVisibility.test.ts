/**
 * A server returns events that it has back-filled itself to other servers according to the history visibility at each event. It knows
 * the memberships of its own users at those events, and no others.
 *
 * Source: "Room history visibility" of the client-server specification; "Backfilling" of the server-server one.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { HostileNetwork } from "./support/HostileNetwork.ts"
import { HostileServer, imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, getState, isMember, readBack, setState, network as startNetwork } from "./support/Network.ts"
import { room } from "./support/TodaysHostility.ts"
import { todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

interface ServersShape {
  readonly network: HostileNetwork
  /** A server without a user in the room at the time of the history. */
  readonly late: HostileServer
}

class Servers extends Context.Service<Servers, ServersShape>()("greenroom/test/BackfilledVisibility") {
  static readonly layer = Layer.effect(
    Servers,
    Effect.gen(function* () {
      const [evil, late] = [new HostileServer("evil.test", "today"), new HostileServer("late.test", "today")]
      const [evilPort, latePort] = [yield* freePort, yield* freePort]
      yield* evil.listen(evilPort)
      yield* late.listen(latePort)
      const others = { "evil.test": evilPort, "late.test": latePort }
      return { network: { ...(yield* startNetwork(["red.test", "blue.test"], { others })), evil }, late }
    })
  )
}

/**
 * While Bob is not in the room, Mallory sends messages under shared and under joined history visibility. Bob joins again through her
 * server and reads back, so that blue back-fills her messages.
 */
const history = Effect.gen(function* () {
  const { late, network } = yield* Servers
  const here = yield* todaysScene(network, "11")
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
  late.respond = () => notFound
  const [lateJoin] = (yield* late.join(red, room_id, `@late${number}:late.test`)).extremities as [Event]

  const past = [promoted, left]
  const messageAfter = (before: Event, body: string) =>
    evil.event(known, { sender: mallory, content: { msgtype: "m.text", body } }, { prevEvents: [before], state: past })
  const visibilityAfter = (before: Event, history_visibility: string) =>
    evil.event(
      known,
      { type: "m.room.history_visibility", state_key: "", sender: mallory, content: { history_visibility } },
      { prevEvents: [before], state: past }
    )
  const open = messageAfter(left, "open")
  const closed = visibilityAfter(open, "joined")
  const secret = messageAfter(closed, "secret")
  const opened = visibilityAfter(secret, "shared")
  const reopened = messageAfter(opened, "reopened")
  // It follows an event that blue does not get, so that its state stays unknown.
  const orphan = messageAfter(messageAfter(left, "withheld"), "orphan")
  // A redaction of an event that is nowhere, whose state stays unknown too.
  const idle = evil.event(
    known,
    { type: "m.room.redaction", sender: mallory, content: { reason: "a secret" }, redacts: imaginedHash().event_id },
    { prevEvents: [messageAfter(left, "withheld too")], state: past }
  )
  const events = [open, closed, secret, opened, reopened, orphan, idle]
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
    { prevEvents: [reopened, orphan, idle], state: past }
  )
  const [state, authChain] = [stateWith(opened, lateJoin), stateWith()]
  evil.useVersion(room_id, "11")
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
    // As servers do that hide an event from others: the states follow from that after Bob's leave, which blue has.
    return notFound
  }
  yield* expectOk(bob.ask("POST", `//_matrix/client/v3/join/${encodeURIComponent(room_id)}?via=evil.test`, {}))
  const read = yield* readBack(bob, room_id)
  const joined = read.find(isMember(bob.userId, "join"))!
  const bodies = read.map(({ content }) => content.body)
  assert.deepStrictEqual(
    ["open", "secret", "reopened", "orphan"].filter((body) => bodies.includes(body)),
    ["open", "reopened"]
  )
  const stored = yield* blue.select(
    `SELECT body::json->'content'->>'body' AS body FROM events WHERE status = 1 AND type = 'm.room.message' AND sender = '${mallory}'`
  )
  assert.sameMembers(
    stored.map(({ body }) => body),
    ["open", "secret", "reopened", "orphan"]
  )

  const version = late.useVersion(room_id, "11")
  /** The bodies of messages by event ID; undefined for redacted ones. */
  const bodiesOf = (given: ReadonlyArray<Body>) =>
    Object.fromEntries(
      given.flatMap((pdu) => {
        const event = version.fromPdu(pdu)
        return event._tag === "Success" && event.success.type === "m.room.message"
          ? [[event.success.event_id, event.success.content.body]]
          : []
      })
    )
  const visible = {
    [open.event_id]: "open",
    [secret.event_id]: undefined,
    [reopened.event_id]: "reopened",
    [orphan.event_id]: undefined
  }
  return { blue, evil, late, room_id, visible, secret, idle, joined: joined.event_id as string, bodiesOf }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Back-filled events", (it) => {
  it.effect("back-filled events are returned to other servers that may see them, without their states", () =>
    Effect.gen(function* () {
      const { blue, bodiesOf, evil, idle, joined, late, room_id, secret, visible } = yield* history
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

      const [redaction] = (yield* ask(late, `/v1/event/${encodeURIComponent(idle.event_id)}`)).body.pdus
      assert.deepStrictEqual(redaction.content, { redacts: idle.redacts })

      // The server of its sender may see it.
      const own = yield* ask(evil, `/v1/event/${encodeURIComponent(secret.event_id)}`)
      assert.deepStrictEqual(bodiesOf(own.body.pdus), { [secret.event_id]: "secret" })
    })
  )
})
