/**
 * Joins by m.room.invite_join: a server that implements only the draft requests the membership of its user from another server. Every
 * server of the room accepts the membership because of the signature of the user's server, and refuses forged ones.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { localpartOf } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import { type HostileRoom, HostileServer } from "./support/HostileServer.ts"
import {
  change,
  createRoom,
  expectOk,
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

interface ServersShape extends Network {
  /** Implements only the draft. */
  readonly draft: HostileServer
  /** Joins rooms by the handshake, and sends forged memberships. */
  readonly evil: HostileServer
}

class Servers extends Context.Service<Servers, ServersShape>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(
    Servers,
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

/** Alice of red and Bob of blue in a room. Dora, a user of the server that implements only the draft, is not in it. */
const scene = Effect.fnUntraced(function* (visibility: "public" | "private" = "public") {
  const { draft, evil, servers } = yield* Servers
  const [red, blue] = servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_id } = yield* createRoom(alice, { visibility })
  yield* expectOk(change(alice, room_id, "invite", bob.userId))
  yield* sees(bob, (event) => event.room_id === room_id && isMember(bob.userId, "invite")(event))
  yield* join(bob, room_id)
  // The draft server countersigns every invite.
  draft.respond = ({ body, path }) =>
    path.startsWith("/invite/")
      ? { status: 200, body: { event: version.toPdu(version.sign(read(body), draft.key)) } }
      : { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "Not in the draft" } }
  return { draft, evil, red, blue, alice, bob, room_id, dora: `@dora${number}:draft.test` }
})

type Scene = Effect.Success<ReturnType<typeof scene>>

const read = (pdu: unknown): Event => Result.getOrThrow(version.fromPdu(pdu))

interface InviteJoinOptions {
  readonly host?: unknown
  readonly sender?: string
  /** The events that the request names as predecessors. */
  readonly named?: ReadonlyArray<Event>
  readonly more?: Body
  readonly roomId?: string
  readonly by?: HostileServer
}

/** The m.room.invite_join by which Dora requests her membership from red or another server. */
const inviteJoin = (
  here: Scene,
  { by = here.draft, host = "red.test", more, named = [], roomId, sender }: InviteJoinOptions = {}
) =>
  by.event(
    { roomId: roomId ?? here.room_id, state: new Map(), extremities: named },
    { type: "m.room.invite_join", sender: sender ?? here.dora, content: { target_host: host as string, ...more } }
  )

const answerOf = ({ body }: { readonly body: Body }, event: Event): Body =>
  body.pdus[`${localpartOf(event.event_id)},${event.origin}`]

/** Sends the PDU to red. Returns the answer for it. */
const request = (here: Scene, event: Event, transactionId?: string): Effect.Effect<Body> =>
  Effect.map(
    (event.origin === "evil.test" ? here.evil : here.draft).send(
      here.red,
      [version.toPdu(event)],
      transactionId === undefined ? {} : { transactionId }
    ),
    (answer) => answerOf(answer, event)
  )

/** The room with the state in the answer. */
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

/** Waits until Alice and Bob see the membership of Dora. */
const allSee = (here: Scene, membership: string) =>
  Effect.all([sees(here.alice, isDora(here, membership)), sees(here.bob, isDora(here, membership))])

/** Invites Dora. Returns the invite that her server has received. */
const invited = Effect.fnUntraced(function* (here: Scene) {
  yield* expectOk(change(here.alice, here.room_id, "invite", here.dora))
  return yield* here.draft.receives(isDora(here, "invite") as (event: Event) => boolean)
})

