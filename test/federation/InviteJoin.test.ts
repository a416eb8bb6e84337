/**
 * Joining by m.room.invite_join: a server that knows only the draft requests the membership of its user from another server. Every
 * server of the room accepts the membership because of the signature of the user's server, and refuses forged ones.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { localpartOf } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Context, Effect, Layer, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import { type HostileRoom, HostileServer } from "./support/HostileServer.ts"
import {
  change,
  createRoom,
  expectOk,
  freePort,
  type HomeServer,
  isMember,
  join,
  type Network,
  network,
  readBack,
  reads,
  say,
  sees,
  stateOf
} from "./support/Network.ts"

interface Servers extends Network {
  /** Speaks only the draft. */
  readonly draft: HostileServer
  /** Takes part in rooms by the handshake, and lies. */
  readonly evil: HostileServer
}

class World extends Context.Service<World, Servers>()("greenroom/test/World") {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function* () {
      const others: Record<string, number> = {}
      const begin = Effect.fnUntraced(function* (name: string) {
        const server = new HostileServer(name)
        others[name] = yield* freePort
        yield* server.listen(others[name])
        return server
      })
      const draft = yield* begin("draft.test")
      const evil = yield* begin("evil.test")
      return { ...(yield* network(["red.test", "blue.test"], { others })), draft, evil }
    })
  )
}

let scenes = 0

/** Alice of red and Bob of blue in a room; Dora of the server that speaks only the draft is outside. */
const scene = Effect.fnUntraced(function* (visibility: "public" | "private" = "public") {
  const { draft, evil, servers } = yield* World
  const [red, blue] = servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_id } = yield* createRoom(alice, { visibility })
  yield* expectOk(change(alice, room_id, "invite", bob.userId))
  yield* sees(bob, (event) => event.room_id === room_id && isMember(bob.userId, "invite")(event))
  yield* join(bob, room_id)
  // It countersigns every invite.
  draft.respond = ({ body, path }) =>
    path.startsWith("/invite/")
      ? { status: 200, body: { event: version.toPdu(version.sign(read(body), draft.key)) } }
      : { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "Not in the draft" } }
  return { draft, evil, red, blue, alice, bob, room_id, dora: `@dora${number}:draft.test` }
})

type Scene = Effect.Success<ReturnType<typeof scene>>

const read = (pdu: unknown): Event => Result.getOrThrow(version.fromPdu(pdu))

interface Asking {
  readonly host?: unknown
  readonly sender?: string
  /** The room as Dora's server knows it. */
  readonly named?: ReadonlyArray<Event>
  readonly more?: Body
  readonly roomId?: string
  readonly by?: HostileServer
}

/** The PDU by which Dora asks red, or another server, for her membership. */
const asking = (here: Scene, { by = here.draft, host = "red.test", more, named = [], roomId, sender }: Asking = {}) =>
  by.event(
    { roomId: roomId ?? here.room_id, state: new Map(), extremities: named },
    { type: "m.room.invite_join", sender: sender ?? here.dora, content: { target_host: host as string, ...more } }
  )

const answerOf = ({ body }: { readonly body: Body }, event: Event): Body =>
  body.pdus[`${localpartOf(event.event_id)},${event.origin}`]

/** The answer of red to the PDU. */
const asks = (here: Scene, event: Event, transactionId?: string): Effect.Effect<Body> =>
  Effect.map(
    (event.origin === "evil.test" ? here.evil : here.draft).send(
      here.red,
      [version.toPdu(event)],
      transactionId === undefined ? {} : { transactionId }
    ),
    (answer) => answerOf(answer, event)
  )

/** The room as the answer tells of it. */
const roomOf = (here: Scene, { membership, state }: Body): HostileRoom => {
  const events = [...state.map(read), read(membership)]
  return {
    roomId: here.room_id,
    state: new Map(events.map((event) => [stateKeyOf(event.type, event.state_key), event])),
    extremities: [read(membership)]
  }
}

const isDora = (here: Scene, membership: string) => (event: Body) =>
  event.room_id === here.room_id && isMember(here.dora, membership)(event)

/** Everybody in the room is told of Dora. */
const allSee = (here: Scene, membership: string) =>
  Effect.all([sees(here.alice, isDora(here, membership)), sees(here.bob, isDora(here, membership))])

/** Dora is invited, and her server has the invite. */
const invited = Effect.fnUntraced(function* (here: Scene) {
  yield* expectOk(change(here.alice, here.room_id, "invite", here.dora))
  return yield* here.draft.receives(isDora(here, "invite") as (event: Event) => boolean)
})

const isOfRoom = (here: Scene, event: Event) => event.room_id === here.room_id

