/**
 * Events that a hostile server makes up, alters or sends in the name of another server are refused, in rooms of versions 6, 11 and 12.
 * `DraftForgedEvents.test.ts` has these tests for the draft's dialect.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Effect, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { exchangeMessages, leavesRoomUnchanged, refusalsOf, refused } from "./support/HostileNetwork.ts"
import { type HostileRoom, notFound } from "./support/HostileServer.ts"
import { change, endBackoff, expectOk, isMember, readBack, say, sees, setState } from "./support/Network.ts"
import { forgedSignature, levelsOf, memberOf, Servers, sceneOf, versions } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Forged events", (it) => {
  for (const version of versions) {
    const scene = sceneOf(version)
    const named = (text: string) => `version ${version}: ${text}`

    it.effect(named("requests in the name of another server, or for another server, are refused"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, evil, mallory, red } = here
        yield* leavesRoomUnchanged(
          here,
          Effect.gen(function* () {
            const pdu = evil.toPdu(evil.event(here.room, { sender: mallory }))
            const transaction = { origin: "blue.test", origin_server_ts: 1, pdus: [pdu], edus: [] }
            const ask = (id: string, overrides: Body) => evil.ask(red, "PUT", `/v1/send/${id}`, transaction, overrides)
            assert.strictEqual((yield* ask("t1", { head: { origin: blue.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t2", { head: { origin: red.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t3", { head: { destination: blue.serverName } })).status, 401)
            assert.strictEqual((yield* ask("t4", { head: { uri: "/_matrix/federation/v1/send/t5" } })).status, 401)
            assert.strictEqual((yield* ask("t6", { head: { method: "GET" } })).status, 401)
            assert.strictEqual((yield* ask("t7", { authorization: "" })).status, 401)
            assert.strictEqual((yield* ask("t8", {})).status, 400)
            const asAlice = evil.event(here.room, { sender: alice.userId })
            yield* refused(here, [asAlice], /signature/)
            yield* forgedSignature(here, evil.remake(asAlice, {}, [red.serverName]))
          })
        )
      })
    )

    it.effect(named("altered messages of others are refused or redacted"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, blue, bob, cut, evil, mend, red, room_id } = here
        yield* cut(red, blue)
        const id = yield* say(alice, room_id, "the original")
        const original = evil.toPdu(yield* evil.receives(({ event_id }) => event_id === id))
        const send = (changes: Body) => evil.send(blue, [{ ...original, ...changes }])
        // With the original hash the event keeps its ID and is redacted. With another hash it is another event, without a valid signature.
        yield* send({ content: { msgtype: "m.text", body: "altered" } })
        const { body } = yield* send({ hashes: { sha256: "A".repeat(43) } })
        assert.isNotEmpty(body.pdus)
        for (const answer of Object.values(body.pdus)) assert.match((answer as Body).error, /signature/)
        yield* mend(red, blue)
        yield* endBackoff([alice, bob])
        yield* exchangeMessages(here)
        for (const person of [alice, bob]) {
          const bodies = (yield* readBack(person, room_id)).map(({ content }) => content.body)
          assert.notInclude(bodies, "altered")
        }
      })
    )

    it.effect(named("users without the power cannot add, remove or ban members, nor change power levels"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, mallory, room: known } = here
        const stranger = "@stranger:evil.test"
        const escalation = { type: "m.room.power_levels", state_key: "", content: levelsOf(here, { [mallory]: 100 }) }
        yield* leavesRoomUnchanged(
          here,
          Effect.gen(function* () {
            yield* refused(here, [memberOf(here, "@victim:blue.test", "join")], /join for themselves/)
            yield* refused(here, [memberOf(here, alice.userId, "leave")], /kick|lower/)
            yield* refused(here, [memberOf(here, bob.userId, "ban"), memberOf(here, alice.userId, "ban")], /ban/)
            yield* refused(here, [evil.event(known, { sender: stranger })], /in the room/)
            const escalated = evil.event(known, { ...escalation, sender: mallory })
            yield* refused(here, [escalated], /power level/)
            // A rejected event authorises nothing, neither as an auth event nor as a predecessor.
            const after = { prevEvents: [escalated], state: [escalated] }
            const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
            yield* refused(here, [evil.event(known, topic, after)], /./)
            yield* refused(here, [evil.event(known, topic, { prevEvents: [escalated] })], /power level/)
            // A room has one m.room.create event.
            const create = { type: "m.room.create", state_key: "", sender: mallory, content: { room_version: version } }
            if (version !== "12") yield* refused(here, [evil.event(known, create)], /./)
          })
        )
      })
    )

    it.effect(
      named(
        "a third-party invite needs the key of the token, the user that it was signed for, and the sender of the token"
      ),
      () =>
        Effect.gen(function* () {
          const here = yield* scene
          const { alice, bob, evil, mallory, room: known, room_id } = here
          const key = generateSigningKey("identity.test" as never, "ed25519:0")
          const otherKey = generateSigningKey("identity.test" as never, "ed25519:0")
          const public_key = encodeBase64(exportVerifyKey(verifyKeyOf(key)))
          const stored = { display_name: "m...", key_validity_url: "https://identity.test/valid", public_key }
          yield* expectOk(setState(alice, room_id, "m.room.third_party_invite", stored, "token"))
          const tokenEvent = yield* evil.receives(
            (event) => event.type === "m.room.third_party_invite" && event.room_id === room_id
          )
          yield* sees(bob, (event) => event.event_id === tokenEvent.event_id)
          const sign = (mxid: string, by = key, token = "token") =>
            Result.getOrThrow(signJson({ mxid, token, sender: alice.userId }, by))
          const invited = `@invited${here.number}:evil.test`
          const invite = (signed: Body, sender = alice.userId, state_key = invited) =>
            evil.event(
              known,
              {
                type: "m.room.member",
                state_key,
                sender,
                content: { membership: "invite", third_party_invite: { display_name: "m...", signed } }
              },
              { prevEvents: [tokenEvent], state: [tokenEvent] }
            )
          yield* leavesRoomUnchanged(
            here,
            Effect.gen(function* () {
              yield* refused(here, [invite(sign(invited, otherKey))], /token|key|sign/)
              yield* refused(here, [invite(sign("@another:evil.test"))], /token|signed/)
              yield* refused(here, [invite(sign(invited), mallory)], /token/)
              yield* refused(here, [invite(sign(invited, key, "unknown"))], /token/)
              yield* refused(here, [invite({ mxid: invited, token: "token", signatures: {} })], /token/)
            })
          )
          yield* expectOk(change(alice, room_id, "ban", invited))
          const ban = yield* evil.receives(isMember(invited, "ban") as (event: Event) => boolean)
          yield* sees(bob, (event) => event.event_id === ban.event_id)
          const banned = evil.event(
            known,
            { ...invite(sign(invited)), sender: alice.userId },
            { prevEvents: [ban], state: [tokenEvent, ban] }
          )
          yield* refused(here, [banned], /banned/i)
          yield* exchangeMessages(here)
        })
    )

    it.effect(named("events of another room authorise nothing"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, evil, mallory, red, room: known } = here
        const otherId = yield* createRoom(alice, version, { power_level_content_override: { users_default: 100 } })
        const other = yield* evil.join(red, otherId, mallory)
        const levels = other.state.get("m.room.power_levels\0")!
        const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "evil" } }
        yield* leavesRoomUnchanged(
          here,
          Effect.gen(function* () {
            const borrowed = evil.event(known, topic, { state: [levels] })
            assert.notInclude(yield* refusalsOf(evil, red, [borrowed]), "taken")
            const across = evil.event(known, topic, { state: [...other.state.values()], prevEvents: other.extremities })
            assert.notInclude(yield* refusalsOf(evil, red, [across]), "taken")
          })
        )
      })
    )
  }

  it.effect("an event with the ID of an event in another room is refused, and both rooms stay usable", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* sceneOf("1"), yield* sceneOf("2")]
      const { blue, evil, mallory, red } = one
      const original = evil.event(one.room, { sender: mallory, content: { msgtype: "m.text", body: "one" } })
      for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, original), [undefined])
      const member = { type: "m.room.member", state_key: other.mallory, sender: other.mallory }
      const copies = [
        evil.event(other.room, { sender: other.mallory, content: { msgtype: "m.text", body: "other" } }),
        evil.event(other.room, { ...member, content: { membership: "join", displayname: "copy" } })
      ].map((event) => evil.rename(event, original.event_id))
      for (const copy of copies) {
        for (const server of [red, blue]) {
          assert.deepStrictEqual(yield* evil.tell(server, copy), [undefined])
          assert.match(server.log, /its ID is that of an event in another room/)
        }
      }
      yield* exchangeMessages(one)
      yield* exchangeMessages(other)
    })
  )

  it.effect("a room whose state has the IDs of many events in another room is joined without those events", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("1")
      const { alice, evil, mallory, number, red } = here
      const originals: Array<Event> = []
      for (let batch = 0; batch < 22; batch++) {
        const events = Array.from({ length: 50 }, () => {
          const event = evil.event(here.room, { sender: mallory })
          here.room.extremities = [event]
          return event
        })
        assert.deepStrictEqual([...new Set(yield* evil.tell(red, ...events))], [undefined])
        originals.push(...events)
      }
      const roomId = `!copies${number}:evil.test`
      const version = evil.useVersion(roomId, "1")
      const room: HostileRoom = { roomId, version, state: new Map(), extremities: [] }
      const host = `@host${number}:evil.test`
      const state = (type: string, state_key: string, sender: string, content: Body) => {
        const event = evil.event(room, { type, state_key, sender, content })
        room.state.set(stateKeyOf(type, state_key), event)
        room.extremities = [event]
        return event
      }
      const own = [
        state("m.room.create", "", host, { creator: host }),
        state("m.room.member", host, host, { membership: "join" }),
        state("m.room.join_rules", "", host, { join_rule: "public" })
      ]
      const copies = originals.map(({ event_id }, index) => {
        const user = `@copy${index}:evil.test`
        const content = { membership: "join" }
        const copy = evil.event(room, { type: "m.room.member", state_key: user, sender: user, content })
        return evil.rename(copy, event_id)
      })
      evil.respond = ({ body, path }) => {
        if (path.startsWith("/v1/make_join/")) {
          const content = { membership: "join" }
          const join = evil.event(room, {
            type: "m.room.member",
            state_key: alice.userId,
            sender: alice.userId,
            content
          })
          const { hashes: _hashes, signatures: _signatures, ...template } = evil.toPdu(join)
          return { status: 200, body: { room_version: "1", event: template } }
        }
        const pdus = (events: ReadonlyArray<Event>) => events.map((event) => evil.toPdu(event))
        return path.startsWith("/v2/send_join/")
          ? { status: 200, body: { event: body, state: pdus([...own, ...copies]), auth_chain: pdus(own) } }
          : notFound
      }
      yield* expectOk(joinThrough(alice, roomId, evil))
      const members = yield* expectOk(alice.ask("GET", `/rooms/${encodeURIComponent(roomId)}/members`))
      const joined = members.chunk.map(({ state_key }: Body) => state_key).sort()
      assert.deepStrictEqual(joined, [alice.userId, host].sort())
      yield* say(alice, roomId, "joined")
      yield* exchangeMessages(here)
    })
  )

  it.effect("EDUs about users of other servers, or of servers that m.room.server_acl denies, have no effect", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, bob, evil, mallory, red, room_id } = here
      const sync = (person: Person, since = "") =>
        expectOk(person.ask("GET", `//_matrix/client/v3/sync?timeout=0${since === "" ? "" : `&since=${since}`}`))
      const start = (yield* sync(alice)).next_batch
      const typing = (user_id: string) => ({ edu_type: "m.typing", content: { room_id, user_id, typing: true } })
      const event = yield* say(alice, room_id, "read this")
      const receipt = (userId: string, eventId = event) => ({
        edu_type: "m.receipt",
        content: { [room_id]: { "m.read": { [userId]: { data: { ts: 1 }, event_ids: [eventId] } } } }
      })
      const direct = {
        edu_type: "m.direct_to_device",
        content: {
          sender: bob.userId,
          type: "m.forged",
          message_id: "forged",
          messages: { [alice.userId]: { "*": { body: "forged" } } }
        }
      }
      const forged = [typing(bob.userId), typing(alice.userId), receipt(bob.userId), receipt(alice.userId), direct]
      assert.strictEqual((yield* evil.send(red, [], { edus: forged })).status, 200)
      const seen = yield* sync(alice, start)
      const ephemeral = JSON.stringify(seen.rooms?.join?.[room_id]?.ephemeral ?? {})
      for (const { userId } of [alice, bob]) assert.notInclude(ephemeral, userId)
      assert.deepStrictEqual(seen.to_device?.events ?? [], [])
      // EDUs about Mallory have an effect until the server is denied.
      assert.strictEqual((yield* evil.send(red, [], { edus: [receipt(mallory)] })).status, 200)
      const accepted = yield* sync(alice, start)
      assert.include(JSON.stringify(accepted.rooms.join[room_id].ephemeral), mallory)
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"], deny: ["evil.test"] }))
      const unread = yield* say(alice, room_id, "unread")
      const later = (yield* sync(alice)).next_batch
      assert.strictEqual((yield* evil.send(red, [], { edus: [typing(mallory), receipt(mallory, unread)] })).status, 200)
      const after = yield* sync(alice, later)
      assert.notInclude(JSON.stringify(after.rooms?.join?.[room_id]?.ephemeral ?? {}), mallory)
    })
  )
})
