import { assert, describe, it } from "@effect/vitest"
import { wireErrors } from "@greenroom/protocol/api/WireError"
import * as Errors from "@greenroom/protocol/MatrixError"
import { Effect, Schema } from "effect"

const every: ReadonlyArray<Errors.MatrixError> = [
  new Errors.Forbidden({ error: "e" }),
  new Errors.UnknownToken({ error: "e" }),
  new Errors.MissingToken({ error: "e" }),
  new Errors.BadJson({ error: "e" }),
  new Errors.NotJson({ error: "e" }),
  new Errors.NotFound({ error: "e" }),
  new Errors.Unrecognized({ error: "e" }),
  new Errors.LimitExceeded({ error: "e", retry_after_ms: 1 }),
  new Errors.UserInUse({ error: "e" }),
  new Errors.RoomInUse({ error: "e" }),
  new Errors.InvalidUsername({ error: "e" }),
  new Errors.BadPagination({ error: "e" }),
  new Errors.LoginEmailUrlNotYet({ error: "e" }),
  new Errors.TooLarge({ error: "e" }),
  new Errors.BadRequest({ error: "e" })
]

describe("errors", () => {
  const wire = Schema.Union(wireErrors)

  it("travel as errcode and error, and come back as what they were", () => {
    for (const error of every) {
      const encoded = Schema.encodeUnknownSync(wire)(error)
      assert.deepStrictEqual(encoded as object, Errors.toErrorBody(error))
      assert.strictEqual(Schema.decodeUnknownSync(wire)(encoded)._tag, error._tag)
    }
    assert.deepStrictEqual(new Set(every.map((error) => error._tag)), new Set(Object.keys(Errors.statusOf)))
  })

  it("are known by their errcode", () => {
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

  it.effect("are caught by their errcode", () =>
    Effect.gen(function* () {
      const failing: Effect.Effect<string, Errors.MatrixError> = Effect.fail(new Errors.NotFound({ error: "gone" }))
      const caught = yield* Effect.catchTag(failing, "M_NOT_FOUND", (error) => Effect.succeed(error.error))
      assert.strictEqual(caught, "gone")
    })
  )
})
