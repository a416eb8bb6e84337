/** Redactions by users of other servers, which may arrive before or after the events that they name. */
import { assert, layer } from "@effect/vitest"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { layer as homeServer } from "../../TestHomeServer.ts"
import { carol, mallory, remoteMembers as scene } from "../RemoteMembers.ts"

layer(homeServer, { excludeTestServices: true })("redactions of other servers", (it) => {
  for (const id of Array.from({ length: 12 }, (_, n) => `${n + 1}`)) {
    it.effect(`in version ${id} strip their event, whichever arrives first`, () =>
      Effect.gen(function* () {
        for (const isFirst of [true, false]) {
          const { message, read, receive, redaction } = yield* scene(id)
          const own = redaction(carol, message.event_id)
          for (const event of isFirst ? [own, message] : [message, own]) {
            assert.deepStrictEqual(yield* receive(event), { event_id: event.event_id })
          }
          const { content, redacted_because } = yield* read(message.event_id)
          assert.deepStrictEqual([content, redacted_because], [{}, own.event_id])
          assert.strictEqual((yield* read(own.event_id)).redacts, message.event_id)
        }
      })
    )

    const isRejected = Number(id) < 3
    it.effect(
      isRejected
        ? `in version ${id} are rejected without the level, also before their event is here`
        : `in version ${id} are in the graph without the level, strip nothing, and are not shown`,
      () =>
        Effect.gen(function* () {
          for (const isFirst of [true, false]) {
            const { followed, message, read, receive, redaction } = yield* scene(id)
            const malicious = redaction(mallory, message.event_id)
            const outcomes = new Map<EventId, string | undefined>()
            for (const event of isFirst ? [malicious, message] : [message, malicious]) {
              const { error, refusal } = yield* receive(event)
              outcomes.set(event.event_id, error ?? refusal)
            }
            assert.isUndefined(outcomes.get(message.event_id))
            assert.strictEqual(outcomes.get(malicious.event_id) !== undefined, isRejected)
            const { content, redacted_because } = yield* read(message.event_id)
            assert.deepStrictEqual([content.body, redacted_because], ["secret", undefined])
            assert.strictEqual((yield* Effect.flip(read(malicious.event_id)))._tag, "M_NOT_FOUND")
            assert.strictEqual((yield* followed).includes(malicious.event_id), !isRejected)
          }
        })
    )
  }

  it.effect("that arrive before their event strip it by the power level that their sender has after the event", () =>
    Effect.gen(function* () {
      for (const id of ["3", "11", "12"]) {
        const { grant, message, read, receive, redaction } = yield* scene(id)
        const levels = yield* grant({ [mallory]: 50 })
        const promoted = redaction(mallory, message.event_id, [levels])
        assert.deepStrictEqual(yield* receive(promoted), { event_id: promoted.event_id })
        yield* receive(message)
        assert.strictEqual((yield* read(message.event_id)).redacted_because, promoted.event_id)
      }
    })
  )

  it.effect("that arrive before their event are shown behind it, from version 3", () =>
    Effect.gen(function* () {
      for (const [id, isShown] of [
        ["2", true],
        ["3", false],
        ["12", false]
      ] as const) {
        const { message, receive, redaction, shown } = yield* scene(id)
        const own = redaction(carol, message.event_id)
        yield* receive(own)
        assert.strictEqual((yield* shown).includes(own.event_id), isShown)
        yield* receive(message)
        const last = [own.event_id, message.event_id]
        assert.deepStrictEqual((yield* shown).slice(-2), isShown ? last : last.reverse())
      }
    })
  )

  it.effect("that name an event of another room strip nothing, and are not shown", () =>
    Effect.gen(function* () {
      const [other, here] = [yield* scene("11"), yield* scene("11")]
      yield* other.receive(other.message)
      const misdirected = here.redaction(carol, other.message.event_id)
      const { refusal } = yield* here.receive(misdirected)
      assert.strictEqual(refusal, "The redacted event is of another room")
      assert.strictEqual((yield* Effect.flip(here.read(misdirected.event_id)))._tag, "M_NOT_FOUND")
      assert.strictEqual((yield* other.read(other.message.event_id)).content.body, "secret")
    })
  )
})
