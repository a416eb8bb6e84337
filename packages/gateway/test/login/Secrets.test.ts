import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { ask } from "../TestGateway.ts"
import { emailCode, emailUrl, login, loginGateway, mailOptions, oauth2, password, signUp } from "./TestLogin.ts"
import { codeIn, linkIn, testMail } from "./TestMail.ts"
import { authorize, providerOptions, testProvider } from "./TestProvider.ts"
import { makeUserAgent } from "./UserAgent.ts"

describe("secrets of logins", () => {
  it.live("are neither in the log at level Trace nor in the database", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const lines: Array<string> = []
        const log = Layer.merge(
          Logger.layer([Logger.map(Logger.formatJson, (line) => void lines.push(line))]),
          Layer.succeed(References.MinimumLogLevel, "Trace" as const)
        )
        const mail = yield* testMail()
        const provider = yield* testProvider
        const options = {
          mail: mailOptions(mail),
          providers: [providerOptions(provider)],
          flows: [[password, emailCode], [emailUrl], [oauth2]],
          registrationFlows: [[emailCode, password], [oauth2]]
        } as const
        yield* Effect.gen(function* () {
          const secrets: Array<string> = []
          const keep = (...values: ReadonlyArray<unknown>) => secrets.push(...values.map(String))
          provider.allow((yield* Gateway).url)
          const email = "alice@mail.test"
          const { body: begun } = yield* signUp({ type: emailCode, user: "alice", email })
          const code = codeIn(yield* mail.next(email))
          yield* signUp({ type: emailCode, session: begun.session, code: "00000000" })
          yield* signUp({ type: emailCode, session: begun.session, code })
          const secret = "correct horse battery"
          const { body: alice } = yield* signUp({ type: password, session: begun.session, password: secret })
          yield* login({ type: password, user: "alice", password: "wrong horse battery" })
          const { body: half } = yield* login({ type: password, user: "alice", password: secret })
          yield* login({ type: emailCode, session: half.session, email })
          const { body: byLink } = yield* login({ type: emailUrl, user: "alice", email })
          yield* mail.next(email)
          const link = linkIn(yield* mail.next(email))
          yield* Effect.promise(() => fetch(link, { method: "POST" }))
          provider.subject = "subject-1"
          const { body: away } = yield* signUp({ type: oauth2, user: "bob" })
          const userAgent = makeUserAgent()
          const back = yield* authorize(userAgent, away.uri as string)
          const { text } = yield* userAgent.visit(back)
          yield* userAgent.visit(back)
          provider.subject = undefined
          const { body: denied } = yield* login({ type: oauth2 })
          yield* userAgent.visit(yield* authorize(makeUserAgent(), denied.uri as string))
          keep(denied.session)
          yield* ask("GET", `/devices?access_token=${alice.access_token}`)
          keep(begun.session, alice.access_token, secret, "wrong horse battery", half.session, byLink.session)
          keep(away.session, JSON.parse(text).access_token, link.replace(/.*token=/, ""))
          keep(new URL(back).searchParams.get("code"), new URL(back).searchParams.get("state"))
          keep(code, code.replace(" ", ""), "a secret of the client")
          const sql = yield* SqlClient.SqlClient
          const rows = yield* sql`
            SELECT row_to_json(session)::text AS row FROM login_sessions AS session
            UNION ALL SELECT row_to_json(token)::text FROM access_tokens AS token
            UNION ALL SELECT row_to_json(account)::text FROM users AS account`
          assert.isAbove(rows.length, 2)
          const stored = JSON.stringify(rows)
          const logged = lines.join("\n")
          assert.include(logged, "OAuth2")
          for (const entry of secrets) {
            assert.isAbove(entry.length, 7)
            assert.notInclude(logged, entry)
            assert.notInclude(stored, entry)
          }
        }).pipe(Effect.provide(loginGateway(options).pipe(Layer.provideMerge(log))))
      })
    )
  )
})
