/** Users read back-filled history according to the history visibility and their membership at each event. */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Array as Arr, Effect, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import { ids } from "./support/HostileNetwork.ts"
import { type FederationAnswer, type GraphOverrides, imaginedHash, notFound } from "./support/HostileServer.ts"
import { change, expectOk, getState, isMember, readBack, say, sees, setState } from "./support/Network.ts"
import { Servers, sceneOf } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

const visibilityType = "m.room.history_visibility"

/** A room that goes on at the hostile server after Bob has left. He joins again through that server. */
const rejoining = Effect.fnUntraced(function* () {
  const here = yield* sceneOf("11")
  const { alice, bob, evil, mallory, room: known, room_id } = here
  const levels = (yield* getState(alice, room_id, "m.room.power_levels")).body
  const users = { ...levels.users, [mallory]: 100 }
  yield* expectOk(setState(alice, room_id, "m.room.power_levels", { ...levels, users }))
  const promoted = yield* evil.receives(
    ({ content, type }) => type === "m.room.power_levels" && (content.users as Body)[mallory] === 100
  )
  // Only a leave that follows the promotion makes room for what Mallory does after it.
  yield* sees(bob, ({ event_id }) => event_id === promoted.event_id)
  yield* expectOk(bob.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/leave`, {}))
  const left = yield* evil.receives((event) => event.room_id === room_id && isMember(bob.userId, "leave")(event))
  const past = [promoted, left]
  const visibilityEvent = (history_visibility: string, prevEvents: GraphOverrides["prevEvents"]) =>
    evil.event(
      known,
      { type: visibilityType, state_key: "", sender: mallory, content: { history_visibility } },
      { prevEvents: prevEvents!, state: past }
    )
  const messageEvent = (body: string, ...prevEvents: NonNullable<GraphOverrides["prevEvents"]>) =>
    evil.event(known, { sender: mallory, content: { msgtype: "m.text", body } }, { prevEvents, state: past })
  const isReplaced = ({ state_key, type }: Event, by: ReadonlyArray<Event>) =>
    by.some((event) => event.type === type && event.state_key === state_key)
  /** The state of the room with some events replaced. */
  const stateWith = (...by: ReadonlyArray<Event>) => {
    const all = [...past.filter((event) => !isReplaced(event, by)), ...by]
    return [...[...known.state.values()].filter((event) => !isReplaced(event, all)), ...all]
  }
  /** The bodies of Mallory's messages. */
  const bodiesOf = (read: ReadonlyArray<Event>) =>
    read
      .toReversed()
      .flatMap(({ content, sender, type }) =>
        type === "m.room.message" && sender === mallory ? [content.body as string] : []
      )
  const readAgain = Effect.map(readBack(bob, room_id), bodiesOf)
  /**
   * Bob joins after the last of the events and reads back. Returns the bodies, and how many states were requested. `states` has the states
   * before events, unless `fails` answers the request.
   */
  const read = Effect.fnUntraced(function* (
    events: ReadonlyArray<Event>,
    state: ReadonlyArray<Event>,
    states: ReadonlyMap<string, ReadonlyArray<Event>>,
    fails: (path: string) => FederationAnswer | "never" | undefined = () => undefined
  ) {
    const pdus = (given: ReadonlyArray<Event>) => given.map((event) => evil.toPdu(event))
    const template = evil.event(
      known,
      { type: "m.room.member", state_key: bob.userId, sender: bob.userId, content: { membership: "join" } },
      { prevEvents: [events.at(-1)!], state: past }
    )
    const about = { origin: "evil.test", origin_server_ts: 1 }
    const all = [...known.state.values(), ...past, ...events, ...[...states.values()].flat()]
    evil.respond = ({ path }) => {
      if (path.startsWith("/v1/make_join/")) {
        return { status: 200, body: { room_version: "11", event: known.version!.toTemplate(template) } }
      }
      if (path.startsWith("/v2/send_join/")) {
        return { status: 200, body: { state: pdus(state), auth_chain: pdus(stateWith()) } }
      }
      if (path.startsWith("/v1/backfill/")) return { status: 200, body: { ...about, pdus: pdus(events.toReversed()) } }
      const failure = fails(path)
      if (failure !== undefined) return failure
      const at = states.get(/^\/v1\/state(?:_ids)?\/.*[?&]event_id=([^&]+)/.exec(path)?.[1] ?? "")
      if (at !== undefined && path.startsWith("/v1/state/")) {
        return { status: 200, body: { pdus: pdus(at), auth_chain: pdus(stateWith()) } }
      }
      if (at !== undefined) return { status: 200, body: { pdu_ids: ids(at), auth_chain_ids: ids(stateWith()) } }
      const asked = all.find((event) => path === `/v1/event/${event.event_id}`)
      return asked === undefined ? notFound : { status: 200, body: { ...about, pdus: pdus([asked]) } }
    }
    const earlier = evil.asked.length
    yield* expectOk(bob.ask("POST", `//_matrix/client/v3/join/${encodeURIComponent(room_id)}?via=evil.test`, {}))
    const bodies = yield* readAgain
    const statesRequested = evil.asked.slice(earlier).filter((path) => /^\/v1\/state(_ids)?\//.test(path)).length
    return { bodies, statesRequested }
  })
  const isHistory = ({ event_id }: Event) =>
    here.blue.select(`SELECT status FROM events WHERE event_id = '${event_id}'`)
  /** The other server does not give the event before its history, so that the states after it are not known here. */
  const withheld = messageEvent("withheld", left)
  return { ...here, withheld, visibilityEvent, messageEvent, stateWith, read, readAgain, isHistory }
})

