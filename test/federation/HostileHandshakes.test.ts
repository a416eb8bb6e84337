/**
 * Requests of a hostile server that is not in a room, and its answers to joining servers: it cannot read the room, and false answers do
 * not add members.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Effect, Result, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import { exchangeMessages, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { type HostileRoom, imaginedHash, notFound } from "./support/HostileServer.ts"
import { change, expectOk, getState, type HomeServer, isMember, say, sees, setState } from "./support/Network.ts"
import { forgedSignature, room, Servers, sceneOf, versions } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Hostile handshakes", (it) => {
  for (const version of versions) {
    const scene = sceneOf(version)
    const named = (text: string) => `version ${version}: ${text}`

    it.effect(
      named("a server that is not in a room cannot read it, whether the room is private or the server was removed"),
      () =>
        Effect.gen(function* () {
          const here = yield* scene
          const { alice, evil, mallory, red, room: known, room_id } = here
          const secret = yield* createRoom(alice, version, { preset: "private_chat" })
          const secretId = yield* say(alice, secret, "a secret")
          const learnsNothing = Effect.fnUntraced(function* (roomId: string, eventId: string) {
            const id = encodeURIComponent(eventId)
            for (const path of [
              `/v1/event/${id}`,
              room("state", roomId, `?event_id=${id}`),
              room("state_ids", roomId, `?event_id=${id}`),
              room("event_auth", roomId, `/${id}`),
              room("backfill", roomId, `?v=${id}&limit=10`),
              room("timestamp_to_event", roomId, `?ts=1&dir=f`)
            ]) {
              const { body, status } = yield* evil.ask(red, "GET", path)
              const refusal = path.startsWith("/v1/state_ids/") ? [403, "M_FORBIDDEN"] : [404, "M_NOT_FOUND"]
              assert.deepStrictEqual([path, status, body.errcode], [path, ...refusal])
            }
            const missing = { earliest_events: [], latest_events: [eventId], limit: 10 }
            assert.strictEqual((yield* evil.ask(red, "POST", room("get_missing_events", roomId), missing)).status, 404)
          })
          yield* learnsNothing(secret, secretId)
          for (const handshake of ["make_join", "make_leave", "make_knock"]) {
            const path = room(handshake, secret, `/${encodeURIComponent(mallory)}?ver=${version}`)
            assert.include([403, 404], (yield* evil.ask(red, "GET", path)).status)
            for (const other of [alice.userId, `@mallory:other.test:8448`]) {
              const { body } = yield* evil.ask(red, "GET", room(handshake, room_id, `/${encodeURIComponent(other)}`))
              assert.deepStrictEqual([other, body.errcode], [other, "M_FORBIDDEN"])
            }
          }
          const outside = { ...known, roomId: secret, extremities: [imaginedHash(5)] }
          const intrusion = evil.event(outside, {
            type: "m.room.member",
            state_key: mallory,
            sender: mallory,
            content: { membership: "join" }
          })
          const pdu = { ...known.version!.toPdu(intrusion) }
          const path = `/v2/send_join/${encodeURIComponent(secret)}/${encodeURIComponent(intrusion.event_id)}`
          const sent = yield* evil.ask(red, "PUT", path, pdu)
          assert.include([403, 404], sent.status)
          assert.isUndefined(sent.body.state)
          const { body } = yield* evil.send(red, [pdu])
          assert.isNotEmpty(body.pdus)
          for (const answer of Object.values(body.pdus)) assert.match((answer as Body).error, /There is no room/)

          yield* expectOk(change(alice, room_id, "kick", mallory))
          const later = yield* say(alice, room_id, "mallory is gone")
          yield* learnsNothing(room_id, later)
          assert.isFalse(evil.received.some(({ event_id }) => event_id === later || event_id === secretId))
          yield* exchangeMessages(here)
        })
    )

    it.effect(named("a room whose server answers with a wrong room ID, user, version or state is not joined"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, bob, evil, red, room: known, room_id } = here
        const curious = yield* red.register(`curious${here.number}`)
        // No server has this room.
        const target = version === "12" ? `!${"A".repeat(43)}` : `!trap${here.number}:evil.test`
        const template = { type: "m.room.member", room_id: target, sender: curious.userId, state_key: curious.userId }
        const made = { ...template, content: { membership: "join" }, depth: 5, prev_events: [], auth_events: [] }
        const state = [...known.state.values()]
        const create = known.state.get("m.room.create\0")!
        const forged = evil.remake(create, version === "12" ? {} : { room_id: target }, [red.serverName])
        const asAlice = { ...evil.toPdu(create), room_id: target }
        const pdus = (events: ReadonlyArray<Event>) => events.map((event) => evil.toPdu(event))
        const honest: Body = { room_version: version, event: made }
        const malformed: ReadonlyArray<Body> = [
          { room_version: version, event: { ...made, content: { membership: "leave" } } },
          { room_version: version, event: { ...made, room_id: here.room_id } },
          { room_version: version, event: { ...made, sender: alice.userId } },
          { room_version: version, event: { ...made, state_key: alice.userId } },
          { room_version: version, event: { ...made, type: "m.room.power_levels" } },
          { room_version: "nonsense", event: made }
        ]
        const makes = [...malformed, honest, { room_version: version === "11" ? "10" : "11", event: made }]
        const states: ReadonlyArray<Body> = [
          { state: pdus(state), auth_chain: pdus(state) },
          { state: [asAlice], auth_chain: [asAlice] },
          { state: pdus([forged]), auth_chain: pdus([forged]) },
          { state: [], auth_chain: [] },
          { state: [7, null, {}], auth_chain: [{}] },
          {}
        ]
        for (const make of makes) {
          const before = evil.asked.length
          for (const body of make === honest ? states : states.slice(0, 1)) {
            evil.respond = ({ path }) =>
              path.startsWith("/v1/make_join")
                ? { status: 200, body: make }
                : path.includes("/send_join")
                  ? { status: 200, body }
                  : notFound
            const asked = `//_matrix/client/v3/join/${encodeURIComponent(target)}?via=evil.test`
            const { status } = yield* curious.ask("POST", asked, {})
            assert.include([400, 403, 404], status, JSON.stringify(make).slice(0, 200))
          }
          const isSent = evil.asked.slice(before).some((path) => path.includes("/send_join"))
          assert.isFalse(isSent && malformed.includes(make), JSON.stringify(make).slice(0, 200))
        }
        const unknownVersion = {
          errcode: "M_INCOMPATIBLE_ROOM_VERSION",
          error: "It has version 99",
          room_version: "99"
        }
        evil.respond = () => ({ status: 400, body: unknownVersion })
        const newer = `//_matrix/client/v3/join/${encodeURIComponent(`!newer${here.number}:evil.test`)}?via=evil.test`
        assert.strictEqual((yield* curious.ask("POST", newer, {})).body.errcode, "M_INCOMPATIBLE_ROOM_VERSION")
        const { joined_rooms } = yield* expectOk(curious.ask("GET", "//_matrix/client/v3/joined_rooms"))
        assert.deepStrictEqual(joined_rooms, [])
        yield* exchangeMessages({ alice, bob, room_id })
      })
    )

    it.effect(
      named("a refused join is refused again when it is repeated, and no answer shows events of the room"),
      () =>
        Effect.gen(function* () {
          const { alice, evil, mallory, red, room: known, room_id } = yield* scene
          yield* expectOk(change(alice, room_id, "ban", mallory))
          yield* evil.receives((event) => event.room_id === room_id && isMember(mallory, "ban")(event))
          yield* expectOk(
            alice.ask("PUT", `/rooms/${encodeURIComponent(room_id)}/state/m.room.topic`, { topic: "after the ban" })
          )
          // A banned user may learn the ID of an event from a link.
          const event_id = (yield* say(alice, room_id, "after the ban")) as EventId
          const join = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "join" } }
          const joins = [evil.event(known, join), evil.event(known, join, { prevEvents: [{ event_id, depth: 1_000 }] })]
          for (const event of joins) {
            const pdu = evil.toPdu(event)
            for (const path of ["v1", "v2", "v2"]) {
              const asked = `/${path}/send_join/${encodeURIComponent(room_id)}/${encodeURIComponent(event.event_id)}`
              const { body, status, text } = yield* evil.ask(red, "PUT", asked, pdu)
              assert.deepStrictEqual([status, body.errcode], [403, "M_FORBIDDEN"])
              assert.notInclude(text, "after the ban")
            }
          }
        })
    )

    it.effect(named("a join that was refused for the state that came with it is accepted with the whole state"), () =>
      Effect.gen(function* () {
        const { evil, mallory, number, red } = yield* scene
        const guest = yield* red.register(`guest${number}`)
        const format = roomVersion(version)!
        const proposal = { type: "m.room.create", state_key: "", sender: mallory as UserId, content: {} }
        const create = Result.getOrThrow(format.createRoom(proposal, evil.key, Date.now()))
        const own: HostileRoom = { roomId: create.room_id, version: format, state: new Map(), extremities: [create] }
        const append = (event: Event) => {
          own.state.set(stateKeyOf(event.type, event.state_key!), event)
          own.extremities = [event]
        }
        append(create)
        for (const [type, state_key, content] of [
          ["m.room.member", mallory, { membership: "join" }],
          ["m.room.join_rules", "", { join_rule: "public" }]
        ] as const) {
          append(evil.event(own, { type, state_key, sender: mallory, content }))
        }
        const proposed = { type: "m.room.member", state_key: guest.userId, content: { membership: "join" } }
        const template = format.toTemplate(evil.event(own, { ...proposed, sender: guest.userId }))
        const state = [...own.state.values()]
        const answers = (given: ReadonlyArray<Event>) => {
          const pdus = given.map(format.toPdu)
          evil.respond = ({ body, path }) =>
            path.startsWith("/v1/make_join")
              ? { status: 200, body: { room_version: version, event: template } }
              : path.includes("/send_join")
                ? { status: 200, body: { state: pdus, auth_chain: pdus, event: redactedJoin(body as Body) } }
                : notFound
        }
        // The server returns the join without its content: it keeps what our user has sent.
        const redactedJoin = (join: Body) => ({ ...join, content: { membership: "join" } })
        const name = { displayname: "The Guest" }
        yield* expectOk(guest.ask("PUT", `//_matrix/client/v3/profile/${guest.userId}/displayname`, name))
        answers(state.slice(0, -1))
        const join = joinThrough(guest, own.roomId, evil)
        assert.strictEqual((yield* join).status, 403)
        answers(state)
        yield* expectOk(join)
        const known: ReadonlyArray<Body> = yield* expectOk(
          guest.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(own.roomId)}/state`)
        )
        const others = known.filter(({ state_key }) => state_key !== guest.userId).map(({ event_id }) => event_id)
        assert.sameMembers(
          others,
          state.map(({ event_id }) => event_id)
        )
        assert.lengthOf(known, state.length + 1)
        const joined = known.find(({ state_key }) => state_key === guest.userId)
        assert.strictEqual(joined?.content.displayname, name.displayname)
      })
    )

    if (version !== "6") {
      it.effect(named("a restricted room accepts only joins that one of its members has authorised"), () =>
        Effect.gen(function* () {
          const here = yield* scene
          const { alice, blue, bob, evil, red, number } = here
          const club = yield* createRoom(alice, version)
          const guarded = yield* createRoom(alice, version, {
            initial_state: [
              {
                type: "m.room.join_rules",
                state_key: "",
                content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] }
              }
            ]
          })
          yield* expectOk(joinThrough(bob, club, red))
          yield* expectOk(joinThrough(bob, guarded, red))
          yield* sees(alice, (event) => event.room_id === guarded && isMember(bob.userId, "join")(event))
          const spy = `@spy${number}:evil.test`
          // The spy is in the club and may join. The intruder, a user of the same server, is not in the club.
          yield* evil.join(red, club, spy)
          const known = yield* evil.join(red, guarded, spy)
          yield* sees(bob, (event) => event.room_id === guarded && isMember(spy, "join")(event))
          const intruder = `@intruder${number}:evil.test`
          const joinOf = (content: Body, signers: ReadonlyArray<string> = []) =>
            evil.remake(
              evil.event(known, {
                type: "m.room.member",
                state_key: intruder,
                sender: intruder,
                content: { membership: "join", ...content }
              }),
              {},
              signers
            )
          const guardedScene = { evil, red, blue, alice, bob, room_id: guarded }
          const make = room("make_join", guarded, `/${encodeURIComponent(intruder)}?ver=${version}`)
          yield* leavesRoomUnchanged(
            guardedScene,
            Effect.gen(function* () {
              assert.strictEqual((yield* evil.ask(red, "GET", make)).status, 403)
              const authorised = { join_authorised_via_users_server: alice.userId }
              yield* refused(guardedScene, [joinOf({})], /invite to join|authorised/)
              yield* refused(guardedScene, [joinOf(authorised)], /signature/)
              yield* forgedSignature(guardedScene, joinOf(authorised, [red.serverName]))
              yield* refused(guardedScene, [joinOf({ join_authorised_via_users_server: spy })], /authorised|invite/)
              yield* refused(
                guardedScene,
                [joinOf({ join_authorised_via_users_server: "@nobody:evil.test" })],
                /authorised|invite/
              )
              for (const content of [{}, authorised, { join_authorised_via_users_server: spy }]) {
                const join = joinOf(content)
                const path = `/v2/send_join/${encodeURIComponent(guarded)}/${encodeURIComponent(join.event_id)}`
                for (let attempt = 0; attempt < 2; attempt++) {
                  const { body, status } = yield* evil.ask(red, "PUT", path, evil.toPdu(join))
                  assert.strictEqual(status, 403)
                  assert.isUndefined(body.event)
                }
              }
            })
          )
          // Bob may not invite, and his server cannot authorise joins by Alice, who may.
          const levels = (yield* getState(alice, guarded, "m.room.power_levels")).body
          yield* expectOk(setState(alice, guarded, "m.room.power_levels", { ...levels, invite: 50 }))
          const second = `@second${number}:evil.test`
          yield* evil.join(red, club, second)
          const makeSecond = room("make_join", guarded, `/${encodeURIComponent(second)}?ver=${version}`)
          // Until the server has the levels and the join, it gives a template or knows no member of the club.
          const last = yield* Effect.repeat(evil.ask(blue, "GET", makeSecond), {
            until: ({ status }) => status === 400,
            schedule: Schedule.spaced("100 millis"),
            times: 100
          })
          assert.strictEqual(last.body.errcode, "M_UNABLE_TO_GRANT_JOIN")
        })
      )
    }
  }

  it.effect(
    "a user who has left is not in the room again because another user joins through a server that says so",
    () =>
      Effect.gen(function* () {
        const { evil, number, red } = yield* sceneOf("11")
        const [guest, host] = [yield* red.register(`guest${number}`), `@host${number}:evil.test`]
        const other = yield* red.register(`other${number}`)
        const roomId = `!stale${number}:evil.test`
        const version = evil.useVersion(roomId, "11")
        const known: HostileRoom = { roomId, version, state: new Map(), extremities: [] }
        const add = (event: Event) => {
          known.state.set(stateKeyOf(event.type, event.state_key!), event)
          known.extremities = [event]
        }
        const set = (type: string, state_key: string, content: Body) =>
          add(evil.event(known, { type, state_key, sender: host, content }))
        set("m.room.create", "", { room_version: "11" })
        set("m.room.member", host, { membership: "join" })
        set("m.room.join_rules", "", { join_rule: "public" })
        evil.respond = ({ body, method, path }) => {
          const user = /^\/v1\/make_join\/[^/]+\/([^?]+)/.exec(path)?.[1]
          if (user !== undefined) {
            const member = { type: "m.room.member", state_key: user, sender: user, content: { membership: "join" } }
            const { hashes: _hashes, signatures: _signatures, ...event } = evil.toPdu(evil.event(known, member))
            return { status: 200, body: { room_version: "11", event } }
          }
          if (method !== "PUT" || !path.startsWith("/v2/send_join/")) return notFound
          const state = [...known.state.values()].map((event) => evil.toPdu(event))
          add(Result.getOrThrow(version.fromPdu(body)))
          return { status: 200, body: { event: body, state, auth_chain: state } }
        }
        yield* expectOk(joinThrough(guest, roomId, evil))
        yield* expectOk(joinThrough(other, roomId, evil))
        const joined = yield* evil.receives(({ state_key }) => state_key === other.userId)
        yield* expectOk(change(other, roomId, "leave"))
        yield* expectOk(change(guest, roomId, "leave"))
        // The other user's join is in the state, and the leave is not.
        add(joined)
        yield* expectOk(joinThrough(guest, roomId, evil))
        const roomsOf = (person: typeof guest) =>
          Effect.map(
            expectOk(person.ask("GET", "//_matrix/client/v3/joined_rooms")),
            ({ joined_rooms }) => joined_rooms
          )
        assert.include(yield* roomsOf(guest), roomId)
        assert.notInclude(yield* roomsOf(other), roomId)
        const members = yield* expectOk(guest.ask("GET", `/rooms/${encodeURIComponent(roomId)}/members`))
        const joinedMembers = members.chunk.filter(({ content }: Body) => content.membership === "join")
        assert.notInclude(
          joinedMembers.map(({ state_key }: Body) => state_key),
          other.userId
        )
      })
  )

  it.effect("an invite with a wrong room version does not block the room", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red, blue] = servers as [HomeServer, HomeServer]
      const founder = yield* red.register("founder")
      const guest = yield* blue.register("guest")
      const roomId = yield* createRoom(founder, "11")
      const room = { roomId, state: new Map(), extremities: [imaginedHash()] }
      for (const room_version of ["3", "6", "4"]) {
        const version = evil.useVersion(roomId, room_version)
        const event = evil.event(
          { ...room, version },
          {
            type: "m.room.member",
            state_key: guest.userId,
            sender: "@liar:evil.test",
            content: { membership: "invite" }
          }
        )
        const path = `/v2/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
        const content = { event: evil.toPdu(event), room_version, invite_room_state: [] }
        const { body, status } = yield* evil.ask(blue, "PUT", path, content)
        assert.strictEqual(status, 200, JSON.stringify(body))
      }
      yield* expectOk(joinThrough(guest, roomId, red))
      yield* exchangeMessages({ alice: founder, bob: guest, room_id: roomId })
    })
  )

  it.effect("an invite by the first version of the endpoint is for a room of version 1 or 2", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const founder = yield* red.register("old-founder")
      const guest = yield* red.register("old-guest")
      const statusIn = Effect.fnUntraced(function* (id: string) {
        const roomId = yield* createRoom(founder, id)
        const room = yield* evil.join(red, roomId, "@old:evil.test")
        const membership = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" } }
        const event = evil.event(room, { ...membership, sender: "@old:evil.test" })
        const path = `/v1/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
        return (yield* evil.ask(red, "PUT", path, evil.toPdu(event))).status
      })
      const statuses = [yield* statusIn("1"), yield* statusIn("2"), yield* statusIn("3")]
      assert.deepStrictEqual(statuses, [200, 200, 400])
    })
  )

  it.effect("a server hands in memberships of its own users alone, each at its endpoint and by its ID", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, bob, evil, mallory, red, room: known, room_id } = here
      const memberOf = (userId: string, membership: string) =>
        evil.event(known, {
          type: "m.room.member",
          state_key: userId,
          sender: userId,
          content: { membership, displayname: "by evil.test" }
        })
      const handIn = Effect.fnUntraced(function* (endpoint: string, event: Event, eventId = event.event_id) {
        const path = `/v2/${endpoint}/${encodeURIComponent(room_id)}/${encodeURIComponent(eventId)}`
        const { body, status } = yield* evil.ask(red, "PUT", path, evil.toPdu(event))
        if (status !== 200) assert.isUndefined(body.state)
        return [status, body.errcode]
      })
      const own = memberOf(mallory, "join")
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          // The server of Alice adds its signature to joins, but not to hers.
          assert.deepStrictEqual(yield* handIn("send_join", memberOf(alice.userId, "join")), [403, "M_FORBIDDEN"])
          const bobs = known.state.get(stateKeyOf("m.room.member", bob.userId))!
          assert.deepStrictEqual(yield* handIn("send_join", bobs), [403, "M_FORBIDDEN"])
          assert.deepStrictEqual(yield* handIn("send_join", memberOf(mallory, "leave")), [400, "M_INVALID_PARAM"])
          assert.deepStrictEqual(yield* handIn("send_leave", own), [400, "M_INVALID_PARAM"])
          assert.deepStrictEqual(yield* handIn("send_join", own, imaginedHash().event_id), [400, "M_BAD_JSON"])
        })
      )
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"], deny: ["evil.test"] }))
      assert.deepStrictEqual(yield* handIn("send_join", own), [403, "M_FORBIDDEN"])
      for (const handshake of ["join", "leave"]) {
        const uri = `/v1/make_${handshake}/${encodeURIComponent(room_id)}/${encodeURIComponent(mallory)}?ver=11`
        assert.strictEqual((yield* evil.ask(red, "GET", uri)).body.errcode, "M_FORBIDDEN", handshake)
      }
      const guest = yield* red.register("kept-out-guest")
      const membership = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" } }
      const invite = evil.event(known, { ...membership, sender: mallory })
      const path = `/v2/invite/${encodeURIComponent(room_id)}/${encodeURIComponent(invite.event_id)}`
      const invitation = { event: evil.toPdu(invite), room_version: "11", invite_room_state: [] }
      assert.strictEqual((yield* evil.ask(red, "PUT", path, invitation)).status, 403)
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"] }))
      assert.strictEqual((yield* handIn("send_join", own))[0], 200)
    })
  )

  it.effect("a server takes no joins of a room that all of its users have left", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red } = yield* sceneOf("11")
      const roomId = yield* createRoom(alice, "11")
      const known = yield* evil.join(red, roomId, mallory)
      yield* expectOk(change(alice, roomId, "kick", mallory))
      yield* expectOk(alice.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/leave`, {}))
      const join = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "join" } }
      const event = evil.event(known, join)
      const make = room("make_join", roomId, `/${encodeURIComponent(mallory)}?ver=11`)
      const send = `/v2/send_join/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
      for (const { body, status } of [
        yield* evil.ask(red, "GET", make),
        yield* evil.ask(red, "PUT", send, evil.toPdu(event))
      ]) {
        assert.deepStrictEqual([status, body.errcode], [404, "M_NOT_FOUND"])
      }
    })
  )

  it.effect("the server of an invited user gets the invite once, and the event that ends it", () =>
    Effect.gen(function* () {
      const { evil, servers } = yield* Servers
      const [red] = servers as [HomeServer]
      const founder = yield* red.register("inviter")
      const roomId = yield* createRoom(founder, "11")
      const version = evil.useVersion(roomId, "11")
      const invited = "@once:evil.test"
      evil.respond = ({ body, path }) => {
        if (!path.startsWith("/v2/invite/")) return notFound
        return {
          status: 200,
          body: { event: version.toPdu(version.sign(Result.getOrThrow(version.fromPdu(body.event)), evil.key)) }
        }
      }
      const isMembership = (userId: string, membership: string) =>
        isMember(userId, membership) as (event: Event) => boolean
      yield* expectOk(change(founder, roomId, "invite", invited))
      yield* expectOk(change(founder, roomId, "kick", invited))
      yield* evil.receives(isMembership(invited, "leave"))
      assert.isFalse(evil.received.some(isMembership(invited, "invite")))
      // The server of users who are neither in the room nor invited gets no events about them.
      for (const stranger of [invited, "@stranger:evil.test"]) {
        yield* expectOk(change(founder, roomId, "ban", stranger))
      }
      const banned = "@banned:evil.test"
      yield* expectOk(change(founder, roomId, "invite", banned))
      yield* expectOk(change(founder, roomId, "ban", banned))
      yield* evil.receives(isMembership(banned, "ban"))
      assert.deepStrictEqual(
        evil.received
          .filter(({ room_id }) => room_id === roomId)
          .map(({ content, state_key }) => [state_key, content.membership]),
        [
          [invited, "leave"],
          [banned, "ban"]
        ]
      )
      evil.respond = () => notFound
    })
  )

  it.effect(
    "invites of one server are limited to its share of the pending invites, and other servers can still invite",
    () =>
      Effect.gen(function* () {
        const { evil, servers } = yield* Servers
        const [red, blue] = servers as [HomeServer, HomeServer]
        const guest = yield* blue.register("flooded")
        const invite = Effect.fnUntraced(function* (index: number) {
          const roomId = `!flood${index}:evil.test`
          const version = evil.useVersion(roomId, "11")
          const membership = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" } }
          const room = { roomId, version, state: new Map(), extremities: [imaginedHash()] }
          const event = evil.event(room, { ...membership, sender: "@flooder:evil.test" })
          const path = `/v2/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(event.event_id)}`
          const content = { event: evil.toPdu(event), room_version: "11", invite_room_state: [] }
          return yield* evil.ask(blue, "PUT", path, content)
        })
        const statuses = yield* Effect.forEach(
          Array.from({ length: 105 }, (_, index) => index),
          (index) => Effect.map(invite(index), ({ status }) => status)
        )
        assert.deepStrictEqual(statuses, [...Array(100).fill(200), ...Array(5).fill(403)])
        const founder = yield* red.register("honest")
        const roomId = yield* createRoom(founder, "11")
        yield* expectOk(change(founder, roomId, "invite", guest.userId))
        yield* expectOk(joinThrough(guest, roomId, red))
        yield* exchangeMessages({ alice: founder, bob: guest, room_id: roomId })
      })
  )
})
