/** Mails of answered requests when the process ends before the mail server has accepted them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { testMail } from "../../packages/gateway/test/login/TestMail.ts"
import { relay } from "../support/Relay.ts"
import { restartable, type Scene, succeeded } from "../support/Scene.ts"

const requestMail = (scene: Scene, email: string) =>
  Effect.map(
    scene.ask("POST", "//_matrix/client/v3/register/email/requestToken", {
      data: { client_secret: "s3cret", email, send_attempt: 1 }
    }),
    succeeded
  )

const ends: ReadonlyArray<readonly [how: string, end: (scene: Scene) => Effect.Effect<void>]> = [
  ["is killed", ({ gateway }) => gateway.kill],
  ["stops", ({ gateway }) => Effect.map(gateway.stop, (code) => assert.strictEqual(code, 0))]
]

describe("Mails", () => {
  for (const [how, end] of ends) {
    it.live(
      `a mail that is not yet sent when the process ${how} is sent once by the next process`,
      () =>
        Effect.gen(function* () {
          const mail = yield* testMail()
          const smtp = yield* relay(mail.port)
          const start = yield* restartable({
            GREENROOM_MAIL_HOST: "127.0.0.1",
            GREENROOM_MAIL_PORT: `${smtp.port}`,
            GREENROOM_MAIL_SECURITY: "none",
            GREENROOM_MAIL_FROM: "noreply@green.test"
          })
          smtp.silence(0)
          yield* Effect.scoped(
            Effect.gen(function* () {
              const first = yield* start()
              yield* requestMail(first, "alice@mail.test")
              // The greeting of the mail server.
              yield* Queue.take(smtp.kept)
              yield* end(first)
            })
          )
          smtp.silence(Number.POSITIVE_INFINITY)
          const second = yield* start()
          yield* mail.next("alice@mail.test")
          yield* requestMail(second, "bob@mail.test")
          yield* mail.next("bob@mail.test")
          assert.deepStrictEqual(
            mail.all.flatMap(({ to }) => to),
            ["alice@mail.test", "bob@mail.test"]
          )
        }).pipe(Effect.scoped),
      120_000
    )
  }
})