/** The same with two branches of history that are merged later. One of them has joined history visibility. */
const branching = Effect.gen(function* () {
  const here = yield* rejoining()
  const { withheld, read, messageEvent, visibilityEvent, stateWith } = here
  const closed = visibilityEvent("joined", [withheld])
  const secret = messageEvent("secret", closed)
  const open = messageEvent("open", withheld)
  const merged = messageEvent("merged", secret, open)
  const reopened = visibilityEvent("shared", [merged])
  const last = messageEvent("last", reopened)
  const readAll = (states: Parameters<typeof read>[2]) =>
    read([closed, secret, open, merged, reopened, last], stateWith(reopened), states)
  return { ...here, closed, open, merged, readAll }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("History visibility", (it) => {
  it.effect(
    "a member reads the messages that were visible to them before the invite, as invited user, as member, and after leaving",
    () =>
      Effect.gen(function* () {
        const { blue, red } = yield* sceneOf("11")
        const [alice, bob] = [yield* red.register("sender"), yield* blue.register("reader")]
        const room = yield* createRoom(alice, "11")
        const isBob = (membership: string) => (event: Event) =>
          event.room_id === room && isMember(bob.userId, membership)(event)
        const post = (body: string, person = alice) =>
          expectOk(
            person.ask("PUT", `//_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${body}`, {
              msgtype: "m.text",
              body
            })
          )
        const show = (history_visibility: string) =>
          expectOk(setState(alice, room, visibilityType, { history_visibility }))
        yield* show("world_readable")
        yield* post("to-the-world")
        yield* show("shared")
        yield* post("shared")
        const former = yield* red.register("former")
        yield* expectOk(former.ask("POST", `//_matrix/client/v3/join/${encodeURIComponent(room)}`, {}))
        yield* post("of-a-former-member", former)
        yield* expectOk(former.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room)}/leave`, {}))
        yield* show("invited")
        yield* post("before-the-invitation")
        yield* expectOk(change(alice, room, "invite", bob.userId))
        yield* post("after-the-invitation")
        yield* show("joined")
        yield* post("before-the-join")
        yield* expectOk(joinThrough(bob, room, red))
        yield* sees(alice, isBob("join") as never)
        yield* post("to-a-member")
        yield* sees(bob, ({ content }) => content.body === "to-a-member")
        yield* expectOk(bob.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room)}/leave`, {}))
        yield* sees(alice, isBob("leave") as never)
        yield* post("while-away")
        yield* show("shared")
        yield* post("shared-while-away")
        yield* expectOk(joinThrough(bob, room, red))
        const read = (yield* readBack(bob, room)).toReversed()
        assert.deepStrictEqual(
          read.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body as string] : [])),
          ["to-the-world", "shared", "of-a-former-member", "after-the-invitation", "to-a-member", "shared-while-away"]
        )
      })
  )

  it.effect("a member reads pages of history that was hidden from them up to where it became visible", () =>
    Effect.gen(function* () {
      const { blue, red } = yield* sceneOf("11")
      const [alice, bob] = [yield* red.register("chronicler"), yield* blue.register("latecomer")]
      const room = yield* createRoom(alice, "11")
      const show = (history_visibility: string) =>
        expectOk(setState(alice, room, visibilityType, { history_visibility }))
      const post = (body: string) => say(alice, room, body)
      const shown = Arr.makeBy(130, (index) => `shown ${index}`)
      yield* show("joined")
      yield* Effect.forEach(Arr.range(1, 130), (index) => post(`hidden ${index}`), { concurrency: 4 })
      yield* show("shared")
      yield* Effect.forEach(shown, post)
      yield* expectOk(joinThrough(bob, room, red))
      const read = (yield* readBack(bob, room)).filter(({ type }) => type === "m.room.message")
      assert.deepStrictEqual(
        read.toReversed().map(({ content }) => content.body),
        shown
      )
    })
  )

  it.effect("a server with hundreds of members receives the messages that one of them could see", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      yield* expectOk(setState(alice, room_id, visibilityType, { history_visibility: "joined" }))
      const message = yield* say(alice, room_id, "for members")
      const received = yield* evil.receives(({ event_id }) => event_id === message)
      // All others join after the message, and the membership of the one who could see it is the newest.
      let last = received
      const joins = [...Array.from({ length: 250 }, (_, index) => `@crowd${index}:evil.test`), mallory].map(
        (userId) => {
          const content = { membership: "join", displayname: "one of many" }
          last = evil.event(
            room,
            { type: "m.room.member", state_key: userId, sender: userId, content },
            { prevEvents: [last] }
          )
          return last
        }
      )
      for (const batch of Arr.chunksOf(joins, 50)) {
        const errors = yield* evil.tell(red, ...batch)
        assert.deepStrictEqual(
          errors.filter((error) => error !== undefined),
          []
        )
      }
      const { body } = yield* evil.ask(red, "GET", `/v1/event/${encodeURIComponent(message)}`)
      assert.strictEqual(body.pdus[0].content.body, "for members")
    })
  )

  it.effect("a server receives of the time before its join what its invited user could see", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const roomId = yield* createRoom(alice, "11")
      const version = evil.useVersion(roomId, "11")
      const guest = `@guest${number}:evil.test`
      evil.respond = ({ body, path }) =>
        path.startsWith("/v2/invite/")
          ? {
              status: 200,
              body: { event: version.toPdu(version.sign(Result.getOrThrow(version.fromPdu(body.event)), evil.key)) }
            }
          : notFound
      const sayAs = (history_visibility: string) =>
        Effect.andThen(
          expectOk(setState(alice, roomId, visibilityType, { history_visibility })),
          say(alice, roomId, history_visibility)
        )
      const before = yield* sayAs("invited")
      yield* expectOk(change(alice, roomId, "invite", guest))
      const messages = [before, yield* sayAs("joined"), yield* sayAs("invited")]
      yield* evil.join(red, roomId, guest)
      const inRoom = encodeURIComponent(roomId)
      for (const path of ["event/", `backfill/${inRoom}?limit=1&v=`]) {
        const bodies: Array<unknown> = []
        for (const eventId of messages) {
          const { body } = yield* evil.ask(red, "GET", `/v1/${path}${encodeURIComponent(eventId)}`)
          bodies.push(body.pdus[0].content.body)
        }
        assert.deepStrictEqual(bodies, [undefined, undefined, "invited"], path)
      }
      const missing = { earliest_events: [], latest_events: messages.slice(2), limit: 100 }
      const { body } = yield* evil.ask(red, "POST", `/v1/get_missing_events/${inRoom}`, missing)
      const older = body.events.filter(({ type }: Event) => type === "m.room.message")
      assert.deepStrictEqual(
        older.map(({ content }: Event) => content),
        [{}, {}]
      )
    })
  )

  it.effect(
    "a server does not receive what was hidden from it in a room that changed its history visibility often",
    () =>
      Effect.gen(function* () {
        const { alice, evil, number, red } = yield* sceneOf("11")
        const roomId = yield* createRoom(alice, "11")
        evil.useVersion(roomId, "11")
        const show = (history_visibility: string, n = 0) =>
          expectOk(setState(alice, roomId, visibilityType, { history_visibility, n }))
        for (let n = 0; n < 12; n++) yield* show("shared", n)
        yield* show("joined")
        const message = yield* say(alice, roomId, "for members")
        for (let n = 0; n < 12; n++) yield* show("shared", n)
        yield* evil.join(red, roomId, `@guest${number}:evil.test`)
        const { body } = yield* evil.ask(red, "GET", `/v1/event/${encodeURIComponent(message)}`)
        assert.deepStrictEqual(body.pdus[0].content, {})
      })
  )

  it.effect("the state after branches with different history visibility is requested", () =>
    Effect.gen(function* () {
      const { closed, merged, open, readAll, stateWith } = yield* branching
      const { bodies, statesRequested } = yield* readAll(
        new Map([
          [closed.event_id, stateWith()],
          [open.event_id, stateWith()],
          // State resolution may choose either visibility.
          [merged.event_id, stateWith()]
        ])
      )
      assert.deepStrictEqual(bodies, ["open", "merged", "last"])
      assert.isAtMost(statesRequested, 3)
    })
  )

  it.effect("without that state the more restrictive history visibility applies", () =>
    Effect.gen(function* () {
      const { closed, open, readAll, stateWith } = yield* branching
      const { bodies } = yield* readAll(
        new Map([
          [closed.event_id, stateWith()],
          [open.event_id, stateWith()]
        ])
      )
      assert.deepStrictEqual(bodies, ["open", "last"])
    })
  )

  it.effect("a history visibility that only the state of the other server names is fetched and applies", () =>
    Effect.gen(function* () {
      const { isHistory, withheld, read, messageEvent, visibilityEvent, stateWith } = yield* rejoining()
      const closed = visibilityEvent("joined", [withheld])
      // The other server withholds the event before it, so that history begins with the message.
      const secret = messageEvent("secret", closed)
      const opened = visibilityEvent("shared", [secret])
      const last = messageEvent("last", opened)
      const { bodies } = yield* read(
        [secret, opened, last],
        stateWith(opened),
        new Map([[secret.event_id, stateWith(closed)]])
      )
      assert.deepStrictEqual(bodies, ["last"])
      assert.deepStrictEqual(yield* isHistory(secret), [{ status: 1 }])
    })
  )

  it.effect("history after a forged history visibility is not stored", () =>
    Effect.gen(function* () {
      const { evil, isHistory, withheld, read, room, messageEvent, visibilityEvent, stateWith } = yield* rejoining()
      const secret = messageEvent("secret", withheld)
      const opened = visibilityEvent("shared", [secret])
      const last = messageEvent("last", opened)
      const forged = evil.event(
        room,
        {
          ...{ type: visibilityType, state_key: "", sender: "@stranger:evil.test" },
          content: { history_visibility: "world_readable" }
        },
        { prevEvents: [withheld] }
      )
      const { bodies } = yield* read(
        [secret, opened, last],
        stateWith(opened),
        new Map([[secret.event_id, stateWith(forged)]])
      )
      assert.deepStrictEqual(bodies, ["last"])
      assert.deepStrictEqual(yield* isHistory(secret), [])
    })
  )

  it.effect("history after a history visibility that is unavailable is not stored", () =>
    Effect.gen(function* () {
      const { isHistory, withheld, read, messageEvent, visibilityEvent, stateWith } = yield* rejoining()
      const secret = messageEvent("secret", withheld)
      const opened = visibilityEvent("shared", [secret])
      const absent = { ...visibilityEvent("joined", [withheld]), event_id: imaginedHash().event_id }
      const { bodies } = yield* read(
        [secret, opened, messageEvent("last", opened)],
        stateWith(opened),
        new Map([[secret.event_id, stateWith(absent)]])
      )
      assert.deepStrictEqual(bodies, [])
      assert.deepStrictEqual(yield* isHistory(secret), [])
    })
  )

  const internalError = { status: 500, body: { errcode: "M_UNKNOWN", error: "Internal server error" } }
  const failures: ReadonlyArray<readonly [string, FederationAnswer | "never"]> = [
    ["an internal error", internalError],
    ["the error of a proxy", { ...internalError, status: 504 }],
    ["no answer at all", "never"]
  ]
  for (const [name, failure] of failures) {
    it.effect(
      `the state is requested from a server that answers a request for the IDs of its events with ${name}`,
      () =>
        Effect.gen(function* () {
          const { withheld, read, messageEvent, visibilityEvent, stateWith } = yield* rejoining()
          const closed = visibilityEvent("joined", [withheld])
          const secret = messageEvent("secret", closed)
          const opened = visibilityEvent("shared", [secret])
          const last = messageEvent("last", opened)
          const states = new Map([[closed.event_id, stateWith()]])
          const { bodies } = yield* read([closed, secret, opened, last], stateWith(opened), states, (path) =>
            path.startsWith("/v1/state_ids/") ? failure : undefined
          )
          assert.deepStrictEqual(bodies, ["last"])
        })
    )
  }

  it.effect("history whose states are unavailable is stored later", () =>
    Effect.gen(function* () {
      const { isHistory, withheld, read, readAgain, messageEvent, visibilityEvent, stateWith } = yield* rejoining()
      const closed = visibilityEvent("joined", [withheld])
      const secret = messageEvent("secret", closed)
      const opened = visibilityEvent("shared", [secret])
      const last = messageEvent("last", opened)
      const states = new Map([[closed.event_id, stateWith()]])
      let isFailing = true
      const { bodies } = yield* read([closed, secret, opened, last], stateWith(opened), states, (path) =>
        isFailing && /^\/v1\/state(_ids)?\//.test(path) ? internalError : undefined
      )
      assert.deepStrictEqual(bodies, [])
      assert.deepStrictEqual(yield* isHistory(secret), [])
      isFailing = false
      assert.deepStrictEqual(yield* readAgain, ["last"])
      assert.deepStrictEqual(yield* isHistory(secret), [{ status: 1 }])
    })
  )
})
