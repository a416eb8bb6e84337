/**
 * Events with predecessors that no server returns: their state is the one that the sending server returns for each missing predecessor,
 * resolved with the states after the known predecessors.
 *
 * Source: "Retrieving events" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Context, Effect, Layer, Schedule } from "effect"
import {
  exchangeMessages,
  type HostileNetwork,
  hostileNetwork,
  ids,
  isHealthy,
  leavesRoomUnchanged,
  refusalsOf
} from "./support/HostileNetwork.ts"
import { type GraphOverrides, imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, type HomeServer, readBack, say, sees, stateOf } from "./support/Network.ts"
import { joinThrough, type TodaysScene, todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

class Servers extends Context.Service<Servers, HostileNetwork>()("greenroom/test/MissingPredecessors") {
  static readonly layer = Layer.effect(Servers, hostileNetwork(["red.test", "blue.test"], { dialect: "today" }))
}

const scene = Effect.flatMap(Servers, (network) => todaysScene(network, "11"))

/** The join of another user of the hostile server, which it has not sent. */
const joinOf = ({ evil, room }: TodaysScene, userId: string, overrides: GraphOverrides = {}) =>
  evil.event(
    room,
    { type: "m.room.member", state_key: userId, sender: userId, content: { membership: "join" } },
    overrides
  )

/** A message with a predecessor that no server has. */
const afterUnknown = ({ evil, room }: TodaysScene, join: Event, body: string) =>
  evil.event(
    room,
    { sender: join.sender, content: { msgtype: "m.text", body } },
    { prevEvents: [imaginedHash()], state: [join] }
  )

/** Makes the hostile server return these events, and the states at some of them. */
const answers = (
  { evil }: TodaysScene,
  events: ReadonlyArray<Event>,
  states: ReadonlyMap<string, ReadonlyArray<string>>
) => {
  evil.respond = ({ path }) => {
    const asked = events.find(({ event_id }) => path === `/v1/event/${event_id}`)
    if (asked !== undefined) {
      return { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: [evil.toPdu(asked)] } }
    }
    const pdu_ids = path.startsWith("/v1/state_ids/") ? states.get(path.replace(/^.*event_id=/, "")) : undefined
    return pdu_ids === undefined ? notFound : { status: 200, body: { pdu_ids, auth_chain_ids: [] } }
  }
}

const notInRoom = { status: 403, body: { errcode: "M_FORBIDDEN", error: "You are not in the room" } }