layer(World.layer, { excludeTestServices: true, timeout: "2 minutes" })("Joining by m.room.invite_join", (it) => {
  it.effect("a user of a draft server joins a public room, is seen by all its servers, and sends messages", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, blue, bob, dora, draft, red, room_id } = here
      const answer = yield* asks(here, asking(here, { more: { displayname: "Dora" } }))
      assert.hasAllKeys(answer, ["membership", "state", "auth_chain"])
      const membership = read(answer.membership)
      assert.deepStrictEqual([membership.sender, membership.state_key, membership.origin], [dora, dora, "red.test"])
      assert.deepStrictEqual(membership.content, { membership: "join", displayname: "Dora" })
      const types = answer.state.map(({ pdu_type }: Body) => pdu_type)
      for (const type of ["m.room.create", "m.room.power_levels", "m.room.join_rules"]) assert.include(types, type)
      assert.isFalse(answer.state.some(({ state_key }: Body) => state_key === dora))
      const known = [...answer.state, ...answer.auth_chain].map(({ origin, pdu_id }: Body) => `${pdu_id},${origin}`)
      for (const entry of answer.state) for (const id of entry.auth_pdus) assert.include(known, id.join(","))

      yield* allSee(here, "join")
      yield* say(alice, room_id, "welcome")
      yield* say(bob, room_id, "from blue too")
      for (const body of ["welcome", "from blue too"]) yield* draft.receives((event) => event.content.body === body)
      const word = draft.event(roomOf(here, answer), { sender: dora, content: { msgtype: "m.text", body: "thanks" } })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* draft.tell(server, word), [undefined])
      for (const person of [alice, bob]) yield* reads(person, room_id, "thanks")
      assert.deepStrictEqual(yield* stateOf(bob, room_id), yield* stateOf(alice, room_id))
    })
  )

  it.effect("a server that joins later accepts the membership too", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, bob } = here
      const { room_alias, room_id } = yield* createRoom(alice, {
        visibility: "public",
        room_alias_name: `later${scenes}`
      })
      assert.isDefined((yield* asks(here, asking(here, { roomId: room_id }))).membership)
      yield* join(bob, room_alias)
      const state = yield* stateOf(bob, room_id)
      assert.isDefined(state[`m.room.member ${here.dora}`])
      assert.deepStrictEqual(state, yield* stateOf(alice, room_id))
    })
  )

  it.effect("an invited user joins a private room by naming the invite", () =>
    Effect.gen(function* () {
      const here = yield* scene("private")
      const invite = yield* invited(here)
      assert.match((yield* asks(here, asking(here))).error, /names, in prev_pdus or auth_pdus, the membership/)
      const answer = yield* asks(here, asking(here, { named: [invite] }))
      assert.isDefined(answer.membership)
      yield* allSee(here, "join")
    })
  )

  it.effect("a repeat gets the same answer, later too, and makes no second membership", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, dora, draft, room_id } = here
      const [event, id] = [asking(here), `repeated${scenes}`]
      const first = yield* asks(here, event, id)
      yield* say(alice, room_id, "meanwhile")
      yield* expectOk(alice.ask("PUT", `/rooms/${encodeURIComponent(room_id)}/state/m.room.topic`, { topic: "new" }))
      assert.deepStrictEqual(yield* asks(here, event, id), first)
      // In other transactions, the same PDU and another.
      for (const again of [event, asking(here)]) {
        assert.deepStrictEqual((yield* asks(here, again)).membership, first.membership)
      }
      const joins = (yield* readBack(alice, room_id)).filter(isMember(dora, "join"))
      assert.strictEqual(joins.length, 1)

      // After leaving, the server reads nothing more of the room.
      yield* expectOk(change(alice, room_id, "kick", dora))
      const outside = yield* asks(here, event, id)
      assert.deepStrictEqual(outside, { errcode: "M_NOT_FOUND", error: `There is no room ${room_id}` })
      assert.match((yield* asks(here, event)).error, /names, in prev_pdus or auth_pdus, the membership/)
      const kick = yield* draft.receives(isDora(here, "leave") as (event: Event) => boolean)
      assert.isDefined((yield* asks(here, asking(here, { named: [kick] }))).membership)
    })
  )

  it.effect("a private room does not exist for uninvited users; a server answers for itself and for its users", () =>
    Effect.gen(function* () {
      const here = yield* scene("private")
      const { alice, draft, evil, red, room_id } = here
      const before = yield* stateOf(alice, room_id)
      const nowhere = yield* asks(here, asking(here, { roomId: "!nowhere:red.test" }))
      assert.deepStrictEqual(nowhere, { errcode: "M_NOT_FOUND", error: "There is no room !nowhere:red.test" })
      const hidden = { errcode: "M_NOT_FOUND", error: `There is no room ${room_id}` }
      assert.deepStrictEqual(yield* asks(here, asking(here)), hidden)
      yield* expectOk(change(alice, room_id, "ban", here.dora))
      assert.deepStrictEqual(yield* asks(here, asking(here)), hidden)

      for (const host of ["blue.test", "draft.test", "x".repeat(1000), 7, null]) {
        const name = typeof host === "string" && host.length < 20 ? host : "no server"
        assert.strictEqual(
          (yield* asks(here, asking(here, { host }))).error,
          `The target_host is ${name}; this is red.test`
        )
      }
      // In the name of who is in the room, and by somebody who only passes it on.
      const asAlice = asking(here, { by: evil, sender: alice.userId })
      assert.match((yield* asks(here, asAlice)).error, /is no user of evil.test/)
      const publicRoom = yield* scene()
      const passedOn = asking(publicRoom)
      assert.match((yield* evil.tell(red, passedOn))[0] ?? "taken", /There is no room|in the room/)
      const many = Array.from({ length: 6 }, () => asking(publicRoom))
      const { body } = yield* draft.send(red, many.map(version.toPdu))
      assert.deepStrictEqual(
        many.map((event) => answerOf({ body }, event).errcode),
        [undefined, undefined, undefined, undefined, undefined, "M_LIMIT_EXCEEDED"]
      )
      assert.deepStrictEqual(
        Object.keys(yield* stateOf(alice, room_id)),
        [...Object.keys(before), `m.room.member ${here.dora}`].sort()
      )
    })
  )

  it.effect("a membership is accepted once from any host that was asked, and from no other", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, blue, bob, dora, draft, evil, red, room_id } = here
      const room = yield* evil.join(red, room_id, `@mallory${scenes}:evil.test`)
      yield* sees(bob, (event) => event.room_id === room_id && isMember(`@mallory${scenes}:evil.test`, "join")(event))
      const asked = asking(here, { host: "evil.test" })
      const made = (inviteJoin: Event, changes: Body = {}, prevEvents = room.extremities): Event =>
        evil.event(room, { ...version.membershipFor(inviteJoin), ...changes }, { prevEvents })
      const refused = Effect.fnUntraced(function* (event: Event, reason: RegExp) {
        for (const server of [red, blue]) assert.match((yield* evil.tell(server, event))[0] ?? "taken", reason)
      })

      const before = yield* stateOf(alice, room_id)
      const notSender = /comes from the server of its sender/
      yield* refused(made(asked, { invite_join: undefined }), notSender)
      yield* refused(made(asking(here)), notSender)
      yield* refused(made(asking(here, { host: "evil.test", roomId: "!other:red.test" })), notSender)
      const other = version.toPdu(asking(here, { host: "evil.test", sender: `@other${scenes}:draft.test` }))
      yield* refused(made(asked, { invite_join: other }), notSender)
      yield* refused(made(asked, { content: { membership: "leave" } }), notSender)
      const signed = { ...asked.signatures, "draft.test": evil.forge(asked, {}).signatures["draft.test"]! }
      yield* refused(made({ ...asked, signatures: signed }), /wrong signature|no signature/)
      const victim = { sender: bob.userId, origin: "blue.test", event_id: "$forged:blue.test" }
      yield* refused(made(evil.forge(asked, victim)), /signature/)
      assert.deepStrictEqual(yield* stateOf(alice, room_id), before)
      assert.deepStrictEqual(yield* stateOf(bob, room_id), before)

      // Asked, it makes the membership, and adds no words to it.
      const first = made(asked, { content: { membership: "join", displayname: "a lie" } })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, first), [undefined])
      for (const seen of yield* allSee(here, "join")) assert.deepStrictEqual(seen.content, { membership: "join" })

      // A user who left stays outside, wherever and whenever the host says that the join belongs.
      const inRoom = { roomId: room_id, state: new Map(room.state), extremities: [first] }
      inRoom.state.set(stateKeyOf(first.type, dora), first)
      const goodbye = { type: "m.room.member", state_key: dora, sender: dora, content: { membership: "leave" } }
      const left = draft.event(inRoom, goodbye)
      for (const server of [red, blue]) assert.deepStrictEqual(yield* draft.tell(server, left), [undefined])
      yield* allSee(here, "leave")
      const notAgain = /names, in prev_pdus or auth_pdus, the membership/
      yield* refused(made(asked), notAgain)
      yield* refused(made(asked, {}, [left]), notAgain)
      const back = evil.event(
        { ...inRoom, state: new Map(inRoom.state).set(stateKeyOf(left.type, dora), left) },
        version.membershipFor(asked),
        { prevEvents: [left] }
      )
      yield* refused(back, notAgain)
      // Nor does an invite that nobody takes up bring Dora back.
      yield* invited(here)
      yield* allSee(here, "invite")
      yield* refused(made(asked), notAgain)

      const words = yield* say(alice, room_id, "is she there?")
      yield* sees(bob, (event) => event.event_id === words)
      for (const person of [alice, bob]) {
        const state = yield* expectOk(person.ask("GET", `/rooms/${encodeURIComponent(room_id)}/state`))
        assert.isFalse(state.some(isMember(dora, "join")))
      }
      assert.isFalse(draft.received.some((event) => isOfRoom(here, event) && event.event_id === words))
    })
  )
})