const isOfRoom = (here: Scene, event: Event) => event.room_id === here.room_id

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Joins by m.room.invite_join", (it) => {
  it.effect("a user of a draft server joins a public room and sends messages to all its servers", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, blue, bob, dora, draft, red, room_id } = here
      const answer = yield* request(here, inviteJoin(here, { more: { displayname: "Dora" } }))
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
      const message = draft.event(roomOf(here, answer), {
        sender: dora,
        content: { msgtype: "m.text", body: "thanks" }
      })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* draft.tell(server, message), [undefined])
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
      assert.isDefined((yield* request(here, inviteJoin(here, { roomId: room_id }))).membership)
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
      assert.match((yield* request(here, inviteJoin(here))).error, /names, in prev_pdus or auth_pdus, the membership/)
      const answer = yield* request(here, inviteJoin(here, { named: [invite] }))
      assert.isDefined(answer.membership)
      yield* allSee(here, "join")
    })
  )

  it.effect("a repeated request gets the same answer and makes no second membership", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, dora, draft, room_id } = here
      const [event, id] = [inviteJoin(here), `repeated${scenes}`]
      const first = yield* request(here, event, id)
      yield* say(alice, room_id, "meanwhile")
      yield* expectOk(alice.ask("PUT", `/rooms/${encodeURIComponent(room_id)}/state/m.room.topic`, { topic: "new" }))
      assert.deepStrictEqual(yield* request(here, event, id), first)
      // The same PDU and another one, in new transactions.
      for (const again of [event, inviteJoin(here)]) {
        assert.deepStrictEqual((yield* request(here, again)).membership, first.membership)
      }
      const joins = (yield* readBack(alice, room_id)).filter(isMember(dora, "join"))
      assert.strictEqual(joins.length, 1)

      // After the removal of its user the server cannot read the room.
      yield* expectOk(change(alice, room_id, "kick", dora))
      const outside = yield* request(here, event, id)
      assert.deepStrictEqual(outside, { errcode: "M_NOT_FOUND", error: `There is no room ${room_id}` })
      assert.match((yield* request(here, event)).error, /names, in prev_pdus or auth_pdus, the membership/)
      const kick = yield* draft.receives(isDora(here, "leave") as (event: Event) => boolean)
      assert.isDefined((yield* request(here, inviteJoin(here, { named: [kick] }))).membership)
    })
  )

  it.effect("requests of uninvited users, for other hosts, or in the name of other servers are refused", () =>
    Effect.gen(function* () {
      const here = yield* scene("private")
      const { alice, draft, evil, red, room_id } = here
      const before = yield* stateOf(alice, room_id)
      const nowhere = yield* request(here, inviteJoin(here, { roomId: "!nowhere:red.test" }))
      assert.deepStrictEqual(nowhere, { errcode: "M_NOT_FOUND", error: "There is no room !nowhere:red.test" })
      const hidden = { errcode: "M_NOT_FOUND", error: `There is no room ${room_id}` }
      assert.deepStrictEqual(yield* request(here, inviteJoin(here)), hidden)
      yield* expectOk(change(alice, room_id, "ban", here.dora))
      assert.deepStrictEqual(yield* request(here, inviteJoin(here)), hidden)

      for (const host of ["blue.test", "draft.test", "x".repeat(1000), 7, null]) {
        const name = typeof host === "string" && host.length < 20 ? host : "no server"
        assert.strictEqual(
          (yield* request(here, inviteJoin(here, { host }))).error,
          `The target_host is ${name}; this is red.test`
        )
      }
      // Requests in the name of a member, and passed on by another server.
      const asAlice = inviteJoin(here, { by: evil, sender: alice.userId })
      assert.match((yield* request(here, asAlice)).error, /is not a user of evil.test/)
      const publicRoom = yield* scene()
      const passedOn = inviteJoin(publicRoom)
      assert.match((yield* evil.tell(red, passedOn))[0] ?? "taken", /There is no room|in the room/)
      const many = Array.from({ length: 6 }, () => inviteJoin(publicRoom))
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

  it.effect("a membership is accepted once, from the requested host alone", () =>
    Effect.gen(function* () {
      const here = yield* scene()
      const { alice, blue, bob, dora, draft, evil, red, room_id } = here
      const room = yield* evil.join(red, room_id, `@mallory${scenes}:evil.test`)
      yield* sees(bob, (event) => event.room_id === room_id && isMember(`@mallory${scenes}:evil.test`, "join")(event))
      const requested = inviteJoin(here, { host: "evil.test" })
      const made = (requestEvent: Event, changes: Body = {}, prevEvents = room.extremities): Event =>
        evil.event(room, { ...version.membershipFor(requestEvent), ...changes }, { prevEvents })
      const refused = Effect.fnUntraced(function* (event: Event, reason: RegExp) {
        for (const server of [red, blue]) assert.match((yield* evil.tell(server, event))[0] ?? "taken", reason)
      })

      const before = yield* stateOf(alice, room_id)
      const notSender = /comes from the server of its sender/
      yield* refused(made(requested, { invite_join: undefined }), notSender)
      yield* refused(made(inviteJoin(here)), notSender)
      yield* refused(made(inviteJoin(here, { host: "evil.test", roomId: "!other:red.test" })), notSender)
      const other = version.toPdu(inviteJoin(here, { host: "evil.test", sender: `@other${scenes}:draft.test` }))
      yield* refused(made(requested, { invite_join: other }), notSender)
      yield* refused(made(requested, { content: { membership: "leave" } }), notSender)
      const signed = { ...requested.signatures, "draft.test": evil.forge(requested, {}).signatures["draft.test"]! }
      yield* refused(made({ ...requested, signatures: signed }), /wrong signature|no signature/)
      const victim = { sender: bob.userId, origin: "blue.test", event_id: "$forged:blue.test" }
      yield* refused(made(evil.forge(requested, victim)), /signature/)
      assert.deepStrictEqual(yield* stateOf(alice, room_id), before)
      assert.deepStrictEqual(yield* stateOf(bob, room_id), before)

      // The requested host makes the membership. Content that it adds is dropped.
      const first = made(requested, { content: { membership: "join", displayname: "added" } })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, first), [undefined])
      for (const seen of yield* allSee(here, "join")) assert.deepStrictEqual(seen.content, { membership: "join" })

      // The request is used. A user who left does not join again, whatever predecessors the membership has.
      const inRoom = { roomId: room_id, state: new Map(room.state), extremities: [first] }
      inRoom.state.set(stateKeyOf(first.type, dora), first)
      const goodbye = { type: "m.room.member", state_key: dora, sender: dora, content: { membership: "leave" } }
      const left = draft.event(inRoom, goodbye)
      for (const server of [red, blue]) assert.deepStrictEqual(yield* draft.tell(server, left), [undefined])
      yield* allSee(here, "leave")
      const notAgain = /names, in prev_pdus or auth_pdus, the membership/
      yield* refused(made(requested), notAgain)
      yield* refused(made(requested, {}, [left]), notAgain)
      const back = evil.event(
        { ...inRoom, state: new Map(inRoom.state).set(stateKeyOf(left.type, dora), left) },
        version.membershipFor(requested),
        { prevEvents: [left] }
      )
      yield* refused(back, notAgain)
      // An invite that Dora has not accepted does not make it valid again.
      yield* invited(here)
      yield* allSee(here, "invite")
      yield* refused(made(requested), notAgain)

      const last = yield* say(alice, room_id, "last")
      yield* sees(bob, (event) => event.event_id === last)
      for (const person of [alice, bob]) {
        const state = yield* expectOk(person.ask("GET", `/rooms/${encodeURIComponent(room_id)}/state`))
        assert.isFalse(state.some(isMember(dora, "join")))
      }
      assert.isFalse(draft.received.some((event) => isOfRoom(here, event) && event.event_id === last))
    })
  )
})