/** The events for which the state was requested. */
const statesAsked = (asked: ReadonlyArray<string>) =>
  asked.flatMap((path) => (path.startsWith("/v1/state_ids/") ? [path.replace(/^.*event_id=/, "")] : []))

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Missing predecessors", (it) => {
  it.effect(
    "the state at each missing predecessor is requested, and resolved with the state after the known ones",
    () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, evil, mallory, room, room_id } = here
        // This message is a known predecessor.
        const knownId = yield* say(alice, room_id, "known")
        const known = yield* evil.receives(({ event_id }) => event_id === knownId)
        yield* sees(bob, ({ event_id }) => event_id === knownId)
        const [carol, dave] = [joinOf(here, "@carol:evil.test"), joinOf(here, "@dave:evil.test")]
        const [first, second] = [afterUnknown(here, carol, "carol's"), afterUnknown(here, dave, "dave's")]
        const last = evil.event(room, { sender: mallory }, { prevEvents: [first, second, known] })
        const state = ids([...room.state.values()])
        const states = new Map([
          [first.event_id as string, [...state, carol.event_id]],
          [second.event_id as string, [...state, dave.event_id]]
        ])
        answers(here, [carol, dave, first, second], states)
        const before = evil.asked.length
        assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
        assert.sameMembers([...statesAsked(evil.asked.slice(before))], [first.event_id, second.event_id])
        const path = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`
        const { body } = yield* bob.ask("GET", path)
        assert.sameMembers(Object.keys(body.joined), [
          ...[alice.userId, bob.userId, mallory],
          ...["@carol:evil.test", "@dave:evil.test"]
        ])
        const read = ids(yield* readBack(bob, room_id))
        for (const event of [first, second, last]) assert.include(read, event.event_id)
      })
  )

  it.effect("events that authorisation rejects are left out of the state that another server returns", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, room, room_id } = here
      const carol = joinOf(here, "@carol:evil.test")
      const first = afterUnknown(here, carol, "carol's")
      const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "without the power" } }
      const rejected = evil.event(room, topic)
      const last = evil.event(room, { sender: mallory }, { prevEvents: [first] })
      const state = ids([...room.state.values(), carol, rejected])
      answers(here, [carol, rejected, first], new Map([[first.event_id as string, state]]))
      assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
      const path = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/context/${encodeURIComponent(last.event_id)}`
      const shown = ids((yield* expectOk(bob.ask("GET", `${path}?limit=0`))).state)
      assert.include(shown, carol.event_id)
      assert.notInclude(shown, rejected.event_id)
    })
  )

  it.effect("an event is refused if an event of the state before it is unavailable", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, room } = here
      const carol = joinOf(here, "@carol:evil.test")
      const renamed = joinOf(here, "@carol:evil.test", { prevEvents: [carol], state: [carol] })
      const first = afterUnknown(here, renamed, "carol's")
      const last = evil.event(room, { sender: mallory }, { prevEvents: [first] })
      // The join that authorises the other one is unavailable.
      const state = [...ids([...room.state.values()]), renamed.event_id, carol.event_id]
      answers(here, [renamed, first], new Map([[first.event_id as string, state]]))
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          const before = evil.asked.length
          const [refusal] = yield* refusalsOf(evil, blue, [last])
          assert.match(refusal!, /predecessors/)
          assert.deepStrictEqual([...statesAsked(evil.asked.slice(before))], [first.event_id])
        })
      )
    })
  )

  /** Mallory may remove others, and removes Bob after two events. Her server answers no question about them. */
  const removalOfBob = Effect.fnUntraced(function* (here: TodaysScene) {
    const { alice, bob, evil, mallory, room, room_id } = here
    const levels = room.state.get("m.room.power_levels\0")!
    const users = { ...(levels.content.users as object), [mallory]: 100 }
    const path = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/state/m.room.power_levels`
    const { event_id } = yield* expectOk(alice.ask("PUT", path, { ...levels.content, users }))
    const promoted = yield* evil.receives((event) => event.event_id === event_id)
    yield* sees(bob, (event) => event.event_id === event_id)
    const state = [promoted]
    const topic = { sender: mallory, type: "m.room.topic", state_key: "", content: { topic: "first" } }
    const first = evil.event(room, topic, { prevEvents: [promoted], state })
    const second = evil.event(room, { sender: mallory }, { prevEvents: [first], state })
    const removal = { sender: mallory, type: "m.room.member", state_key: bob.userId, content: { membership: "leave" } }
    const last = evil.event(room, removal, { prevEvents: [second], state })
    evil.respond = () => notFound
    return { first, second, last, promoted }
  })

  const membershipOf = (person: TodaysScene["bob"], roomId: string, userId: string) =>
    Effect.map(stateOf(person, roomId), (state) => state[`m.room.member ${userId}`])

  it.effect("events whose predecessors come later are placed with those", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, number, red, room_id } = here
      // Another user of the server stays in the room.
      const carol = yield* blue.register(`carol${number}`)
      yield* expectOk(joinThrough(carol, room_id, red))
      const { first, last, second } = yield* removalOfBob(here)
      yield* evil.tell(blue, last, second)
      assert.notInclude(ids(yield* readBack(carol, room_id)), second.event_id)
      assert.notStrictEqual(yield* membershipOf(carol, room_id, bob.userId), last.event_id)
      yield* evil.tell(blue, first)
      const read = ids(yield* readBack(carol, room_id))
      for (const event of [first, second, last]) assert.include(read, event.event_id)
      assert.strictEqual(yield* membershipOf(carol, room_id, bob.userId), last.event_id)
    })
  )

  /** Bob's removal and the event before it have reached his server, without the one before those. Carol of that server stays. */
  const waitingRemoval = Effect.gen(function* () {
    const here = yield* scene
    const { blue, bob, evil, number, red, room_id } = here
    const carol = yield* blue.register(`carol${number}`)
    yield* expectOk(joinThrough(carol, room_id, red))
    const events = yield* removalOfBob(here)
    assert.deepStrictEqual(yield* evil.tell(blue, events.second, events.last), [undefined, undefined])
    assert.notStrictEqual(yield* membershipOf(carol, room_id, bob.userId), events.last.event_id)
    return { ...here, ...events, carol }
  })

  const isRemoved = ({ bob, carol, last, room_id }: Effect.Success<typeof waitingRemoval>) =>
    Effect.map(membershipOf(carol, room_id, bob.userId), (id) => id === last.event_id)

  const waitingIn = (server: HomeServer, roomId: string) =>
    server.select(`SELECT event_id FROM waiting_events WHERE room_id = '${roomId}'`)

  const untilRemoved = (waiting: Effect.Success<typeof waitingRemoval>) =>
    Effect.repeat(isRemoved(waiting), { until: (removed) => removed, schedule: Schedule.spaced("200 millis") })

  it.effect("events whose predecessors come after a crash of the server are placed with those", () =>
    Effect.gen(function* () {
      const waiting = yield* waitingRemoval
      const { blue, carol, evil, first, last, room_id, second } = waiting
      yield* blue.kill
      yield* blue.start
      assert.isFalse(yield* isRemoved(waiting))
      yield* evil.tell(blue, first)
      const read = ids(yield* readBack(carol, room_id))
      for (const event of [first, second, last]) assert.include(read, event.event_id)
      assert.isTrue(yield* isRemoved(waiting))
      assert.deepStrictEqual(yield* waitingIn(blue, room_id), [])
    })
  )

  it.effect("predecessors are asked for again when the server starts, and nothing else arrives", () =>
    Effect.gen(function* () {
      const waiting = yield* waitingRemoval
      const { blue, evil, first } = waiting
      answers(waiting, [first], new Map())
      yield* blue.kill
      yield* blue.start
      yield* untilRemoved(waiting)
      assert.include(evil.asked, `/v1/event/${first.event_id}`)
    })
  )

  it.effect("the removal of a user counts after a day, though its predecessors never come", () =>
    Effect.gen(function* () {
      const waiting = yield* waitingRemoval
      const { blue, bob, carol, last, room_id, second } = waiting
      yield* blue.kill
      yield* blue.select(`UPDATE waiting_events SET since = since - 86400000 WHERE room_id = '${room_id}'`)
      yield* blue.start
      yield* untilRemoved(waiting)
      const left = yield* waitingIn(blue, room_id)
      assert.deepStrictEqual(left, [{ event_id: second.event_id }])
      const { body } = yield* carol.ask(
        "GET",
        `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/joined_members`
      )
      assert.notInclude(Object.keys(body.joined), bob.userId)
      assert.include(ids(yield* readBack(carol, room_id)), last.event_id)
    })
  )

  it.effect("the last user of a server is removed also if the other server does not give what precedes that", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, red, room_id } = here
      const { last, second } = yield* removalOfBob(here)
      evil.respond = () => notInRoom
      yield* evil.tell(blue, second)
      assert.notInclude(ids(yield* readBack(bob, room_id)), second.event_id)
      yield* evil.tell(blue, last)
      assert.strictEqual(yield* membershipOf(bob, room_id, bob.userId), last.event_id)
      yield* expectOk(joinThrough(bob, room_id, red))
      assert.notStrictEqual(yield* membershipOf(bob, room_id, bob.userId), last.event_id)
    })
  )

  it.effect("users who are all removed are so also if the other server gives nothing that precedes it", () =>
    Effect.gen(function* () {
      const waiting = yield* waitingRemoval
      const { blue, bob, carol, evil, mallory, promoted, room, room_id, second } = waiting
      const removal = {
        sender: mallory,
        type: "m.room.member",
        state_key: carol.userId,
        content: { membership: "leave" }
      }
      evil.respond = () => notInRoom
      const join = yield* evil.receives((event) => event.room_id === room_id && event.state_key === carol.userId)
      yield* evil.tell(blue, evil.event(room, removal, { prevEvents: [second], state: [promoted, join] }))
      yield* evil.tell(blue, waiting.last)
      const { body } = yield* bob.ask("GET", `//_matrix/client/v3/sync?timeout=0`)
      assert.notProperty(body.rooms.join, room_id)
      const { body: ofCarol } = yield* carol.ask("GET", `//_matrix/client/v3/sync?timeout=0`)
      assert.notProperty(ofCarol.rooms.join, room_id)
    })
  )

  it.effect("the last user of a server is not removed by users without the power to do so", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, room, room_id } = here
      evil.respond = () => notInRoom
      const removal = { sender: mallory, type: "m.room.member", state_key: bob.userId, content: { membership: "ban" } }
      const before = yield* stateOf(bob, room_id)
      yield* evil.tell(blue, evil.event(room, removal, { prevEvents: [imaginedHash()] }))
      assert.deepStrictEqual(yield* stateOf(bob, room_id), before)
    })
  )

  it.effect("if the server has no state at the predecessor, the state at the event is requested", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, room, room_id } = here
      const carol = joinOf(here, "@carol:evil.test")
      const first = afterUnknown(here, carol, "carol's")
      const content = { msgtype: "m.text", body: "later" }
      const last = evil.event(room, { sender: carol.sender, content }, { prevEvents: [first], state: [carol] })
      const state = [...ids([...room.state.values()]), carol.event_id]
      answers(here, [carol, first], new Map([[last.event_id as string, state]]))
      assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
      assert.include(ids(yield* readBack(bob, room_id)), last.event_id)
      assert.include(Object.values(yield* stateOf(bob, room_id)), carol.event_id)
    })
  )

  it.effect("if the server does not answer, its events are completed by another server of the room", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, red, room, room_id } = here
      const first = evil.event(room, { sender: mallory })
      const second = evil.event(room, { sender: mallory }, { prevEvents: [first] })
      const last = evil.event(room, { sender: mallory }, { prevEvents: [second] })
      assert.deepStrictEqual(yield* evil.tell(red, first, second), [undefined, undefined])
      evil.respond = () => ({ status: 503, body: {} })
      assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
      const read = ids(yield* readBack(bob, room_id))
      for (const event of [first, second, last]) assert.include(read, event.event_id)
    })
  )

  for (const status of [500, 502, 503, 504]) {
    it.effect(`an event whose state is answered with ${status} is refused, and accepted later`, () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { blue, bob, evil, room, room_id } = here
        const carol = joinOf(here, "@carol:evil.test")
        const first = afterUnknown(here, carol, "carol's")
        const content = { msgtype: "m.text", body: "later" }
        const last = evil.event(room, { sender: carol.sender, content }, { prevEvents: [first], state: [carol] })
        const state = [...ids([...room.state.values()]), carol.event_id]
        answers(here, [carol, first], new Map([first, last].map(({ event_id }) => [event_id as string, state])))
        const rest = evil.respond
        const before = evil.asked.length
        evil.respond = (asked) =>
          /^\/v1\/state(_ids)?\//.test(asked.path)
            ? { status, body: { errcode: "M_UNKNOWN", error: "Away" } }
            : rest(asked)
        const [refusal] = yield* refusalsOf(evil, blue, [last])
        assert.match(refusal!, /predecessors/)
        const questions = evil.asked.slice(before).filter((path) => /^\/v1\/state(_ids)?\//.test(path))
        // Both endpoints are tried once, for the predecessor alone.
        const names = questions.map((path) => `${path.split("/")[2]} ${path.replace(/^.*event_id=/, "")}`)
        assert.deepStrictEqual(names, [`state_ids ${first.event_id}`, `state ${first.event_id}`])
        evil.respond = rest
        assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
        const read = ids(yield* readBack(bob, room_id))
        for (const event of [first, last]) assert.include(read, event.event_id)
      })
    )
  }

  it.effect("if the server returns only some missing events, the state at their predecessors is requested", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, room, room_id } = here
      const carol = joinOf(here, "@carol:evil.test")
      const content = { msgtype: "m.text", body: "carol's" }
      const middle = evil.event(room, { sender: carol.sender, content }, { prevEvents: [carol], state: [carol] })
      const last = evil.event(room, { sender: mallory }, { prevEvents: [middle] })
      const state = ids([...room.state.values()])
      answers(here, [carol], new Map([[carol.event_id as string, state]]))
      const rest = evil.respond
      evil.respond = (asked) =>
        asked.path.startsWith("/v1/get_missing_events/")
          ? { status: 200, body: { events: [evil.toPdu(middle)] } }
          : rest(asked)
      const before = evil.asked.length
      assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
      const asked = evil.asked.slice(before).map((path) => path.split("/")[2]!)
      assert.deepStrictEqual(asked, ["get_missing_events", "state_ids", "event"])
      const read = ids(yield* readBack(bob, room_id))
      for (const event of [middle, last]) assert.include(read, event.event_id)
    })
  )

  it.effect("a missing event from before this server joined is history, and is not shown as new", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, room, room_id } = here
      const since = (yield* expectOk(bob.ask("GET", "//_matrix/client/v3/sync"))).next_batch
      const old = evil.remake(evil.event(room, { sender: mallory }, { prevEvents: [imaginedHash()] }), { depth: 2 })
      const last = evil.event(room, { sender: mallory }, { prevEvents: [old] })
      answers(here, [old], new Map([[old.event_id, ids([...room.state.values()])]]))
      const { respond } = evil
      evil.respond = (request) =>
        request.path.startsWith("/v1/get_missing_events/")
          ? { status: 200, body: { events: [evil.toPdu(old)] } }
          : respond(request)
      assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
      const { rooms } = yield* expectOk(bob.ask("GET", `//_matrix/client/v3/sync?since=${since}`))
      assert.deepStrictEqual(ids(rooms.join[room_id].timeline.events), [last.event_id])
    })
  )

  it.effect("an event whose predecessors are withheld is refused, and no state is requested", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, bob, evil, mallory, room, room_id } = here
      const first = evil.event(room, { sender: mallory })
      const last = evil.event(room, { sender: mallory }, { prevEvents: [first] })
      evil.respond = ({ path }) =>
        path.startsWith("/v1/get_missing_events/") ? { status: 200, body: { events: [] } } : notFound
      const before = evil.asked.length
      const [refusal] = yield* refusalsOf(evil, blue, [last])
      assert.match(refusal!, /predecessors/)
      assert.strictEqual(evil.asked.length - before, 1)
      // It is accepted when it is sent again with its predecessors.
      assert.deepStrictEqual(yield* evil.tell(blue, first, last), [undefined, undefined])
      assert.include(ids(yield* readBack(bob, room_id)), last.event_id)
    })
  )

  it.effect("many missing predecessors cost few requests", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, room } = here
      const carol = joinOf(here, "@carol:evil.test")
      const crowd = Array.from({ length: 15 }, (_, index) => afterUnknown(here, carol, `number ${index}`))
      const messages = Array.from({ length: 15 }, (_, index) =>
        evil.event(room, { sender: mallory }, { prevEvents: [imaginedHash(), ...crowd.slice(index)].slice(0, 15) })
      )
      const state = ids([...room.state.values()])
      const states = new Map([...crowd, ...messages].map(({ event_id }) => [event_id as string, state]))
      answers(here, [carol, ...crowd], states)
      const before = evil.asked.length
      yield* evil.tell(blue, ...messages)
      assert.isAtMost(evil.asked.length - before, 60)
      assert.isAtMost(statesAsked(evil.asked.slice(before)).length, 10)
      yield* exchangeMessages(here)
      yield* isHealthy(blue)
    })
  )

  /** Three messages that only the hostile server has, between one that all servers have and one that it sends to blue. */
  const timelineWithGap = Effect.gen(function* () {
    const here = yield* scene
    const { alice, blue, bob, evil, mallory, room: known, room_id } = here
    const before = (yield* say(alice, room_id, "before the gap")) as Event["event_id"]
    yield* sees(bob, ({ event_id }) => event_id === before)
    const missing: Array<Event> = []
    const position = () => (missing.length === 0 ? {} : { prevEvents: [missing.at(-1)!] })
    for (let n = 0; n < 3; n++) missing.push(evil.event(known, { sender: mallory }, position()))
    const last = evil.event(known, { sender: mallory }, position())
    const state = ids([...known.state.values()])
    evil.respond = ({ path }) =>
      path.startsWith("/v1/state_ids/") ? { status: 200, body: { pdu_ids: state, auth_chain_ids: state } } : notFound
    const sync = (since = "") => expectOk(bob.ask("GET", `//_matrix/client/v3/sync?timeout=0${since}`))
    const since = (yield* sync()).next_batch
    assert.deepStrictEqual(yield* evil.tell(blue, last), [undefined])
    const pdus = missing.toReversed().map((event) => evil.toPdu(event))
    const giveBack = () => {
      evil.respond = ({ path }) =>
        path.startsWith("/v1/backfill/")
          ? { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus } }
          : notFound
    }
    return { ...here, before, missing: ids(missing), last: last.event_id, since, sync, giveBack }
  })

  const reads: ReadonlyArray<
    readonly [string, (gap: Effect.Success<typeof timelineWithGap>) => Effect.Effect<ReadonlyArray<string>>]
  > = [
    [
      "context around the event after it",
      ({ bob, last, room_id }) =>
        Effect.map(
          expectOk(
            bob.ask(
              "GET",
              `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/context/${encodeURIComponent(last)}?limit=8`
            )
          ),
          ({ event, events_before }) => [...ids(events_before).toReversed(), event.event_id]
        )
    ],
    [
      "context around the event before it",
      ({ before, bob, room_id }) =>
        Effect.map(
          expectOk(
            bob.ask(
              "GET",
              `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/context/${encodeURIComponent(before)}?limit=10`
            )
          ),
          ({ event, events_after }) => [event.event_id, ...ids(events_after)]
        )
    ],
    [
      "a page forwards",
      ({ bob, room_id }) =>
        Effect.map(
          expectOk(bob.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=f&limit=50`)),
          ({ chunk }) => ids(chunk)
        )
    ],
    [
      "a page of the API of 2014",
      ({ bob, room_id }) =>
        Effect.map(
          expectOk(bob.ask("GET", `/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=5&from=END`)),
          ({ chunk }) => ids(chunk).toReversed()
        )
    ]
  ]

  for (const [name, read] of reads) {
    it.effect(`a gap in the timeline is filled by ${name}`, () =>
      Effect.gen(function* () {
        const gap = yield* timelineWithGap
        gap.giveBack()
        assert.deepStrictEqual((yield* read(gap)).slice(-5), [gap.before, ...gap.missing, gap.last])
      })
    )
  }

  it.effect("reads across a gap do not wait for a server that never answers", () =>
    Effect.gen(function* () {
      const gap = yield* timelineWithGap
      gap.evil.respond = () => "never"
      for (const [, read] of reads.slice(0, 3)) {
        const shown = yield* read(gap)
        assert.include(shown, gap.before)
        assert.notInclude(shown, gap.missing[0])
      }
      gap.evil.hangUp()
    })
  )

  it.effect("a timeline with a gap is limited, and reading back fills the gap", () =>
    Effect.gen(function* () {
      const { before, bob, giveBack, last, missing, room_id, since, sync } = yield* timelineWithGap
      const timelineSince = Effect.map(sync(`&since=${since}`), ({ rooms }) => rooms.join[room_id].timeline)
      const withGap = yield* timelineSince
      assert.deepStrictEqual([withGap.limited, ids(withGap.events)], [true, [last]])

      giveBack()
      const messages = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=4`
      const page = yield* expectOk(bob.ask("GET", `${messages}&from=${withGap.prev_batch}`))
      assert.deepStrictEqual(ids(page.chunk), [...missing.toReversed(), before])
      // The gap is filled for a client that syncs later, too.
      const filled = yield* timelineSince
      assert.deepStrictEqual([filled.limited, ids(filled.events)], [false, [...missing, last]])
    })
  )
})
