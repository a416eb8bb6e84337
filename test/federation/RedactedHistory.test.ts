/**
 * Redactions of other servers that strip nothing stay in the graph and are hidden from clients; redactions in history strip what is here,
 * and those that are here strip history.
 *
 * Source: "Handling redactions" of the room versions.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect, Result } from "effect"
import { ids } from "./support/HostileNetwork.ts"
import { notFound } from "./support/HostileServer.ts"
import { change, expectOk, isMember, readBack, reads, say } from "./support/Network.ts"
import { room as pathOf, Servers, sceneOf } from "./support/TodaysHostility.ts"
import { joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

const text = (body: string) => ({ content: { msgtype: "m.text", body } })
const redactionOf = (redacts: EventId) => ({ type: "m.room.redaction", content: {}, redacts })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Redactions by other servers", (it) => {
  for (const version of ["6", "11", "12"]) {
    it.effect(`version ${version}: one without the level is hidden from clients, and given to servers`, () =>
      Effect.gen(function* () {
        const { alice, bob, blue, evil, mallory, red, room, room_id } = yield* sceneOf(version)
        const target = yield* say(alice, room_id, "stays")
        yield* reads(bob, room_id, "stays")
        const message = yield* evil.receives(({ event_id }) => event_id === target)
        const idle = evil.event(room, { ...redactionOf(message.event_id), sender: mallory }, { prevEvents: [message] })
        for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, idle), [undefined])
        const next = yield* say(alice, room_id, "after it")
        yield* reads(bob, room_id, "after it")
        const { prev_events } = yield* evil.receives(({ event_id }) => event_id === next)
        assert.deepStrictEqual(prev_events, [idle.event_id])
        for (const person of [alice, bob]) {
          const read = yield* readBack(person, room_id)
          assert.include(
            read.map(({ content }) => content.body),
            "stays"
          )
          assert.notInclude(ids(read), idle.event_id)
          const path = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/event/${encodeURIComponent(idle.event_id)}`
          assert.strictEqual((yield* person.ask("GET", path)).body.errcode, "M_NOT_FOUND")
        }
        for (const server of [red, blue]) {
          const { body } = yield* evil.ask(server, "GET", pathOf("backfill", room_id, `?v=${next}&limit=3`))
          assert.deepStrictEqual(
            body.pdus.map((pdu: object) => {
              const event = room.version!.fromPdu(pdu)
              return event._tag === "Success" ? event.success.event_id : undefined
            }),
            [next, idle.event_id, target]
          )
        }
      })
    )

    it.effect(`version ${version}: one in history strips events before it, and is hidden if it may not`, () =>
      Effect.gen(function* () {
        const { alice, bob, evil, mallory, red, blue, room: known, room_id } = yield* sceneOf(version)
        const kept = yield* say(alice, room_id, "of alice")
        const ofAlice = yield* evil.receives(({ event_id }) => event_id === kept)
        const early = evil.event(known, { ...text("early secret"), sender: mallory }, { prevEvents: [ofAlice] })
        for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, early), [undefined])
        yield* reads(bob, room_id, "early secret")
        yield* expectOk(change(bob, room_id, "leave"))
        const left = yield* evil.receives((event) => event.room_id === room_id && isMember(bob.userId, "leave")(event))
        let last: Event = left
        const then = (proposal: object): Event => {
          last = evil.event(known, { ...proposal, sender: mallory }, { prevEvents: [last], state: [left] })
          return last
        }
        const late = then(text("late secret"))
        const ofLate = then(redactionOf(late.event_id))
        const ofEarly = then(redactionOf(early.event_id))
        const idle = then(redactionOf(kept as EventId))
        const end = then(text("the end"))
        const template = evil.event(
          known,
          { type: "m.room.member", state_key: bob.userId, sender: bob.userId, content: { membership: "join" } },
          { prevEvents: [end], state: [left] }
        )
        const pdus = (events: Iterable<Event>) => [...events].map((event) => evil.toPdu(event))
        evil.respond = ({ path }) => {
          if (path.startsWith("/v1/make_join/")) {
            return { status: 200, body: { room_version: version, event: known.version!.toTemplate(template) } }
          }
          if (path.startsWith("/v2/send_join/")) {
            const state = [...known.state.values()].filter(({ state_key }) => state_key !== bob.userId)
            return { status: 200, body: { state: pdus([...state, left]), auth_chain: pdus(known.state.values()) } }
          }
          if (path.startsWith("/v1/backfill/")) {
            const history = [end, idle, ofEarly, ofLate, late]
            return { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus: pdus(history) } }
          }
          return notFound
        }
        yield* expectOk(joinThrough(bob, room_id, evil))
        const read = yield* readBack(bob, room_id)
        const bodies = read.map(({ content }) => content.body)
        assert.include(bodies, "the end")
        assert.include(bodies, "of alice")
        assert.notInclude(JSON.stringify(read), "secret")
        const shown = ids(read)
        for (const { event_id } of [late, ofLate, ofEarly, early]) assert.include(shown, event_id)
        assert.notInclude(shown, idle.event_id)
        const stored = yield* blue.select(`SELECT status FROM events WHERE event_id = '${idle.event_id}'`)
        assert.deepStrictEqual(
          stored.map(({ status }) => Number(status)),
          [5]
        )
      })
    )
  }

  it.effect("one that was hidden, and strips an event that comes later, keeps the gap before it", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const missing = evil.event(room, { ...text("in the gap"), sender: mallory })
      const secret = evil.event(room, { ...text("secret"), sender: mallory })
      const proposal = { ...redactionOf(secret.event_id), sender: mallory }
      const redaction = evil.event(room, proposal, { prevEvents: [missing] })
      const state = { status: 200, body: { pdu_ids: ids([...room.state.values()]), auth_chain_ids: [] } }
      evil.respond = ({ path }) =>
        path.startsWith("/v1/state_ids/") && path.endsWith(`event_id=${redaction.event_id}`) ? state : notFound
      assert.deepStrictEqual(yield* evil.tell(red, redaction), [undefined])
      assert.deepStrictEqual(yield* evil.tell(red, secret), [undefined])
      const pdus = [redaction, missing].map((event) => evil.toPdu(event))
      evil.respond = ({ path }) =>
        path.startsWith("/v1/backfill/")
          ? { status: 200, body: { origin: "evil.test", origin_server_ts: 1, pdus } }
          : notFound
      const read = yield* readBack(alice, room_id)
      for (const event of [missing, secret, redaction]) assert.include(ids(read), event.event_id)
      assert.include(
        read.map(({ content }) => content.body),
        "in the gap"
      )
      assert.notInclude(JSON.stringify(read), "secret")
      const gaps = `SELECT nid FROM timeline_gaps JOIN rooms USING (room_nid) WHERE room_id = '${room_id}'`
      assert.deepStrictEqual(yield* red.select(gaps), [])
    })
  )

  /** A room that evil made and that Alice of red has joined, with a message of hers, whose redactions by Mallory strip nothing. */
  const roomOfEvil = Effect.gen(function* () {
    const { alice, evil, mallory, number, red } = yield* sceneOf("11")
    const roomId = `!hosted${number}:evil.test`
    const host = `@host${number}:evil.test`
    const state = new Map<string, Event>()
    let extremities: ReadonlyArray<Event> = []
    const hosted = () => ({ roomId, version: evil.useVersion(roomId, "11"), state, extremities })
    const add = (event: Event) => {
      state.set(`${event.type}\0${event.state_key}`, event)
      extremities = [event]
    }
    const set = (type: string, state_key: string, content: Event["content"], sender = host) =>
      add(evil.event(hosted(), { type, state_key, sender, content }))
    set("m.room.create", "", { room_version: "11" })
    set("m.room.member", host, { membership: "join" })
    set("m.room.power_levels", "", { users: { [host]: 100 } })
    set("m.room.join_rules", "", { join_rule: "public" })
    set("m.room.member", mallory, { membership: "join" }, mallory)
    const pdus = [...state.values()].map((event) => evil.toPdu(event))
    evil.respond = ({ body, path }) => {
      if (path.startsWith("/v1/make_join/")) {
        const member = { type: "m.room.member", state_key: alice.userId, sender: alice.userId }
        const join = evil.event(hosted(), { ...member, content: { membership: "join" } })
        return { status: 200, body: { room_version: "11", event: hosted().version.toTemplate(join) } }
      }
      if (!path.startsWith("/v2/send_join/")) return notFound
      add(Result.getOrThrow(hosted().version.fromPdu(body)))
      return { status: 200, body: { event: body, state: pdus, auth_chain: pdus } }
    }
    yield* expectOk(joinThrough(alice, roomId, evil))
    const [join] = extremities as readonly [Event]
    const said = yield* say(alice, roomId, "of alice")
    const target = yield* evil.receives(({ event_id }) => event_id === said)
    let made = 0
    const idle = (...prevEvents: ReadonlyArray<Event>) => {
      const content = { reason: `${made++}`, redacts: target.event_id }
      return evil.event(hosted(), { type: "m.room.redaction", sender: mallory, content }, { prevEvents })
    }
    const tell = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
      for (const event of events) assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
    })
    const follow = Effect.fnUntraced(function* (prevEvents: ReadonlyArray<Event>) {
      const event = evil.event(hosted(), { ...text("after redactions"), sender: mallory }, { prevEvents })
      yield* tell([event])
      yield* reads(alice, roomId, "after redactions")
      return event
    })
    /** Of these events, those behind which red looks for history when Alice reads back to its beginning. */
    const ends = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
      const before = evil.asked.length
      yield* readBack(alice, roomId)
      const asked = evil.asked.slice(before).filter((path) => path.startsWith("/v1/backfill/"))
      assert.isNotEmpty(asked)
      return events.filter(({ event_id }) => asked.some((path) => decodeURIComponent(path).includes(event_id)))
    })
    return { ends, follow, idle, join, target, tell }
  })

  it.effect("hidden redactions in a row are passed on the way to the history before them, up to a bound", () =>
    Effect.gen(function* () {
      for (const { count, isPassed } of [
        { count: 15, isPassed: true },
        { count: 25, isPassed: false }
      ]) {
        const { ends, follow, idle, join, target, tell } = yield* roomOfEvil
        const row = [target]
        for (let index = 0; index < count; index++) row.push(idle(row.at(-1)!))
        yield* tell(row.slice(1))
        const last = yield* follow(row.slice(-1))
        assert.deepStrictEqual(yield* ends([join, target, last]), isPassed ? [join] : [join, last])
      }
    })
  )

  it.effect("hidden redactions by which many ways lead back are looked at once", () =>
    Effect.gen(function* () {
      const { ends, follow, idle, join, target, tell } = yield* roomOfEvil
      let layer: ReadonlyArray<Event> = [target]
      for (let depth = 0; depth < 12; depth++) {
        const before = layer
        layer = Array.from({ length: 6 }, () => idle(...before))
        yield* tell(layer)
      }
      const last = yield* follow(layer)
      assert.deepStrictEqual(yield* ends([join, target, last]), [join])
    })
  )

  it.effect("predecessors that many hidden redactions have in common are read once", () =>
    Effect.gen(function* () {
      const { ends, follow, idle, join, target, tell } = yield* roomOfEvil
      const common = Array.from({ length: 19 }, () => idle(target))
      const own = Array.from({ length: 60 }, () => idle(target))
      const behind = own.map((event) => idle(...common, event))
      const ahead = [behind.slice(0, 20), behind.slice(20, 40), behind.slice(40)].map((events) => idle(...events))
      for (const events of [common, own, behind, ahead]) yield* tell(events)
      const last = yield* follow(ahead)
      assert.deepStrictEqual(yield* ends([join, target, last]), [join])
    })
  )
})
