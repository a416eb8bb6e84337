import { assert, describe, it } from "@effect/vitest"
import { wireErrors } from "@greenroom/protocol/api/WireError"
import { Unauthorized } from "@greenroom/protocol/federation/OriginAuthentication"
import * as IdentityErrors from "@greenroom/protocol/identity/IdentityError"
import * as Errors from "@greenroom/protocol/MatrixError"
import { Cause, Effect, Schema } from "effect"

const details = { error: "e", retry_after_ms: 1, room_version: "9", current_version: "1", status: 500, body: "{}" }

/** One error of each class. */
const every = Object.values(Errors).flatMap((exported): ReadonlyArray<Errors.MatrixError> => {
  if (typeof exported !== "function" || !("fields" in exported)) return []
  const needed = Object.entries(details).filter(([key]) => key in (exported.fields as object))
  return [new (exported as new (fields: object) => Errors.MatrixError)(Object.fromEntries(needed))]
})

describe("errors", () => {
  const wire = Schema.Union(wireErrors)

  it("an error is encoded as errcode and error, and decoded to the same error", () => {
    for (const error of every) {
      const encoded = Schema.encodeUnknownSync(wire)(error)
      assert.deepStrictEqual(encoded as object, Errors.toErrorBody(error))
      assert.strictEqual(Schema.decodeUnknownSync(wire)(encoded)._tag, error._tag)
    }
    assert.deepStrictEqual(new Set(every.map((error) => error._tag)), new Set(Object.keys(Errors.statusOf)))
  })

  it("an errcode identifies the class of an error", () => {
    for (const error of every) assert.isTrue(Errors.isMatrixError(error))
    for (const other of [
      null,
      "M_FORBIDDEN",
      { _tag: "M_NONSENSE", error: "e" },
      { _tag: "M_FORBIDDEN" },
      new Error()
    ]) {
      assert.isFalse(Errors.isMatrixError(other))
    }
  })

  it("the text of an error is its message, and travels once", () => {
    const others = [new IdentityErrors.TokenIncorrect({ error: "e" }), new Unauthorized({ error: "e" })]
    for (const error of [...every, ...others]) {
      assert.strictEqual(error.message, "e")
      assert.strictEqual(String(error), `${error._tag}: e`)
      assert.notProperty(JSON.parse(JSON.stringify(error)), "message")
    }
    assert.include(Cause.pretty(Cause.fail(new Errors.Forbidden({ error: "no entry" }))), "M_FORBIDDEN: no entry")
  })

  it.effect("errors can be caught by their errcode", () =>
    Effect.gen(function* () {
      const failing: Effect.Effect<string, Errors.MatrixError> = Effect.fail(new Errors.NotFound({ error: "gone" }))
      const caught = yield* Effect.catchTag(failing, "M_NOT_FOUND", (error) => Effect.succeed(error.error))
      assert.strictEqual(caught, "gone")
    })
  )
})
